"""Answering many rows of one request: by column where they come so, else row by row; scored off the loop's thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from pipeline.core.log_frames import BATCH, LINES
from pipeline.core.package import InvalidInput, Label, Signature, category_value, number_value
from pipeline.core.predictor import Predictions, Predictor, not_finite
from pipeline.core.row_reader import Given
from serving.answering import NO_ANSWER, Answering, Refused
from serving.prediction_ids import new_batch_prefix, new_prediction_id
from serving.prediction_log import Payload
from serving.routing import Route, Served
from serving.telemetry import observe_all

MAX_ROWS = 100_000
"""Of one request."""
INLINE_ROWS = 16
"""So few are scored at once: to hand them to a thread takes longer."""
Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Answers:
    """What the rows were answered, in their order."""

    labels: list[Label | float]
    confidences: list[float | None]
    scores: np.ndarray
    """Shape (n, classes), or (n,) for regression."""
    served: Served
    prediction_ids: list[str] | str
    """One a row; or what all of them begin with, followed by the row's number in 6 hexadecimal digits."""


async def many(
    answering: Answering,
    route: Route,
    served: Served,
    rows: Sequence[Given] | Columns,
    user_id: str | None,
    started: float,
    deadline: float,
) -> Answers:
    """Answer all rows, or none. `rows`: one by one, or as columns by name, each of shape (n,).

    Raises InvalidInput naming the feature, and Refused.
    """
    counters = answering.telemetry.of_version(route.model, str(served.variant.version), served.variant.name)
    by_column = isinstance(rows, Mapping)
    try:
        if isinstance(rows, Mapping):
            columns = _checked(rows, served.predictor.signature)
            count = len(next(iter(columns.values()), ()))
        else:
            count = len(rows)
        _bounded(count)
        scoring = _score_columns if by_column else score_rows
        given: Any = columns if by_column else rows
        if count <= INLINE_ROWS and served.form != "skops":
            scores = scoring(served.predictor, given)
        else:
            scores = await asyncio.get_running_loop().run_in_executor(
                answering.threads, scoring, served.predictor, given
            )
        check_finite(scores)
    except InvalidInput:
        counters.refused.inc()
        raise
    if time.perf_counter() > deadline:
        raise Refused(504, "the deadline of the request passed before it was answered")
    found, now = served.predictor.answers(scores), time.time()
    seconds = time.perf_counter() - started
    constants = {
        "time": now, "user_id": user_id, "model": route.model, "variant": served.variant.name,
        "version": served.variant.version, "digest": served.variant.digest, "latency_seconds": seconds,
        "shadow_of": None,
    }  # fmt: skip
    if by_column:
        ids: list[str] | str = new_batch_prefix(now)
        await _log(answering, BATCH, _batch(columns, found, {**constants, "id_prefix": ids}), count)
    else:
        ids = [new_prediction_id(now) for _ in range(count)]
        await _log(answering, LINES, record_lines(rows, found, ids, constants, served.predictor), count)
    counters.answered.inc(count)
    observe_all(counters.latency, [seconds])
    return Answers(found.labels, found.confidences, scores, served, ids)


def check_finite(scores: np.ndarray) -> None:
    """Raise InvalidInput where the model has no finite answer."""
    without = not_finite(scores)
    if without:
        raise InvalidInput(None, f"row {without[0]}: {NO_ANSWER}")


def _bounded(count: int) -> None:
    if count == 0:
        raise InvalidInput(None, "there is no row")
    if count > MAX_ROWS:
        raise Refused(413, f"{count} rows are more than {MAX_ROWS} in one request")


def _checked(columns: Columns, signature: Signature) -> dict[str, np.ndarray]:
    """Columns as the predictor takes them: numbers float64 with NaN, categories objects with None."""
    names = [feature.name for feature in signature.features]
    for name in columns:
        if name not in names:
            raise InvalidInput(name[:100], "is no feature of this model")
    checked: dict[str, np.ndarray] = {}
    length: int | None = None
    for feature in signature.features:
        if feature.name not in columns:
            raise InvalidInput(feature.name, "is missing; give null where its value is not known")
        values = np.asarray(columns[feature.name])
        if values.ndim != 1 or (length is not None and len(values) != length):
            raise InvalidInput(feature.name, f"has the shape {values.shape}, the others ({length},)")
        length = len(values)
        checked[feature.name] = (_numbers if feature.kind == "number" else _categories)(feature.name, values)
    return checked


def _numbers(name: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "fiub":
        numbers = values.astype(np.float64, copy=False)
        if np.isinf(numbers).any():
            raise InvalidInput(name, "must be finite numbers")
        return numbers
    return np.array([number_value(name, value) for value in values.tolist()], dtype=np.float64)


def _categories(name: str, values: np.ndarray) -> np.ndarray:
    texts = np.empty(len(values), dtype=object)
    texts[:] = [category_value(name, _decoded(name, value)) for value in values.tolist()]
    return texts


def _decoded(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise InvalidInput(name, "must be text in UTF-8") from None
    return None if isinstance(value, float) and value != value else value


def _score_columns(predictor: Predictor, columns: Columns) -> np.ndarray:
    if predictor.coded is None:
        return predictor.scores(columns)
    coded = predictor.reader.read_columns(columns)
    predictor.reader.note_outside(coded)
    return predictor.scores_of_coded(coded)


def score_rows(predictor: Predictor, rows: Sequence[Given]) -> np.ndarray:
    """Scores of rows that are checked on the way. Raises InvalidInput."""
    read = [predictor.reader.read(row) for row in rows]
    if predictor.coded is not None:
        coded = np.array(read, dtype=np.float64)
        predictor.reader.note_outside(coded)
        return predictor.scores_of_coded(coded)
    return predictor.scores_of_rows(read)


def record_lines(
    rows: Any, found: Predictions, ids: Sequence[str], constants: Mapping[str, Any], predictor: Predictor
) -> bytes:
    """What the log keeps of rows: `constants` are the same for all of them."""
    names = predictor.reader.names
    return b"\n".join(
        orjson.dumps({
            **constants, "prediction_id": prediction_id,
            "features": row if isinstance(row, dict) else dict(zip(names, row, strict=True)),
            "prediction": label, "confidence": confidence, "scores": scores,
        })
        for prediction_id, row, label, confidence, scores in zip(
            ids, rows, found.labels, found.confidences, found.scores.tolist(), strict=True
        )
    )  # fmt: skip


def _batch(columns: Columns, found: Predictions, constants: Mapping[str, Any]) -> list[memoryview]:
    from pipeline.log_batches import encode_batch  # Arrow, which a worker that answers row by row never loads

    return [memoryview(encode_batch(columns, found.labels, found.confidences, found.scores, constants))]


async def _log(answering: Answering, kind: int, payload: Payload, rows: int) -> None:
    """Into the log; in mode strict it has arrived there when this returns. Raises Refused where it takes nothing."""
    if answering.strict:
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()

        def done(error: Exception | None) -> None:
            loop.call_soon_threadsafe(_settle, written, error)

        answering.log.commit([(kind, payload)], done, rows)
        await written
    elif not answering.log.write(kind, payload, rows):
        raise Refused(503, f"the prediction log takes nothing: {answering.log.problem}", 1)


def _settle(written: asyncio.Future[None], error: Exception | None) -> None:
    if written.done():
        return
    if error is None:
        written.set_result(None)
    else:
        written.set_exception(Refused(503, f"the prediction log takes nothing: {error}", 1))
