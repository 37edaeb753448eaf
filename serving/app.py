"""The HTTP service of one worker process: the doors, over one follower, one log and one set of metrics."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from pipeline.settings import Settings, load_settings
from serving.admin import admin_routes
from serving.doors import all_doors
from serving.front import Front
from serving.grpc_settings import grpc_settings
from serving.keys import Keys
from serving.limits import BodyLimit
from serving.openapi import describe
from serving.orders import OrderFile
from serving.protocols import problem
from serving.service import Service
from serving.serving_settings import ServingSettings, serving_settings
from serving.telemetry import CONTENT_TYPE

SWITCH_SECONDS = 0.0005
"""How long a thread beside the event loop (log, follower, shadow) may hold it up, where both want to run; Python's own
default is ten times as long, and is seen in the slowest answers."""
TELL_SECONDS = 1.0
"""Every worker tells what it is at: a scrape meets only one of them."""


def create_app(
    settings: Settings | None = None, models: tuple[str, ...] | None = None, limits: ServingSettings | None = None
) -> ASGIApp:
    """The application. Without arguments it is made from the environment, as worker processes do."""
    settings, limits = settings or load_settings(), limits or serving_settings()
    service = Service.of(settings, limits, models)
    doors, orders = all_doors(service), OrderFile.of_service()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sys.setswitchinterval(SWITCH_SECONDS)
        service.log.start()
        service.answering.shadow.start()
        await run_in_threadpool(service.follower.start)
        telling = asyncio.create_task(_keep_telling(service, front, orders))
        gc.collect()
        gc.freeze()  # what was made until now stays; no collection need look at it again, which takes tens of ms
        async with _grpc_door(service, keys, limits):
            yield
        telling.cancel()
        await run_in_threadpool(service.follower.stop)
        await run_in_threadpool(service.answering.shadow.stop)
        service.answering.close()
        await run_in_threadpool(service.log.stop)
        service.close()

    # /docs with scripts of its own: those of FastAPI come from foreign hosts.
    app = FastAPIOffline(
        title="Evergreen", version="1", lifespan=lifespan, description="Predictions of the deployed models.",
        redoc_url=None, swagger_ui_parameters={"validatorUrl": None},
    )  # fmt: skip
    app.add_middleware(BodyLimit)
    keys = Keys(limits.key_hashes)
    front = Front(
        app, doors, keys,
        max_body_bytes=limits.max_body_bytes, max_concurrency=limits.max_concurrency,
    )  # fmt: skip
    _operations(app, service, front)
    _errors(app)
    app.include_router(admin_routes(service, limits, orders))
    app.openapi = describe(app, doors, service.follower, with_keys=keys.required)  # type: ignore[method-assign]
    return front


@asynccontextmanager
async def _grpc_door(service: Service, keys: Keys, limits: ServingSettings) -> AsyncIterator[None]:
    settings = grpc_settings()
    if settings is None:
        yield
        return
    from serving.doors import grpc_server  # grpc, which a worker without this door never loads

    server = await grpc_server.start(service, keys, limits, settings)
    yield
    await server.stop()


def _operations(app: FastAPI, service: Service, front: Front) -> None:
    @app.get("/health", tags=["operations"])
    async def health() -> dict[str, str]:
        """The process is alive."""
        return {"status": "healthy"}

    @app.get("/ready", tags=["operations"], responses={503: {"description": "A model cannot answer yet"}})
    async def ready(response: Response) -> dict[str, Any]:
        """Every model answers with proven golden rows."""
        is_ready, found = service.readiness()
        if not is_ready:
            response.status_code = 503
        return found

    @app.get("/metrics", tags=["operations"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus metrics of all workers, and what the monitors measured."""
        _tell(service, front)
        return Response(await run_in_threadpool(service.telemetry.render), media_type=CONTENT_TYPE)


def _errors(app: FastAPI) -> None:
    """Refusals of what is no door look like those of our own protocol."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(problem(str(error.detail)), error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse(problem(first["msg"], ".".join(map(str, first["loc"][1:])) or None), 422)


def _tell(service: Service, front: Front) -> None:
    service.tell()
    service.telemetry.turned_away.inc(front.take_turned_away())


async def _keep_telling(service: Service, front: Front, orders: OrderFile) -> None:
    while True:
        ordered = orders.read()
        service.follower.obey(ordered)
        logging.getLogger("evergreen").setLevel(ordered.log_level)
        _tell(service, front)
        await asyncio.sleep(TELL_SECONDS)
