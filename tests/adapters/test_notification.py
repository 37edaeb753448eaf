"""Telling people, over real HTTP and SMTP: what arrives, what is tried again, and what is never said."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.adapters.notification import ATTEMPTS, Note, notify
from pipeline.adapters.watch_store import Watched
from pipeline.adapters.watch_told import call_people
from pipeline.core.alarms import AlarmState
from pipeline.errors import BadConfiguration
from pipeline.settings import NotificationSettings, notification_settings

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
NOTE = Note(
    "churn", "warning", "drift of tenure\r\nBcc: all@example.com", ("tenure: psi 0.31 <since> May & before", "größer"),
    (("report", "http://evergreen/report"),),
)  # fmt: skip


@contextmanager
def running(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def web():
    """A web server that answers as `answers` says, 200 at the end, and keeps what it was sent."""
    heard, answers = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append((self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(answers.pop(0) if answers else 200)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}/services/T0/B0/geheim", heard, answers


class MailServer(socketserver.ThreadingTCPServer):
    """As much SMTP as smtplib speaks. `context`: offers STARTTLS. `refuse`: code to answer each sender with, once."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None, refuse: tuple[int, ...] = ()) -> None:
        super().__init__(("127.0.0.1", 0), MailHandler)
        self.context, self.refuse = context, list(refuse)
        self.mails: list[tuple[bool, str | None, bytes]] = []
        """Whether over TLS, who logged in, the mail."""
        self.said: list[bytes] = []


