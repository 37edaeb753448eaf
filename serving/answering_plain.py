"""Answering one row without an event loop: for a server whose threads wait, such as Flask's."""

from __future__ import annotations

import threading
import time
from typing import Any

from pipeline.core.log_frames import LINES
from pipeline.core.package import InvalidInput
from pipeline.core.row_reader import Given
from serving.answering import Answer, Refused
from serving.answering_many import check_finite, record_lines, score_rows
from serving.prediction_ids import new_prediction_id
from serving.routing import Route, Served
from serving.service import Service
from serving.telemetry import observe_all


class PlainAnswering:
    """One row at a time, whichever thread asks: models and the log are for one thread only."""

    def __init__(self, service: Service) -> None:
        self._service, self._lock = service, threading.Lock()

    def one(
        self, route: Route, served: Served, given: Given, user_id: str | None, started: float, deadline: float
    ) -> Answer:
        """Answer; in the log's mode strict when it is there. Raises InvalidInput and Refused."""
        with self._lock:
            answer, line = self._answered(route, served, given, user_id, started, deadline)
            strict, prediction_log = self._service.answering.strict, self._service.log
            if not strict and not prediction_log.write(LINES, line):
                raise Refused(503, f"the prediction log takes nothing: {prediction_log.problem}", 1)
        if strict:
            self._commit(line)
        return answer

    def hand_over(self, what: Any, *arguments: Any) -> None:
        """For the shadow, whose thread is another: call where nobody else writes into the log."""
        with self._lock:
            what(*arguments)

    def _answered(
        self, route: Route, served: Served, given: Given, user_id: str | None, started: float, deadline: float
    ) -> tuple[Answer, bytes]:
        variant = served.variant
        counters = self._service.telemetry.of_version(route.model, str(variant.version), variant.name)
        if time.perf_counter() > deadline:
            raise Refused(504, "the deadline of the request passed before it was answered")
        try:
            scores = score_rows(served.predictor, [given])
            check_finite(scores)
        except InvalidInput:
            counters.refused.inc()
            raise
        now, found, seconds = time.time(), served.predictor.answers(scores), time.perf_counter() - started
        answer = Answer(found.labels[0], found.confidences[0], scores[0].tolist(), served, new_prediction_id(now))
        constants = {
            "time": now, "user_id": user_id, "model": route.model, "variant": variant.name,
            "version": variant.version, "digest": variant.digest, "latency_seconds": seconds, "shadow_of": None,
        }  # fmt: skip
        if route.shadow is not None:
            by_name = given if isinstance(given, dict) else dict(zip(served.predictor.reader.names, given, strict=True))
            self._service.answering.shadow.offer(route.model, route.shadow, by_name, user_id, answer.prediction_id)
        observe_all(counters.latency, [seconds])
        counters.answered.inc()
        return answer, record_lines([given], found, [answer.prediction_id], constants, served.predictor)

    def _commit(self, line: bytes) -> None:
        written = threading.Event()
        failed: list[Exception] = []

        def done(error: Exception | None) -> None:
            if error is not None:
                failed.append(error)
            written.set()

        self._service.log.commit([(LINES, line)], done)
        written.wait()
        if failed:
            raise Refused(503, f"the prediction log takes nothing: {failed[0]}", 1)
