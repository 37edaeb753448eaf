"""The front of the service: what every request passes, whichever protocol it speaks.

Plain ASGI, before FastAPI: on the way of a prediction each layer of a framework costs as much as the model does.
What is no door here goes on to the FastAPI application, which holds everything that nobody calls often.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.core.package import InvalidInput
from pipeline.errors import OutsideFailure
from serving.answering import Refused
from serving.keys import Keys

log = logging.getLogger("evergreen.serving")
JSON = b"application/json"
JSON_TYPES = frozenset((JSON, b"application/x-www-form-urlencoded"))
"""The second is what `curl -d` says of everything, and what many a tutorial sends JSON as."""
DEADLINE_HEADER = b"x-request-timeout-ms"
"""How long the caller will wait, in milliseconds from when the request was read."""
TIMEOUT = re.compile(rb"[1-9][0-9]{0,8}")
REQUEST_ID = b"x-request-id"
MAX_REQUEST_ID = 128


@dataclass(slots=True)
class Call:
    """A request as a door gets it. Not frozen, as all that is made for every request: it would take longer."""

    path: Mapping[str, str]
    """The variable parts of the path."""
    headers: Mapping[bytes, bytes]
    query: bytes
    body: bytes
    started: float
    """On the clock of time.perf_counter."""
    deadline: float
    """On the same clock."""


@dataclass(slots=True)
class Reply:
    """What a door answers."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


def as_json(content: Any, status: int = 200) -> Reply:
    """A reply in JSON."""
    return Reply(orjson.dumps(content), status)


Shape = Callable[[str, str | None], Any]
"""How a protocol tells a refusal: from the reason and the feature, the JSON body."""


@dataclass(frozen=True)
class Quick:
    """A door's work in two halves, between which it waits once; it needs no task of its own."""

    begin: Callable[[Call], asyncio.Future[Any]]
    finish: Callable[[Any], Reply]
    """From what was waited for."""


@dataclass(frozen=True)
class Door:
    """One operation of one protocol."""

    method: str
    path: str
    """With its variable parts in braces, as OpenAPI writes it."""
    handle: Callable[[Call], Awaitable[Reply]]
    refusal: Shape
    about: Callable[[Any], dict[str, Any]] | None = None
    """The operation in OpenAPI, for a model; see `serving.openapi`."""
    invalid_status: int = 422
    """Of a request that does not fit, in this protocol."""
    accepts: frozenset[bytes] = JSON_TYPES
    """Content types of requests; one that names none is taken for one of these."""
    quick: Quick | None = None
    """The same as `handle`, where that is computation, one wait, and computation; see `serving.quick_http`."""

    @property
    def pattern(self) -> re.Pattern[str]:
        """Of paths that lead here.

        >>> Door("GET", "/v1/models/{model}/metadata", None, None).pattern.fullmatch("/v1/models/a/metadata")["model"]
        'a'
        """
        parts = re.split(r"\{(\w+)\}", self.path)
        return re.compile("".join(f"(?P<{p}>[^/:]+)" if i % 2 else re.escape(p) for i, p in enumerate(parts)))


