"""Answering one row: checked at once, scored together with whatever else waits in this turn of the loop.

A request that is alone waits for nothing; many at once cost one call of the model. Where the model has no fast form,
its calls run in a thread, and what comes meanwhile is the next call.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from pipeline.core.log_frames import LINES
from pipeline.core.package import InvalidInput, Label
from pipeline.core.predictor import not_finite
from pipeline.core.row_reader import Given, Row
from serving.prediction_log import PredictionLog, new_prediction_id
from serving.routing import Route, Served
from serving.shadow import Shadow
from serving.telemetry import Telemetry, observe_all

log = logging.getLogger("evergreen.serving")
MOST_BATCHERS = 32
LARGEST_BATCH = 512
"""Rows scored inside of the loop's turn at most; the rest is the next turn's, so that nobody waits for a queue."""


NO_ANSWER = "the model has no finite answer for numbers this large"


class Refused(Exception):
    """The request cannot be answered here and now."""

    def __init__(self, status: int, reason: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.retry_after_seconds = status, reason, retry_after_seconds


@dataclass(slots=True)
class Answer:
    """What a row was answered."""

    prediction: Label | float | None
    """None where the model failed on the row."""
    confidence: float | None
    """Probability of the prediction; None for regression."""
    scores: list[float] | float | None
    served: Served
    prediction_id: str


@dataclass(slots=True)
class _Waiting:
    """A row that waits for its score."""

    row: Row
    given: Given
    user_id: str | None
    started: float
    deadline: float
    shadow: Served | None
    answer: asyncio.Future[Answer]


class Answering:
    """What the doors ask."""

    def __init__(self, prediction_log: PredictionLog, telemetry: Telemetry, shadow: Shadow, *, strict: bool) -> None:
        """`strict`: an answer is given when it is in the log."""
        self.log, self.telemetry, self.shadow, self.strict = prediction_log, telemetry, shadow, strict
        self._batchers: dict[Served, Batcher] = {}
        self.threads = ThreadPoolExecutor(2, thread_name_prefix="scoring")

    def one(
        self, route: Route, served: Served, given: Given, user_id: str | None, started: float, deadline: float
    ) -> asyncio.Future[Answer]:
        """Ask for one row. `started`, `deadline`: on the clock of time.perf_counter.

        Raises InvalidInput where it does not fit; awaiting raises Refused where it cannot be answered.
        """
        batcher = self._batchers.get(served) or self._batcher(route.model, served)
        return batcher.ask(given, user_id, started, deadline, route.shadow)

    def _batcher(self, model: str, served: Served) -> Batcher:
        if len(self._batchers) >= MOST_BATCHERS:
            # Those of versions that answer no more; one that still does is made anew.
            self._batchers = {known: batcher for known, batcher in self._batchers.items() if batcher.is_waited_for}
        batcher = self._batchers[served] = Batcher(model, served, self)
        return batcher

    def unavailable(self) -> None:
        """Raise Refused where the log takes nothing and nothing may be answered without it."""
        if not self.log.accepting:
            raise Refused(503, f"the prediction log takes nothing: {self.log.problem}", retry_after_seconds=1)

    def close(self) -> None:
        """Let the threads end."""
        self.threads.shutdown()


class Batcher:
    """Rows for one version."""

    def __init__(self, model: str, served: Served, answering: Answering) -> None:
        self._served, self._answering = served, answering
        self._predictor = served.predictor
        self._read = served.predictor.reader.read
        self._waiting: list[_Waiting] = []
        self._busy = False
        self._loop = asyncio.get_running_loop()
        self._counters = answering.telemetry.of_version(model, str(served.variant.version), served.variant.name)
        self._template = {
            "model": model, "variant": served.variant.name, "version": served.variant.version,
            "digest": served.variant.digest,
        }  # fmt: skip
        self._model, self._names = model, self._predictor.reader.names

    @property
    def is_waited_for(self) -> bool:
        """Whether a row waits here, or is being scored."""
        return bool(self._waiting) or self._busy

    def ask(
        self, given: Given, user_id: str | None, started: float, deadline: float, shadow: Served | None
    ) -> asyncio.Future[Answer]:
        """See Answering.one."""
        try:
            row = self._read(given)
        except InvalidInput:
            self._counters.refused.inc()
            raise
        if not self._waiting and not self._busy:
            self._loop.call_soon(self._turn)
        answer = self._loop.create_future()
        self._waiting.append(_Waiting(row, given, user_id, started, deadline, shadow, answer))
        return answer

    def _turn(self) -> None:
        """Score what waits."""
        batch, self._waiting = self._waiting[:LARGEST_BATCH], self._waiting[LARGEST_BATCH:]
        batch = self._in_time(batch)
        if not batch:
            self._next()
            return
        rows = [one.row for one in batch]
        if self._served.form == "skops":
            self._busy = True
            scored = self._loop.run_in_executor(self._answering.threads, self._predictor.scores_of_rows, rows)
            scored.add_done_callback(lambda done: self._back(batch, done))
            return
        try:
            scores = self._scores(rows)
        except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it was
            self._fail(batch, error)
        else:
            self._answer(batch, scores)
        self._next()

    def _scores(self, rows: list[Row]) -> np.ndarray:
        if self._predictor.coded is None:
            return self._predictor.scores_of_rows(rows)
        coded = np.array(rows, dtype=np.float64)
        self._predictor.reader.note_outside(coded)
        return self._predictor.scores_of_coded(coded)

    def _in_time(self, batch: list[_Waiting]) -> list[_Waiting]:
        """Those that somebody still waits for."""
        now = time.perf_counter()
        late = [one for one in batch if now > one.deadline]
        for one in late:
            if not one.answer.done():
                one.answer.set_exception(Refused(504, "the deadline of the request passed before it was answered"))
        return [one for one in batch if now <= one.deadline and not one.answer.done()] if late else batch

    def _back(self, batch: list[_Waiting], done: asyncio.Future[np.ndarray]) -> None:
        self._busy = False
        error = done.exception()
        if error is not None:
            self._fail(batch, error)
        else:
            self._answer(batch, done.result())
        self._next()

    def _next(self) -> None:
        if self._waiting and not self._busy:
            self._loop.call_soon(self._turn)

    def _fail(self, batch: Sequence[_Waiting], error: BaseException) -> None:
        """Tell everybody; the log holds the rows without a prediction, by which a rollout is judged too."""
        log.error("version %s cannot score: %r", self._served.variant.version, error)
        self._counters.failed.inc(len(batch))
        now, ready = time.time(), time.perf_counter()
        nothing = [Answer(None, None, None, self._served, new_prediction_id(now)) for _ in batch]
        lines = [
            self._record(one, answer, now, ready - one.started) for one, answer in zip(batch, nothing, strict=True)
        ]
        self._answering.log.write(LINES, b"\n".join(lines), len(lines))
        for one in batch:
            if not one.answer.done():
                one.answer.set_exception(Refused(500, "the model failed on this row; the service's log says why"))

    def _answer(self, batch: list[_Waiting], scores: np.ndarray) -> None:
        without = not_finite(scores)
        if without:
            self._counters.refused.inc(len(without))
            for place in without:
                if not batch[place].answer.done():
                    batch[place].answer.set_exception(InvalidInput(None, NO_ANSWER))
            batch = [one for place, one in enumerate(batch) if place not in without]
            scores = np.delete(scores, without, axis=0)
            if not batch:
                return
        now, ready = time.time(), time.perf_counter()
        found = self._predictor.answers(scores)
        answers, records, took = [], [], []
        for one, label, confidence, score in zip(batch, found.labels, found.confidences, scores.tolist(), strict=True):
            seconds = ready - one.started
            answer = Answer(label, confidence, score, self._served, new_prediction_id(now))
            answers.append(answer)
            records.append(self._record(one, answer, now, seconds))
            took.append(seconds)
            if one.shadow is not None:
                self._answering.shadow.offer(
                    self._model, one.shadow, self._by_name(one.given), one.user_id, answer.prediction_id
                )
        observe_all(self._counters.latency, took)
        self._counters.answered.inc(len(batch))
        lines = b"\n".join(records)
        if self._answering.strict:
            self._answering.log.commit([(LINES, lines)], self._written(batch, answers), len(batch))
        elif self._answering.log.write(LINES, lines, len(batch)):
            _give(batch, answers)
        else:
            self._refuse(batch, self._answering.log.problem)

    def _written(self, batch: list[_Waiting], answers: list[Answer]) -> Callable[[Exception | None], None]:
        """What the log's thread calls when these records are on the disk, or cannot be."""

        def give(error: Exception | None) -> None:
            if error is None:
                _give(batch, answers)
            else:
                self._refuse(batch, str(error))

        def done(error: Exception | None) -> None:
            self._loop.call_soon_threadsafe(give, error)

        return done

    @staticmethod
    def _refuse(batch: list[_Waiting], why: str | None) -> None:
        for one in batch:
            if not one.answer.done():
                one.answer.set_exception(Refused(503, f"the prediction log takes nothing: {why}", 1))

    def _record(self, one: _Waiting, answer: Answer, now: float, seconds: float) -> bytes:
        return orjson.dumps({
            "prediction_id": answer.prediction_id, "time": now, "user_id": one.user_id, **self._template,
            "features": self._by_name(one.given), "prediction": answer.prediction, "confidence": answer.confidence,
            "scores": answer.scores, "latency_seconds": seconds, "shadow_of": None,
        })  # fmt: skip

    def _by_name(self, given: Given) -> dict[str, Any]:
        return given if isinstance(given, dict) else dict(zip(self._names, given, strict=True))


def _give(batch: list[_Waiting], answers: list[Answer]) -> None:
    for one, answer in zip(batch, answers, strict=True):
        if not one.answer.done():  # the client may have gone
            one.answer.set_result(answer)