class MailHandler(socketserver.BaseRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self.secure, self.user = False, None
        self.open(self.request)
        self.say("220 mail")
        while line := self.file.readline().strip():
            if not self.secure:
                self.server.said.append(line)
            verb = line.split()[0].upper().decode()
            getattr(self, f"on_{verb.lower()}", self.on_other)(line)
            if verb == "QUIT":
                break

    def finish(self) -> None:
        self.file.close()
        self.connection.close()

    def open(self, connection: socket.socket) -> None:
        self.connection, self.file = connection, connection.makefile("rb")

    def say(self, text: str) -> None:
        self.connection.sendall(text.encode() + b"\r\n")

    def on_ehlo(self, line: bytes) -> None:
        more = "250 AUTH PLAIN" if self.secure or not self.server.context else "250 STARTTLS"
        self.say(f"250-mail\r\n{more}")

    def on_starttls(self, line: bytes) -> None:
        self.say("220 go on")
        self.file.close()
        try:
            self.open(self.server.context.wrap_socket(self.connection, server_side=True))
        except ssl.SSLError:  # the client does not believe the certificate
            self.open(self.connection)
        self.secure = True

    def on_auth(self, line: bytes) -> None:
        _, user, password = base64.b64decode(line.split()[2]).split(b"\0")
        self.user = user.decode()
        self.say("235 welcome" if password == b"p@ss word" else "535 no")

    def on_mail(self, line: bytes) -> None:
        self.say(f"{self.server.refuse.pop(0)} not now" if self.server.refuse else "250 fine")

    def on_data(self, line: bytes) -> None:
        self.say("354 go on")
        lines = []
        while (part := self.file.readline()) != b".\r\n":
            lines.append(part)
        self.server.mails.append((self.secure, self.user, b"".join(lines)))
        self.say("250 taken")

    def on_other(self, line: bytes) -> None:
        self.say("250 fine")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Certificate and key of 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.fixture
def secure(certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def mail(port: int, user: str = "") -> NotificationSettings:
    return NotificationSettings(
        smtp_url=f"smtp://{user}127.0.0.1:{port}", email_from="evergreen@example.com", email_to=("a@x.org", "b@x.org")
    )


def told(settings: NotificationSettings) -> list[tuple[str, bool, int]]:
    return [(d.channel, d.delivered, d.attempts) for d in notify(NOTE, settings, NOON, lambda seconds: None)]


def test_the_webhook_gets_everything_signed(web):
    url, heard, _ = web
    assert told(NotificationSettings(webhook_url=url, webhook_secret="key")) == [("webhook", True, 1)]
    ((headers, body),) = heard
    assert headers["X-Evergreen-Signature"] == "sha256=" + hmac.new(b"key", body, hashlib.sha256).hexdigest()
    content = json.loads(body)
    assert (content["model"], content["severity"], content["sent_at"]) == (
        "churn",
        "warning",
        "2026-06-01T12:00:00+00:00",
    )
    assert content["lines"] == list(NOTE.lines)
    assert content["links"] == [{"text": "report", "url": "http://evergreen/report"}]


def test_what_monitors_tell_names_the_model_once(web, monkeypatch):
    address, heard, _ = web
    monkeypatch.setenv("EVERGREEN_NOTIFY_WEBHOOK_URL", address)
    monkeypatch.setenv("EVERGREEN_NOTIFY_WEBHOOK_SECRET", "hush")
    monkeypatch.setenv("EVERGREEN_NOTIFY_SLACK_URL", address)
    body = {"state": AlarmState().to_json(), "raised": [], "confirmed": [], "resolved": []}
    kept = Watched("churn", "drift", "d" * 64, NOON.date(), 1, NOON, "manual", body)
    call_people(kept, "", ["no rows today"])
    (_, posted), (_, slack) = heard
    assert json.loads(posted)["title"] == "no rows today"
    assert json.loads(slack)["text"] == "[critical] churn: no rows today"


def test_slack_gets_blocks_in_which_nothing_is_taken_for_markup(web):
    url, heard, _ = web
    assert told(NotificationSettings(slack_url=url)) == [("slack", True, 1)]
    content = json.loads(heard[0][1])
    assert [block["type"] for block in content["blocks"]] == ["header", "section", "context"]
    assert content["blocks"][0]["text"]["text"].startswith("[warning] churn: drift of tenure Bcc")
    assert "&lt;since&gt; May &amp; before" in content["blocks"][1]["text"]["text"]
    assert content["blocks"][2]["elements"][0]["text"] == "<http://evergreen/report|report>"


def test_mail_goes_over_tls_to_everybody_with_a_subject_of_one_line(secure, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    server = MailServer(secure)
    with running(server) as port:
        assert told(mail(port, "evergreen:p%40ss%20word@")) == [("email", True, 1)]
    ((over_tls, user, content),) = server.mails
    assert (over_tls, user) == (True, "evergreen")
    message = message_from_bytes(content, policy=policy.default)
    assert message["Subject"] == "[warning] churn: drift of tenure Bcc: all@example.com"
    assert (message["Bcc"], message["To"]) == (None, "a@x.org, b@x.org")
    assert "größer" in message.get_content()


def test_a_password_goes_over_nothing_but_tls_that_holds(secure):
    for server in (MailServer(), MailServer(secure)):  # one without TLS, one whose certificate nobody vouches for
        with running(server) as port:
            assert told(mail(port, "evergreen:p%40ss%20word@")) == [("email", False, 1)]
        assert server.mails == []
        assert not [line for line in server.said if line.upper().startswith(b"AUTH")]


def test_a_relay_that_asks_for_no_password_is_sent_to(certificate):
    server = MailServer(refuse=(451,))
    with running(server) as port:
        assert told(mail(port)) == [("email", True, 2)]
    assert len(server.mails) == 1


@pytest.mark.parametrize(
    ("answers", "result"),
    [
        ([500, 429], ("webhook", True, 3)),
        ([503] * 9, ("webhook", False, ATTEMPTS)),
        ([404], ("webhook", False, 1)),
        ([302], ("webhook", False, 1)),
    ],
)
def test_what_may_pass_is_tried_again_and_what_will_not_is_not(web, answers, result):
    url, heard, planned = web
    planned += answers
    assert told(NotificationSettings(webhook_url=url, webhook_secret="key")) == [result]
    assert len({body for _, body in heard}) == 1


def test_one_channel_that_fails_does_not_keep_the_others_and_nothing_secret_is_logged(web, caplog):
    url, _, _ = web
    gone = NotificationSettings(
        webhook_url="http://user:hush@127.0.0.1:9/token-hush", webhook_secret="hush", slack_url=url,
        smtp_url="smtp://evergreen:hush@127.0.0.1:9", email_from="e@x.org", email_to=("a@x.org",),
    )  # fmt: skip
    with caplog.at_level(logging.DEBUG):
        deliveries = notify(NOTE, gone, NOON, lambda seconds: None)
    assert [(d.channel, d.delivered, d.attempts) for d in deliveries] == [
        ("webhook", False, 3), ("slack", True, 1), ("email", False, 3),
    ]  # fmt: skip
    said = " ".join(record.getMessage() for record in caplog.records if record.name.startswith("evergreen"))
    assert "could not notify by webhook after 3 attempts" in said
    assert "hush" not in said + repr(deliveries) + repr(gone)


@pytest.mark.parametrize(
    "environ",
    [
        {"WEBHOOK_URL": "https://x.org/hush"},
        {"WEBHOOK_URL": "x.org/hush", "WEBHOOK_SECRET": "hush"},
        {"SLACK_URL": "ftp://hush"},
        {"SMTP_URL": "smtp://x.org", "EMAIL_FROM": "e@x.org"},
        {"SMTP_URL": "smtp://hush@x.org:mail", "EMAIL_FROM": "e@x.org", "EMAIL_TO": "a@x.org"},
    ],
)
def test_half_a_channel_is_refused_without_saying_the_address(environ):
    with pytest.raises(BadConfiguration, match="EVERGREEN_NOTIFY_") as refused:
        notification_settings({f"EVERGREEN_NOTIFY_{name}": value for name, value in environ.items()})
    assert "hush" not in str(refused.value)


def test_without_any_address_nobody_is_told_and_nothing_fails():
    assert told(notification_settings({})) == []
