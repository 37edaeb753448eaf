"""The champion as what it is watched against: the rows it learned from and was judged on, in sketches.

Where the rows of the source are watched, the rows of the same time that validation set apart are among them: a day of
the source has such rows too, and what was always so is no change.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.adapters.champions import record_of, registered
from pipeline.adapters.environment import code_digest, library_versions
from pipeline.adapters.quarantine import set_apart
from pipeline.adapters.store import Output, once
from pipeline.adapters.training_rows import Rows, read_rows
from pipeline.config import ModelConfig
from pipeline.core.decision import Payoff
from pipeline.core.digest import digest_of
from pipeline.core.drift_bins import Bins, make_bins
from pipeline.core.drift_calibration import Calibration, calibrate
from pipeline.core.drift_count import sketch
from pipeline.core.estimation import Estimator, fit_estimator
from pipeline.core.estimators import Task
from pipeline.core.expectation import Reference
from pipeline.core.impact import error_of
from pipeline.core.predictor import Predictor
from pipeline.core.schema import Kind, Schema
from pipeline.core.sketch import Sketch
from pipeline.ledger import MOVES, Ledger
from pipeline.package_files import read_package
from pipeline.records import PrepareRecord, Record, RegisterRecord
from pipeline.settings import Settings

PREDICTION = "prediction"
CLASS = "predicted class"


@dataclass(frozen=True)
class ReferenceRecord(Record):
    """Where the sketches of a champion are."""

    folder: str


@dataclass(frozen=True)
class Side:
    """Columns that are compared: their cells, the reference's counts, and how much its days differed."""

    bins: Bins
    sketch: Sketch
    calibration: Calibration | None


@dataclass(frozen=True)
class ChampionReference:
    """A champion, and everything that a day is held against."""

    register: RegisterRecord
    cutoff: datetime
    since: datetime
    """Since when it answers."""
    model: ModelConfig
    """The model file that it was made with."""
    settings: Settings
    features: Side
    prediction: Side
    """What it predicted on rows that it had not learned from."""

    @cached_property
    def schema(self) -> Schema:
        """Kinds of its features."""
        path = self.settings.home / self.register.evaluate.train.prepare.validate.schema
        return Schema.from_json(path.read_text(encoding="utf-8"))

    @cached_property
    def predictor(self) -> Predictor:
        """What answers."""
        return read_package(self.settings.home / self.register.package).predictor

    @property
    def classes(self) -> tuple[str, ...]:
        """Its classes as tables write them."""
        return tuple(str(c) for c in self.predictor.signature.classes)

    @property
    def registered(self) -> Mapping[str, Any]:
        """Its metrics with intervals, on the rows that judged it."""
        return self.register.evaluate.metrics

    @cached_property
    def lost_when_shuffled(self) -> dict[str, float]:
        """What shuffling a feature costs, in the primary metric."""
        path = (self.settings.home / self.register.evaluate.predictions).with_name("importance.json")
        lost: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return lost

    @property
    def importance(self) -> dict[str, float]:
        """The same as a share of the error."""
        evaluate = self.register.evaluate
        error = error_of(evaluate.primary, evaluate.metrics[evaluate.primary].value)
        return {name: value / error if error > 0 else 0.0 for name, value in self.lost_when_shuffled.items()}

    @cached_property
    def judged(self) -> Rows:
        """The rows that judged it."""
        path = self.settings.home / self.register.evaluate.train.prepare.test
        return read_rows(path, self.schema, self.model, self.classes)

    @cached_property
    def judged_scores(self) -> np.ndarray:
        """What it said of them."""
        return np.asarray(np.load(self.settings.home / self.register.evaluate.predictions, allow_pickle=False))

    def measured(self) -> Reference:
        """The rows that judged it, as an estimator learns from them."""
        payoff = Payoff(**self.model.payoff.model_dump()) if self.model.payoff else None
        return Reference(self.model.task, self.judged.frame, self.judged.target, self.judged_scores,
                         self.register.evaluate.threshold, payoff)  # fmt: skip

    @cached_property
    def estimator(self) -> Estimator:
        """What tells its metrics without labels; fitted once for all days that are checked together."""
        return fit_estimator(self.measured(), np.random.default_rng(self.model.training.seed))


def champion_as_of(model: ModelConfig, cutoff: datetime, settings: Settings) -> ChampionReference | None:
    """The last champion that knew nothing after the cut-off, with its reference; None before the first.

    A run for a day of the past is held against what could have answered then, not against a model that knows the day.
    """
    with Ledger(settings.database_url) as ledger:
        moves = [m for m in ledger.lines(model.name, *MOVES) if datetime.fromisoformat(m.body["cutoff"]) <= cutoff]
        if not moves:
            return None
        move = moves[-1]
        assert move.version is not None
        line = registered(model.name, move.version, ledger)
    return reference_of(
        record_of(line), datetime.fromisoformat(line.body["cutoff"]), move.instant,
        ModelConfig.model_validate(line.body["model_file"], strict=False), model, settings,
    )  # fmt: skip