class Front:
    """The ASGI application."""

    def __init__(
        self, app: ASGIApp, doors: Sequence[Door], keys: Keys, *, max_body_bytes: int, max_concurrency: int
    ) -> None:
        """`app`: what answers where there is no door. `max_concurrency`: requests in this process at once."""
        self._app, self._keys = app, keys
        self._max_body, self._free = max_body_bytes, max_concurrency
        self._exact = {(door.method, door.path): door for door in doors if "{" not in door.path}
        self._patterns = [(door.method, door.pattern, door) for door in doors if "{" in door.path]
        self._methods = sorted({door.method for door in doors})
        self._turned_away = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        door, variables = self._exact.get((scope["method"], path)), _NONE
        if door is None:
            door, variables = self._find(scope["method"], path, scope.get("raw_path"))
            if door is None:
                await self._elsewhere(scope, receive, send)
                return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        if self._free <= 0:
            reply = self._turn_away(door)
        else:
            self._free -= 1
            try:
                reply = await self._reply(door, variables, scope, headers, receive, started)
            finally:
                self._free += 1
        await _send(send, reply, _named(headers))

    def quick_door(self, scope: Any) -> tuple[Door, Mapping[str, str]] | None:
        """The door of a request that needs no task of its own, and the variable parts of its path."""
        method, path = scope["method"], scope["path"]
        door, variables = self._exact.get((method, path)), _NONE
        if door is None and method == "POST":
            door, variables = self._find(method, path, scope.get("raw_path"))
        return None if door is None or door.quick is None else (door, variables)

    def begin(
        self, door: Door, variables: Mapping[str, str], scope: Any, body: bytes, done: Callable[[Reply], None]
    ) -> None:
        """Answer a whole request through a door that is quick; `done` is called once, now or later."""
        started = time.perf_counter()
        assert door.quick is not None
        finish, headers = door.quick.finish, dict(scope["headers"])

        def tell(reply: Reply) -> None:
            reply.headers = (*reply.headers, *_named(headers))
            done(reply)

        if self._free <= 0:
            tell(self._turn_away(door))
            return
        try:
            refused = self._refused(door, headers)
            if refused is None:
                refused = self._unfit(door, headers, body)
            if refused is not None:
                tell(refused)
                return
            waiting = door.quick.begin(self._call(variables, scope, headers, body, started))
        except Exception as error:  # noqa: BLE001 - told to the caller, and written down where it is ours
            tell(_failure(door, headers, error))
            return
        self._free -= 1

        def answered(future: asyncio.Future[Any]) -> None:
            self._free += 1
            error = future.exception()
            try:
                reply = finish(future.result()) if error is None else _failure(door, headers, error)
            except Exception as failure:  # noqa: BLE001 - as above
                reply = _failure(door, headers, failure)
            tell(reply)

        waiting.add_done_callback(answered)

    def _turn_away(self, door: Door) -> Reply:
        self._turned_away += 1
        return _refusal(door, 429, "too many requests are being answered; try again", None, 1)

    def take_turned_away(self) -> int:
        """Requests refused because too many were here, since it was last asked."""
        taken, self._turned_away = self._turned_away, 0
        return taken

    def _find(self, method: str, path: str, raw: bytes | None) -> tuple[Door | None, Mapping[str, str]]:
        for wanted, pattern, door in self._patterns:
            if wanted == method:
                found = pattern.fullmatch(path)
                if found is not None:
                    return door, found.groupdict()
        if raw is not None and b"%" in raw:  # a name with an encoded slash is one name
            for wanted, pattern, door in self._patterns:
                found = pattern.fullmatch(raw.decode("latin-1")) if wanted == method else None
                if found is not None:
                    return door, {name: unquote(value) for name, value in found.groupdict().items()}
        return None, _NONE

    async def _elsewhere(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What is no door; the path of a door with another method is refused in that door's words."""
        path, raw = scope["path"], scope.get("raw_path")
        found = [self._exact.get((method, path)) or self._find(method, path, raw)[0] for method in self._methods]
        others = [door for door in found if door is not None]
        if not others:
            await self._app(scope, receive, send)
            return
        allowed = ", ".join(sorted({door.method for door in others}))
        reply = _refusal(others[0], 405, f"{scope['method'][:20]} is not for this path; {allowed} is")
        await _send(send, reply, ((b"allow", allowed.encode()),))

    async def _reply(
        self, door: Door, variables: Mapping[str, str], scope: Scope, headers: dict[bytes, bytes], receive: Receive,
        started: float,
    ) -> Reply:  # fmt: skip
        try:
            refused = self._refused(door, headers)
            if refused is not None:
                return refused
            body = await self._body(receive)
            refused = self._unfit(door, headers, body)
            if refused is not None:
                return refused
            assert body is not None  # else it is refused as too large
            return await door.handle(self._call(variables, scope, headers, body, started))
        except Exception as error:  # noqa: BLE001 - told to the caller, and written down where it is ours
            return _failure(door, headers, error)

    def _refused(self, door: Door, headers: Mapping[bytes, bytes]) -> Reply | None:
        if self._keys.required and not self._keys.allow(headers):
            return _refusal(door, 401, "a valid key is needed: Authorization: Bearer KEY, or X-API-Key: KEY")
        return None

    def _unfit(self, door: Door, headers: Mapping[bytes, bytes], body: bytes | None) -> Reply | None:
        if body is None or len(body) > self._max_body:
            return _refusal(door, 413, f"the request is larger than {self._max_body} bytes")
        if body and not _understood(headers, door):
            return _refusal(door, 415, f"send {_some(door.accepts)}, in no Content-Encoding")
        return None

    @staticmethod
    def _call(
        variables: Mapping[str, str], scope: Scope, headers: Mapping[bytes, bytes], body: bytes, started: float
    ) -> Call:
        deadline = deadline_of(headers[DEADLINE_HEADER], started) if DEADLINE_HEADER in headers else math.inf
        return Call(variables, headers, scope["query_string"], body, started, deadline)

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body; None where it is larger than allowed."""
        message = await receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            return body if len(body) <= self._max_body else None
        parts, size = [body], len(body)
        while message.get("more_body", False):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refused(400, "the body ended early")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_body:
                return None
        return b"".join(parts)


_NONE: Mapping[str, str] = {}


async def _send(send: Send, reply: Reply, more: tuple[tuple[bytes, bytes], ...]) -> None:
    head = [(b"content-type", reply.content_type), (b"content-length", str(len(reply.body)).encode())]
    await send({"type": "http.response.start", "status": reply.status, "headers": [*head, *more, *reply.headers]})
    await send({"type": "http.response.body", "body": reply.body})


def _named(headers: Mapping[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    return ((REQUEST_ID, headers[REQUEST_ID][:MAX_REQUEST_ID]),) if REQUEST_ID in headers else ()


def _failure(door: Door, headers: Mapping[bytes, bytes], error: BaseException) -> Reply:
    """Of what went wrong: the caller's part as a refusal, ours with a number that the log has too."""
    if isinstance(error, InvalidInput):
        return _refusal(door, door.invalid_status, error.reason, error.feature)
    if isinstance(error, Refused):
        return _refusal(door, error.status, error.reason, None, error.retry_after_seconds)
    if isinstance(error, OutsideFailure):
        log.error("%s", error)
        return _refusal(door, 503, "a store behind this service does not answer; try again", None, 1)
    number = headers.get(REQUEST_ID, secrets.token_hex(8).encode())[:MAX_REQUEST_ID].decode("latin-1")
    log.error("request %s to %s failed", number, door.path, exc_info=error)
    return _refusal(door, 500, f"an error of this service; its log has it under {number}")


def _understood(headers: Mapping[bytes, bytes], door: Door) -> bool:
    kind = headers.get(b"content-type")
    if kind is not None and kind not in door.accepts and kind.partition(b";")[0].strip().lower() not in door.accepts:
        return False
    return headers.get(b"content-encoding", b"identity") == b"identity"


def _some(kinds: frozenset[bytes]) -> str:
    return " or ".join(sorted(kind.decode() for kind in kinds))


def _refusal(
    door: Door, status: int, reason: str, feature: str | None = None, retry_after_seconds: int | None = None
) -> Reply:
    more = () if retry_after_seconds is None else ((b"retry-after", str(retry_after_seconds).encode()),)
    return Reply(orjson.dumps(door.refusal(reason, feature)), status, JSON, more)


def deadline_of(value: bytes, started: float) -> float:
    """When the caller gives up, by the deadline header. Raises InvalidInput."""
    if not TIMEOUT.fullmatch(value):
        raise InvalidInput(None, "X-Request-Timeout-Ms must be a whole number of milliseconds, from 1 to 999999999")
    return started + int(value) / 1000
