"""What tests of the prediction log share."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.log_frames import LINES
from pipeline.log_batches import encode_batch
from pipeline.log_rows import COLUMNS, rows_of
from pipeline.log_segments import read_segment, segments
from pipeline.log_settings import LogSettings
from pipeline.log_store import open_store
from pipeline.prediction_files import days, once
from pipeline.prediction_rows import answered_parts
from serving.prediction_log import PredictionLog


def entry(prediction_id: str, time: float, **more: Any) -> dict[str, Any]:
    """One answer as the service writes it down."""
    return {
        "prediction_id": prediction_id, "time": time, "model": "churn", "user_id": None, "variant": "champion",
        "version": 1, "digest": "d" * 64, "features": {"tenure": 3.0, "plan": "basic"}, "prediction": 1,
        "confidence": 0.6, "scores": [0.4, 0.6], "latency_seconds": 0.001, "shadow_of": None, **more,
    }  # fmt: skip


def write_entry(log: PredictionLog, one: dict[str, Any]) -> bool:
    """Hand one answer over to the log."""
    return log.write(LINES, orjson.dumps(one))


def batch(prefix: str, time: float, rows: int, **more: Any) -> Any:
    """A batch of answers as the service writes it down."""
    constants = {
        "model": "churn", "time": time, "user_id": None, "variant": "champion", "version": 1, "digest": "d" * 64,
        "latency_seconds": 0.01, "shadow_of": None, "id_prefix": prefix, **more,
    }  # fmt: skip
    scores = np.tile([0.25, 0.75], (rows, 1))
    columns = {"tenure": np.arange(rows, dtype=float), "plan": np.array(["basic"] * rows, dtype=object)}
    return encode_batch(columns, np.ones(rows, dtype=int), np.full(rows, 0.75), scores, constants)


def answered_rows(model: str, day: date, settings: LogSettings, *, shadows: bool = False) -> pa.Table:
    """The answers of one UTC day, each once, in the order of their identifiers."""
    parts = answered_parts(model, day, settings, COLUMNS.names, shadows=shadows)
    return once(pa.concat_tables([COLUMNS.empty_table(), *parts]))


def logged(settings: LogSettings) -> list[dict[str, Any]]:
    """Every answer in the log, of all models and days, with its features as an object."""
    waiting = [rows_of(read_segment(one.path).frames)[0] for one in segments(settings.journal)]
    known = {(model, str(day)) for rows in waiting for model, day in zip(
        rows["model"].to_pylist(), pc.strftime(rows["time"], "%Y-%m-%d").to_pylist(), strict=True)}  # fmt: skip
    known |= {(folder.split("/")[0], day) for folder, day in days(open_store(settings))}
    found = []
    for model, day in sorted(known):
        rows = answered_rows(model, date.fromisoformat(day), settings, shadows=True).to_pylist()
        found += [{**row, "model": model, "features": json.loads(row["features"])} for row in rows]
    return found