def reference_of(
    register: RegisterRecord, cutoff: datetime, since: datetime, made_with: ModelConfig, model: ModelConfig,
    settings: Settings,
) -> ChampionReference:  # fmt: skip
    """The sketches of a registered version: made at its first check, found ever after."""
    monitoring = model.monitoring
    key = digest_of("reference", register.digest, register.evaluate.key,
                    register.evaluate.train.prepare.validate.key, monitoring.data, list(monitoring.windows_days),
                    monitoring.calibration, code_digest(), library_versions())  # fmt: skip
    record = once(settings, "reference", key, ReferenceRecord,
                  lambda out: _make(register, made_with, model, settings, key, out))  # fmt: skip
    folder = settings.home / record.folder
    return ChampionReference(register, cutoff, since, made_with, settings, _read(folder, "features"),
                             _read(folder, "prediction"))  # fmt: skip


def _make(
    register: RegisterRecord, made_with: ModelConfig, model: ModelConfig, settings: Settings, key: str, out: Output
) -> ReferenceRecord:
    prepare = register.evaluate.train.prepare
    schema = Schema.from_json((settings.home / prepare.validate.schema).read_text(encoding="utf-8"))
    event = made_with.time.event if made_with.time else None
    columns = [*schema.features, *([event] if event else [])]
    train, test = (pq.read_table(settings.home / path, columns=columns) for path in (prepare.train, prepare.test))
    scores = np.load(settings.home / register.evaluate.predictions, allow_pickle=False)
    if event and model.monitoring.data == "source":
        learned, judged = _set_apart(prepare, schema, event, made_with, settings)
        train, test = pa.concat_tables([train, learned]), pa.concat_tables([test, judged])
        if judged.num_rows:
            predictor = read_package(settings.home / register.package).predictor
            scores = np.concatenate([scores, predictor.scores(_typed(judged, schema))])
    _write(out, "features", pa.concat_tables([train, test]), schema.features, event, model, settings)
    said, kinds = predictions_table(scores, made_with.task)
    if event:
        said = said.append_column(event, test.column(event))
    _write(out, "prediction", said, kinds, event, model, settings)
    return ReferenceRecord(key, out.final)


def _set_apart(
    prepare: PrepareRecord, schema: Schema, event: str, made_with: ModelConfig, settings: Settings
) -> tuple[pa.Table, pa.Table]:
    """Rows in quarantine that would have trained, and those that would have judged."""
    assert prepare.train_until is not None
    assert prepare.test_from is not None
    assert prepare.test_until is not None
    train_until, test_from = datetime.fromisoformat(prepare.train_until), datetime.fromisoformat(prepare.test_from)
    after = datetime.fromisoformat(prepare.test_until) + timedelta.resolution  # the last labelled event is still in
    days = made_with.split.train_days
    train_from = None if days is None else train_until - timedelta(days=days)
    path, target = settings.home / prepare.validate.quarantine, made_with.target.column
    return (set_apart(path, schema, event, target, train_from, train_until),
            set_apart(path, schema, event, target, test_from, after))  # fmt: skip


def _typed(table: pa.Table, schema: Schema) -> dict[str, np.ndarray]:
    """Features as the model takes them: numbers float64, categories objects."""
    frame = table.to_pandas()
    return {
        name: frame[name].to_numpy(dtype=np.float64 if kind == "number" else object)
        for name, kind in schema.features.items()
    }


def predictions_table(scores: np.ndarray, task: Task) -> tuple[pa.Table, dict[str, Kind]]:
    """What a model said of rows, as columns that can be watched."""
    if task == "regression":
        return pa.table({PREDICTION: scores}), {PREDICTION: "number"}
    if task == "binary":
        return pa.table({PREDICTION: np.ascontiguousarray(scores[:, 1])}), {PREDICTION: "number"}
    called = pa.array([str(c) for c in scores.argmax(axis=1)], pa.string())
    return pa.table({PREDICTION: scores.max(axis=1), CLASS: called}), {PREDICTION: "number", CLASS: "category"}


def _write(
    out: Output, side: str, table: pa.Table, kinds: Mapping[str, Kind], event: str | None, model: ModelConfig,
    settings: Settings,
) -> None:  # fmt: skip
    bins = make_bins(table, kinds)
    whole = sketch(bins, table.to_batches(), settings.threads)
    out.path(f"{side}.bins.json").write_text(bins.to_json(), encoding="utf-8")
    out.path(f"{side}.sketch").write_bytes(whole.to_bytes())
    if model.monitoring.calibration == "blocks":
        days = [sketch(bins, day.to_batches(), settings.threads) for day in _days(table, event)] if event else []
        found = calibrate(days, model.monitoring.windows_days)
        out.path(f"{side}.calibration.json").write_text(found.to_json(), encoding="utf-8")


def _days(table: pa.Table, event: str) -> Iterator[pa.Table]:
    """The rows of each UTC day from the first to the last, in order; a day without rows is an empty table."""
    instants = pc.cast(table.column(event), pa.timestamp("us", "UTC"))
    dates = pd.Series(instants.to_pandas()).dt.floor("D").to_numpy()
    order = np.argsort(dates, kind="stable")
    ordered, table = dates[order], table.take(pa.array(order))
    for day in pd.date_range(ordered[0], ordered[-1], freq="D").to_numpy():
        first, end = np.searchsorted(ordered, [day, day + np.timedelta64(1, "D")])
        yield table.slice(int(first), int(end - first))


def _read(folder: Path, side: str) -> Side:
    bins = Bins.from_json((folder / f"{side}.bins.json").read_text(encoding="utf-8"))
    calibration = folder / f"{side}.calibration.json"
    return Side(
        bins,
        Sketch.from_bytes((folder / f"{side}.sketch").read_bytes(), bins),
        Calibration.from_json(calibration.read_text(encoding="utf-8")) if calibration.is_file() else None,
    )
