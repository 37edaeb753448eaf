"""The HTTP service: its doors, over one follower, one log and one set of metrics."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from pipeline.core.package import InvalidInput, rows_to_columns
from pipeline.errors import OutsideFailure
from pipeline.gauges import GaugeStore
from pipeline.rollout import RolloutStore
from pipeline.settings import Settings, load_settings
from serving.follower import Follower
from serving.limits import BodyLimit
from serving.prediction_log import PredictionLog, new_prediction_id
from serving.protocols import FeedbackRequest, FeedbackResponse, PredictRequest, PredictResponse, problem
from serving.telemetry import CONTENT_TYPE, MonitorCollector, Telemetry

SCALARS = ("str", "int", "float", "bool")
"""Alternatives of a value, which pydantic names in the place of an error."""
TELL_SECONDS = 1.0
"""Every worker tells what it is at: a scrape meets only one of them."""


@dataclass
class Service:
    """What the doors share."""

    follower: Follower
    log: PredictionLog
    telemetry: Telemetry
    store: RolloutStore


class Unavailable(Exception):
    """The request cannot be answered here and now."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def create_app(settings: Settings | None = None, models: tuple[str, ...] | None = None) -> FastAPI:
    """The application. Without arguments it is made from the environment, as worker processes do."""
    settings = settings or load_settings()
    if models is None:
        models = tuple(name for name in os.environ.get("EVERGREEN_SERVE_MODELS", "").split(",") if name)
    server_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    store, gauges = RolloutStore(settings.database_url), GaugeStore(settings.database_url)
    service = Service(
        Follower(store, settings, server_id, models), PredictionLog(settings.predictions, server_id),
        Telemetry(MonitorCollector(gauges)), store,
    )  # fmt: skip

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.log.start()
        await run_in_threadpool(service.follower.start)
        telling = asyncio.create_task(_keep_telling(service))
        yield
        telling.cancel()
        await run_in_threadpool(service.follower.stop)
        await run_in_threadpool(service.log.stop)
        store.close()
        gauges.close()

    app = FastAPI(title="Evergreen", version="1", lifespan=lifespan, description="Predictions of the deployed models.")
    app.add_middleware(BodyLimit)
    _refusals(app, service)
    _predictions(app, service)
    _operations(app, service)
    return app


def _refusals(app: FastAPI, service: Service) -> None:
    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        names = [str(part) for part in first["loc"][1:] if "[" not in str(part) and part not in SCALARS]
        return JSONResponse(problem(str(first["msg"])[:500], ".".join(names)[:200] or None), 422)

    @app.exception_handler(InvalidInput)
    async def unfit(request: Request, error: InvalidInput) -> JSONResponse:
        return JSONResponse(problem(error.reason, error.feature), 422)

    @app.exception_handler(Unavailable)
    async def unavailable(request: Request, error: Unavailable) -> JSONResponse:
        return JSONResponse(problem(error.reason), error.status)

    @app.exception_handler(OutsideFailure)
    async def outside(request: Request, error: OutsideFailure) -> JSONResponse:
        return JSONResponse(problem("a store behind this service does not answer; try again"), 503)


def _predictions(app: FastAPI, service: Service) -> None:
    refusals: dict[int | str, dict[str, Any]] = {
        404: {"description": "No such model"},
        413: {"description": "Too large"},
        503: {"description": "Not ready"},
    }

    @app.post("/predict", responses=refusals)
    async def predict(body: PredictRequest) -> PredictResponse:
        """Answer with the one model that is served here."""
        return await answer(service, _only(service), body)

    @app.post("/models/{model}/predict", responses=refusals)
    async def predict_of(model: str, body: PredictRequest) -> PredictResponse:
        """Answer with the model of this name."""
        return await answer(service, model, body)

    @app.post("/feedback")
    async def feedback(body: FeedbackRequest) -> FeedbackResponse:
        """Take the label of a prediction; again replaces it, and counts once."""
        if isinstance(body.actual, float) and not math.isfinite(body.actual):
            raise InvalidInput("actual", "must be a finite number")
        first = await run_in_threadpool(service.store.take_feedback, body.prediction_id, body.actual)
        if first:
            service.telemetry.feedback.inc()
        return FeedbackResponse(status="recorded", first=first)


async def answer(service: Service, model: str, body: PredictRequest) -> PredictResponse:
    """One row through the variant of its user: checked, scored, counted, written down."""
    started, now = time.perf_counter(), time.time()
    route = service.follower.route(model)
    if route is None:
        known = service.follower.models()
        if model in known:
            raise Unavailable(503, f"{model} is not ready: {service.follower.problems().get(model, 'loading')}")
        raise Unavailable(404, f"no model {model[:64]!r}; served here: {', '.join(known) or 'none'}")
    served = route.choose(body.user_id)
    try:
        columns = rows_to_columns([body.features], served.predictor.signature)
    except InvalidInput:
        service.telemetry.refused.labels(model).inc()
        raise
    if served.form == "skops":
        found = await run_in_threadpool(served.predictor.predict, columns)
    else:
        found = served.predictor.predict(columns)
    response = PredictResponse(
        prediction=found.labels[0], confidence=found.confidences[0], model_version=served.variant.version,
        variant=served.variant.name, prediction_id=new_prediction_id(now),
    )  # fmt: skip
    seconds = time.perf_counter() - started
    version = str(served.variant.version)
    service.telemetry.predictions.labels(model, version, served.variant.name).inc()
    service.telemetry.latency.labels(model, version).observe(seconds)
    names = [feature.name for feature in served.predictor.signature.features]
    given = body.features if isinstance(body.features, dict) else dict(zip(names, body.features, strict=True))
    service.log.write(model, {
        "prediction_id": response.prediction_id, "time": now, "model": model, "user_id": body.user_id,
        "variant": served.variant.name, "version": served.variant.version, "digest": served.variant.digest,
        "features": given, "prediction": response.prediction, "confidence": response.confidence,
        "scores": found.scores[0].tolist(), "latency_seconds": seconds,
    })  # fmt: skip
    return response


def _only(service: Service) -> str:
    names = service.follower.models()
    if len(names) == 1:
        return names[0]
    if not names:
        raise Unavailable(503, "no model is deployed yet")
    raise Unavailable(
        404, f"several models are served here; ask one of {', '.join(f'/models/{n}/predict' for n in names)}"
    )


def _operations(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process is alive."""
        return {"status": "healthy"}

    @app.get("/ready")
    async def ready(response: Response) -> dict[str, Any]:
        """Every model answers with proven golden rows."""
        routes = {name: service.follower.route(name) for name in service.follower.models()}
        problems = service.follower.problems()
        if problems or not routes:
            response.status_code = 503
        return {
            "status": "ready" if routes and not problems else "not ready",
            "models": {
                name: {"generation": route.generation, "version": route.served[0].variant.version,
                       "digest": route.served[0].variant.digest, "form": route.served[0].form}
                for name, route in routes.items() if route is not None
            },
            "problems": problems or ({} if routes else {"": "no model is deployed yet"}),
        }  # fmt: skip

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus metrics of all workers, and what the monitors measured."""
        _tell(service)
        return Response(await run_in_threadpool(service.telemetry.render), media_type=CONTENT_TYPE)


def _tell(service: Service) -> None:
    routes = {name: service.follower.route(name) for name in service.follower.models()}
    service.telemetry.tell(
        {name: None if route is None else route.generation for name, route in routes.items()}, service.log.lost
    )


async def _keep_telling(service: Service) -> None:
    while True:
        _tell(service)
        await asyncio.sleep(TELL_SECONDS)
