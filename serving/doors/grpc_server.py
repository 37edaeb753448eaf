"""The gRPC server of one worker process: keys, bounds and errors around the methods of the protocol.

Only imported where the gRPC door is switched on.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from pipeline.core.package import InvalidInput
from pipeline.errors import OutsideFailure
from serving.answering import Refused
from serving.doors.grpc_inference import Asked, Method, methods
from serving.doors.grpc_messages import SERVICE, messages
from serving.grpc_settings import GrpcSettings
from serving.keys import Keys
from serving.protocols import MAX_USER_ID
from serving.service import OVERRIDE, USER_ID, Service
from serving.serving_settings import ServingSettings

log = logging.getLogger("evergreen.serving")
GRACE_SECONDS = 20
"""How long the end waits for answers that are being made."""
MAX_DETAILS = 1_000
"""Characters of a reason: it travels in a header."""
STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT, 404: grpc.StatusCode.NOT_FOUND, 413: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED, 500: grpc.StatusCode.INTERNAL, 503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}  # fmt: skip
HEALTH = "grpc.health.v1.Health"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
"""HealthCheckResponse, https://github.com/grpc/grpc-proto/blob/master/grpc/health/v1/health.proto: field 1, an enum."""


async def start(service: Service, keys: Keys, limits: ServingSettings, settings: GrpcSettings) -> GrpcServer:
    """Listen. Called in the event loop that answers. Raises OutsideFailure where the address is taken."""
    server = grpc.aio.server(options=[
        ("grpc.max_receive_message_length", limits.max_body_bytes), ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", int(settings.shared)),
    ])  # fmt: skip
    guarded = GrpcServer(server, service, keys, limits.max_concurrency)
    server.add_generic_rpc_handlers((guarded.handlers(), guarded.health()))
    try:
        if settings.certificate is None or settings.private_key is None:
            server.add_insecure_port(settings.address)
        else:
            pair = (Path(settings.private_key).read_bytes(), Path(settings.certificate).read_bytes())
            server.add_secure_port(settings.address, grpc.ssl_server_credentials([pair]))
    except RuntimeError as error:
        raise OutsideFailure(f"cannot listen for gRPC on {settings.address}; choose another --grpc-port") from error
    await server.start()
    return guarded


class GrpcServer:
    """What every request passes."""

    def __init__(self, server: Any, service: Service, keys: Keys, max_concurrency: int) -> None:
        self._server, self._service, self._keys, self._free = server, service, keys, max_concurrency

    async def stop(self) -> None:
        """Take no more requests, and answer those that are here."""
        await self._server.stop(GRACE_SECONDS)

    def handlers(self) -> Any:
        """Of the Open Inference Protocol."""
        return grpc.method_handlers_generic_handler(
            SERVICE, {name: self._handler(name, method) for name, method in methods(self._service).items()}
        )

    def health(self) -> Any:
        """What orchestrators probe; without a key, as `/ready`."""

        async def check(request: bytes, context: Any) -> bytes:
            ready = self._service.follower.models() and not self._service.follower.problems()
            return SERVING if ready and self._service.log.accepting else NOT_SERVING

        return grpc.method_handlers_generic_handler(HEALTH, {"Check": grpc.unary_unary_rpc_method_handler(check)})

    def _handler(self, name: str, method: Method) -> Any:
        kind = messages()[f"{name}Request"]

        async def handle(request: bytes, context: Any) -> bytes:
            started = time.perf_counter()
            metadata = {key.encode(): _bytes(value) for key, value in context.invocation_metadata() or ()}
            if self._keys.required and not self._keys.allow(metadata):
                await context.abort(
                    grpc.StatusCode.UNAUTHENTICATED, "a valid key is needed, as metadata: authorization: Bearer KEY"
                )
            if self._free <= 0:
                self._service.telemetry.turned_away.inc()
                await _refuse(context, Refused(429, "too many requests are being answered; try again", 1))
            self._free -= 1
            try:
                left = context.time_remaining()
                deadline = math.inf if left is None else started + left
                return await _answer(method, kind, request, metadata, context, started, deadline)
            finally:
                self._free += 1

        return grpc.unary_unary_rpc_method_handler(handle)  # bytes in, bytes out: what cannot be read is refused by us


async def _answer(
    method: Method, kind: Any, request: bytes, metadata: Mapping[bytes, bytes], context: Any, started: float,
    deadline: float,
) -> bytes:  # fmt: skip
    try:
        message = kind.FromString(request)
        user = metadata.get(USER_ID)
        user_id = None if user is None else user[:MAX_USER_ID].decode("latin-1")
        answered = await method(Asked(message, started, deadline, user_id, metadata.get(OVERRIDE)))
        content: bytes = answered.SerializeToString()
        return content
    except DecodeError:
        refused = Refused(400, "the request is no message of this method")
    except InvalidInput as error:
        refused = Refused(400, str(error))
    except Refused as error:
        refused = error
    except OutsideFailure as error:
        log.error("%s", error)
        refused = Refused(503, "a store behind this service does not answer; try again", 1)
    except Exception:
        log.exception("a gRPC request failed")
        refused = Refused(500, "an error of this service; its log says more")
    await _refuse(context, refused)
    raise AssertionError("abort always raises")


async def _refuse(context: Any, why: Refused) -> None:
    # https://github.com/grpc/proposal/blob/master/A6-client-retries.md: when to come again
    again = why.retry_after_seconds
    trailing = () if again is None else (("grpc-retry-pushback-ms", str(again * 1000)),)
    await context.abort(STATUS[why.status], why.reason[:MAX_DETAILS], trailing)


def _bytes(value: str | bytes) -> bytes:
    return value.encode("latin-1", "replace") if isinstance(value, str) else value
