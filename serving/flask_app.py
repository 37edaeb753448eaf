"""A Flask application over the same predictors, for teams on gunicorn.

    gunicorn --config python:serving.gunicorn_conf "serving.flask_app:create_app()"

It answers a row at a time, each worker for itself; rollouts, the log and the metrics are those of `python -m serving`,
which answers many times as much.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from pipeline.core.package import InvalidInput
from pipeline.errors import OutsideFailure
from pipeline.settings import Settings, load_settings
from serving.answering import Refused
from serving.answering_plain import PlainAnswering
from serving.doors.own import label_of, parsed, recorded, row_of, told
from serving.front import DEADLINE_HEADER, Reply, as_json, deadline_of
from serving.keys import Keys
from serving.protocols import problem
from serving.service import OVERRIDE, Service
from serving.serving_settings import ServingSettings, serving_settings
from serving.telemetry import CONTENT_TYPE

log = logging.getLogger("evergreen.serving")


class Process:
    """What one worker holds: threads and connections, which no fork carries over."""

    def __init__(self, settings: Settings, limits: ServingSettings, models: tuple[str, ...] | None) -> None:
        self.pid, self._stopped = os.getpid(), False
        self.service = Service.of(settings, limits, models)
        self.answering = PlainAnswering(self.service)
        self.service.log.start()
        self.service.answering.shadow.start(self.answering.hand_over)
        self.service.follower.start()
        self.service.tell()
        atexit.register(self.stop)

    def stop(self) -> None:
        """Write down what waits, and sign off."""
        if self.pid != os.getpid() or self._stopped:
            return
        self._stopped = True
        self.service.follower.stop()
        self.service.answering.shadow.stop()
        self.service.answering.close()
        self.service.log.stop()
        self.service.close()


def create_app(
    settings: Settings | None = None, models: tuple[str, ...] | None = None, limits: ServingSettings | None = None
) -> Flask:
    """The WSGI application. Without arguments it is made from the environment.

    A worker loads its models when it is first asked; serving.gunicorn_conf sees to it that this is at its start.
    """
    settings, limits = settings or load_settings(), limits or serving_settings()
    held: list[Process] = []
    lock = threading.Lock()

    def process() -> Process:
        with lock:
            if not held or held[0].pid != os.getpid():
                held[:] = [Process(settings, limits, models)]
            return held[0]

    app = Flask("serving")
    app.config["MAX_CONTENT_LENGTH"] = limits.max_body_bytes
    app.extensions["evergreen"] = process
    _guard(app, Keys(limits.key_hashes))
    _predictions(app, process)
    _operations(app, process)
    _errors(app)
    return app


def _guard(app: Flask, keys: Keys) -> None:
    @app.before_request
    def guard() -> Response | None:
        asks = request.method == "POST"
        if asks and keys.required and not keys.allow(_headers()):
            return _json(problem("a valid key is needed: Authorization: Bearer KEY, or X-API-Key: KEY"), 401)
        return None


def _predictions(app: Flask, process: Callable[[], Process]) -> None:
    def predict(model: str | None = None) -> Response:
        started, held = time.perf_counter(), process()
        given, user_id = row_of(parsed(request.get_data()))
        headers = _headers()
        deadline = deadline_of(headers[DEADLINE_HEADER], started) if DEADLINE_HEADER in headers else math.inf
        route = held.service.route(model)
        served = held.service.served(route, user_id, headers.get(OVERRIDE))
        return _response(told(held.answering.one(route, served, given, user_id, started, deadline)))

    app.add_url_rule("/predict", "predict", predict, methods=["POST"])
    app.add_url_rule("/models/<model>/predict", "predict_of", predict, methods=["POST"])

    @app.post("/feedback")
    def feedback() -> Response:
        service = process().service
        prediction_id, actual = label_of(parsed(request.get_data()))
        return _response(recorded(service, service.store.take_feedback(prediction_id, actual)))


def _operations(app: Flask, process: Callable[[], Process]) -> None:
    @app.get("/health")
    def health() -> Response:
        return _json({"status": "healthy"})

    @app.get("/ready")
    def ready() -> Response:
        is_ready, found = process().service.readiness()
        return _json(found, 200 if is_ready else 503)

    @app.get("/metrics")
    def metrics() -> Response:
        service = process().service
        service.tell()
        return Response(service.telemetry.render(), content_type=CONTENT_TYPE)


def _errors(app: Flask) -> None:
    def tell(status: int, reason: str, feature: str | None = None, again: int | None = None) -> Response:
        response = _json(problem(reason, feature), status)
        if again is not None:
            response.headers["Retry-After"] = str(again)
        return response

    @app.errorhandler(InvalidInput)
    def invalid(error: InvalidInput) -> Response:
        return tell(422, error.reason, error.feature)

    @app.errorhandler(Refused)
    def refused(error: Refused) -> Response:
        return tell(error.status, error.reason, None, error.retry_after_seconds)

    @app.errorhandler(OutsideFailure)
    def outside(error: OutsideFailure) -> Response:
        log.error("%s", error)
        return tell(503, "a store behind this service does not answer; try again", None, 1)

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        if isinstance(error, RequestEntityTooLarge):
            return tell(413, f"the request is larger than {app.config['MAX_CONTENT_LENGTH']} bytes")
        response = tell(error.code or 500, error.description or error.name)
        for name, value in error.get_headers():
            if name.lower() == "allow":
                response.headers[name] = ", ".join(sorted(value.split(", ")))
        return response


def _headers() -> dict[bytes, bytes]:
    return {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in request.headers.items()}


def _json(content: Any, status: int = 200) -> Response:
    return _response(as_json(content, status))


def _response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, content_type=reply.content_type.decode())
