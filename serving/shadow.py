"""The shadow: a challenger answers the same rows, off the way of the request, and nobody is given its answers."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from pipeline.core.log_frames import LINES
from pipeline.core.package import InvalidInput
from pipeline.core.row_reader import Row
from serving.prediction_log import PredictionLog, new_prediction_id
from serving.routing import Served
from serving.telemetry import Telemetry

log = logging.getLogger("evergreen.serving")
CAPACITY = 4_096
"""Rows that may wait for the shadow; what comes beyond is left out and counted."""
BATCH = 64
PAUSE_SECONDS = 0.005
"""After each batch: the shadow takes what is left over of the processor, not what requests need."""


@dataclass(frozen=True, slots=True)
class _Offer:
    model: str
    served: Served
    given: Mapping[str, Any]
    user_id: str | None
    answered_as: str


HandOver = Callable[..., object]


class Shadow:
    """One thread, one bounded queue. Whatever fails in it is counted, and touches no request."""

    def __init__(self, prediction_log: PredictionLog, telemetry: Telemetry) -> None:
        self._log, self._telemetry = prediction_log, telemetry
        self._queue: queue.SimpleQueue[_Offer | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._hand_over: HandOver | None = None

    def start(self, hand_over: HandOver | None = None) -> None:
        """Begin to answer what is offered.

        `hand_over`: calls a function where the log may be written; left out, that is the running event loop.
        """
        self._hand_over = hand_over or asyncio.get_running_loop().call_soon_threadsafe
        self._thread.start()

    def stop(self) -> None:
        """Answer what waits, then stop."""
        self._queue.put(None)
        self._thread.join(timeout=10)

    def offer(
        self, model: str, served: Served, given: Mapping[str, Any], user_id: str | None, answered_as: str
    ) -> None:
        """A row that was answered under the identifier `answered_as`; never blocks."""
        if self._queue.qsize() >= CAPACITY:
            self._telemetry.shadow_dropped.labels(model).inc()
            return
        self._queue.put(_Offer(model, served, given, user_id, answered_as))

    def _run(self) -> None:
        going = True
        while going:
            batch = [self._queue.get()]
            while len(batch) < BATCH and not self._queue.empty():
                batch.append(self._queue.get())
            going = None not in batch
            by_version: dict[Served, list[_Offer]] = {}
            for offer in batch:
                if offer is not None:
                    by_version.setdefault(offer.served, []).append(offer)
            for served, offers in by_version.items():
                self._answer(served, offers)
            time.sleep(PAUSE_SECONDS)

    def _answer(self, served: Served, offers: list[_Offer]) -> None:
        counters = self._telemetry.of_version(offers[0].model, str(served.variant.version), "shadow")
        rows: list[Row] = []
        fit: list[_Offer] = []
        started = time.perf_counter()
        for offer in offers:
            try:
                rows.append(served.predictor.reader.read(_wanted(offer.given, served)))
                fit.append(offer)
            except InvalidInput:
                counters.refused.inc()
        if not fit:
            return
        try:
            scores = served.predictor.scores_of_rows(rows)
        except Exception:
            log.exception("the shadow, version %s, cannot score", served.variant.version)
            counters.failed.inc(len(fit))
            answers: list[tuple[Any, Any, Any]] = [(None, None, None)] * len(fit)
        else:
            counters.answered.inc(len(fit))
            found = served.predictor.answers(scores)
            answers = list(zip(found.labels, found.confidences, scores.tolist(), strict=True))
        records = self._records(fit, served, answers, (time.perf_counter() - started) / len(fit))
        assert self._hand_over is not None
        self._hand_over(self._log.write, LINES, b"\n".join(records), len(records))

    @staticmethod
    def _records(
        offers: list[_Offer], served: Served, answers: list[tuple[Any, Any, Any]], seconds: float
    ) -> list[bytes]:
        """Lines of the log; without a prediction where the model failed."""
        now = time.time()
        return [
            orjson.dumps({
                "prediction_id": new_prediction_id(now), "time": now, "user_id": offer.user_id, "model": offer.model,
                "variant": served.variant.name, "version": served.variant.version, "digest": served.variant.digest,
                "features": _wanted(offer.given, served), "prediction": label, "confidence": confidence,
                "scores": score, "latency_seconds": seconds, "shadow_of": offer.answered_as,
            })
            for offer, (label, confidence, score) in zip(offers, answers, strict=True)
        ]  # fmt: skip


def _wanted(given: Mapping[str, Any], served: Served) -> dict[str, Any]:
    """Of the features that came, those that the shadow takes."""
    return {name: given[name] for name in served.predictor.reader.names if name in given}
