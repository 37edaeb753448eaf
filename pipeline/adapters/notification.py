"""Telling people: by webhook, in Slack's form, by mail. Where to, only the environment knows.

A notification never stops what it tells of: failures are returned and logged. Addresses can be secrets themselves
(Slack's are), so neither log nor result holds one.

The webhook's body is signed: header `X-Evergreen-Signature: sha256=HEX`, the HMAC-SHA256 of the body under the shared
secret. `id` is the same for every attempt, and `sent_at` is part of the body, so that a receiver can tell repeats.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import smtplib
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import requests

from pipeline.settings import NotificationSettings

log = logging.getLogger("evergreen.notification")
Channel = Literal["webhook", "slack", "email"]
ATTEMPTS = 3
PAUSES_SECONDS = (1.0, 4.0)
"""Between the attempts: an outage of seconds is bridged, a longer one does not hold up a stage."""
TIMEOUT_SECONDS = 10.0
SLACK_TITLE, SLACK_TEXT = 150, 3000
"""Slack refuses longer ones."""


@dataclass(frozen=True)
class Note:
    """What people are told."""

    model: str
    severity: Literal["info", "warning", "critical"]
    title: str
    """One line."""
    lines: tuple[str, ...]
    links: tuple[tuple[str, str], ...] = ()
    """Text and address."""

    @property
    def heading(self) -> str:
        """The title on one line, whatever it holds."""
        return " ".join(f"[{self.severity}] {self.model}: {self.title}".split())


@dataclass(frozen=True)
class Delivery:
    """How it went on one channel."""

    channel: Channel
    delivered: bool
    attempts: int
    reason: str
    """Empty where it was delivered."""


class _Undelivered(Exception):
    """`again`: it may pass."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.reason, self.again = reason, again


def notify(
    note: Note, settings: NotificationSettings, now: datetime, pause: Callable[[float], None] = time.sleep
) -> tuple[Delivery, ...]:
    """Tell people on every channel that is set up. Never raises: who calls has something better to do.

    `now` stands in the message; `pause` waits between attempts.
    """
    identity = hashlib.sha256(json.dumps([note.model, note.severity, note.title, *note.lines]).encode()).hexdigest()[
        :32
    ]
    sent_at = now.astimezone(UTC)
    channels: dict[Channel, Callable[[], None]] = {}
    if settings.webhook_url and settings.webhook_secret:
        channels["webhook"] = lambda: _by_webhook(note, identity, sent_at, settings)
    if settings.slack_url:
        channels["slack"] = lambda: _to_slack(note, settings)
    if settings.smtp_url:
        channels["email"] = lambda: _by_mail(note, identity, sent_at, settings)
    return tuple(_delivered(channel, send, pause) for channel, send in channels.items())


def _delivered(channel: Channel, send: Callable[[], None], pause: Callable[[float], None]) -> Delivery:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            send()
        except _Undelivered as error:
            failed = error
        except Exception as error:  # noqa: BLE001 - whatever a server does to a client library, the stage goes on
            failed = _Undelivered(type(error).__name__, again=False)
        else:
            return Delivery(channel, True, attempt, "")
        if not failed.again or attempt == ATTEMPTS:
            break
        pause(PAUSES_SECONDS[attempt - 1])
    log.error("could not notify by %s after %d attempts: %s", channel, attempt, failed.reason)
    return Delivery(channel, False, attempt, failed.reason)


def _by_webhook(note: Note, identity: str, sent_at: datetime, settings: NotificationSettings) -> None:
    assert settings.webhook_url is not None
    assert settings.webhook_secret is not None
    links = [{"text": text, "url": url} for text, url in note.links]
    content = {
        "id": identity, "sent_at": sent_at.isoformat(timespec="seconds"), "model": note.model,
        "severity": note.severity, "title": note.title, "lines": note.lines, "links": links,
    }  # fmt: skip
    body = json.dumps(content, sort_keys=True).encode()
    signature = hmac.new(settings.webhook_secret.encode(), body, hashlib.sha256).hexdigest()
    _post(settings.webhook_url, body, {"X-Evergreen-Signature": f"sha256={signature}"})


def _to_slack(note: Note, settings: NotificationSettings) -> None:
    assert settings.slack_url is not None
    text = "\n".join(_escaped(line) for line in note.lines)[:SLACK_TEXT]
    links = "  ".join(f"<{url}|{_escaped(text)}>" for text, url in note.links)
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": note.heading[:SLACK_TITLE]}}
    ]
    if text:
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": text}})
    if links:
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": links[:SLACK_TEXT]}]})
    _post(settings.slack_url, json.dumps({"text": _escaped(note.heading), "blocks": blocks}).encode(), {})


def _escaped(text: str) -> str:
    """Slack reads these three as its own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Redirects are not followed: what is signed for one address is for no other."""
    try:
        answer = requests.post(
            url, data=body, headers={"Content-Type": "application/json", **headers}, timeout=TIMEOUT_SECONDS,
            allow_redirects=False,
        )  # fmt: skip
    except requests.RequestException as error:
        raise _Undelivered(type(error).__name__, again=True) from None
    if not 200 <= answer.status_code < 300:
        raise _Undelivered(
            f"answered {answer.status_code}", again=answer.status_code == 429 or answer.status_code >= 500
        )


def _by_mail(note: Note, identity: str, sent_at: datetime, settings: NotificationSettings) -> None:
    assert settings.smtp_url is not None
    message = EmailMessage()
    message["Subject"] = note.heading
    message["From"] = settings.email_from
    message["To"] = ", ".join(settings.email_to)
    message["Date"] = format_datetime(sent_at)
    message["Message-ID"] = f"<{identity}.{sent_at:%Y%m%dT%H%M%S}@evergreen>"
    message.set_content("\n".join([*note.lines, "", *(f"{text}: {url}" for text, url in note.links)]))
    try:
        server = _mail_server(settings.smtp_url)
        try:
            server.send_message(message)
            with suppress(smtplib.SMTPException, OSError):  # it has the mail, however it takes the farewell
                server.quit()
        finally:
            server.close()
    except smtplib.SMTPResponseException as error:
        raise _Undelivered(f"answered {error.smtp_code}", again=error.smtp_code < 500) from None
    except (smtplib.SMTPException, OSError) as error:
        raise _Undelivered(type(error).__name__, again=not isinstance(error, ssl.SSLError)) from None


def _mail_server(address: str) -> smtplib.SMTP:
    """A server that may be sent to. A password goes only over TLS whose certificate holds."""
    parts = urlsplit(address)
    host, context = parts.hostname or "", ssl.create_default_context()
    if parts.scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, parts.port or 465, timeout=TIMEOUT_SECONDS, context=context)
    else:
        server = smtplib.SMTP(host, parts.port or 587, timeout=TIMEOUT_SECONDS)
    try:
        server.ehlo()
        if parts.scheme == "smtp" and server.has_extn("starttls"):
            server.starttls(context=context)
            server.ehlo()
        elif parts.scheme == "smtp" and parts.password:
            raise _Undelivered("the server offers no STARTTLS, and a password goes over nothing else", again=False)
        if parts.username and parts.password:
            server.login(unquote(parts.username), unquote(parts.password))
    except BaseException:
        server.close()
        raise
    return server
