"""The sketches of days: counted once, kept, added up to windows."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from pipeline.adapters.champion_reference import ChampionReference, Side, predictions_table
from pipeline.adapters.observed import ObservedDay
from pipeline.core.drift_count import sketch
from pipeline.core.predictor import Predictor
from pipeline.core.schema import Schema
from pipeline.core.sketch import Sketch
from pipeline.settings import Settings

BATCH_ROWS = 131_072


@dataclass(frozen=True)
class SketchedDay:
    """A day as the champion met it."""

    observed: ObservedDay
    features: Sketch
    prediction: Sketch


def sketch_day(day: ObservedDay, champion: ChampionReference, settings: Settings) -> SketchedDay:
    """The day in the cells of the champion's reference."""

    def features() -> Sketch:
        with pq.ParquetFile(day.path, pre_buffer=False) as file:
            rows = file.iter_batches(BATCH_ROWS, columns=list(champion.schema.features))
            return sketch(champion.features.bins, rows, settings.threads)

    def prediction() -> Sketch:
        said = Sketch.empty(champion.prediction.bins)
        with pq.ParquetFile(day.path, pre_buffer=False) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=list(champion.schema.features)):
                frame = typed_features(batch.to_pandas(), champion.schema)
                table, _ = predictions_table(score(champion.predictor, frame), champion.model.task)
                said += sketch(champion.prediction.bins, table.to_batches(), 1)
        return said

    home = settings.home / "sketches" / champion.model.name / day.path.parent.name
    mine = f"{day.day.isoformat()}.{champion.register.digest[:16]}.sketch"
    return SketchedDay(
        day,
        _kept(home / champion.features.bins.digest[:16] / f"{day.day.isoformat()}.sketch", champion.features, features),
        _kept(home / champion.prediction.bins.digest[:16] / mine, champion.prediction, prediction),
    )


def score(predictor: Predictor, frame: pd.DataFrame) -> np.ndarray:
    """Scores of a frame of features; none of no rows."""
    if len(frame) == 0:
        classes = len(predictor.signature.classes)
        return np.zeros((0, classes)) if classes else np.zeros(0)
    return predictor.scores({str(name): frame[name].to_numpy() for name in frame.columns})


def typed_features(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Features as the model takes them: numbers float64, categories objects."""
    kinds = {name: (np.float64 if kind == "number" else object) for name, kind in schema.features.items()}
    typed: pd.DataFrame = frame[list(schema.features)].astype(kinds)
    return typed


def together(side: Side, sketches: Sequence[Sketch]) -> Sketch:
    """Days as one window."""
    return Sketch.sum(side.bins, sketches)


def _kept(path: Path, side: Side, make: Callable[[], Sketch]) -> Sketch:
    if path.is_file():
        return Sketch.from_bytes(path.read_bytes(), side.bins)
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(made.to_bytes())
    temporary.replace(path)
    return made
