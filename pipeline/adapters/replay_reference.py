"""What a model of the past is held against: its reference in sketches, its importance, its registered performance."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.adapters.champion_reference import Side, predictions_table
from pipeline.adapters.replay_models import TrainedModel, predict
from pipeline.adapters.replay_past import Array, Past
from pipeline.core.drift_bins import Bins, make_bins
from pipeline.core.drift_calibration import MIN_BLOCKS, Calibration, calibrate
from pipeline.core.drift_count import sketch
from pipeline.core.estimation import Estimator, fit_estimator
from pipeline.core.expectation import Reference
from pipeline.core.impact import error_of
from pipeline.core.importance import permutation_importance
from pipeline.core.metric_names import higher_is_better
from pipeline.core.metrics import over_resamples
from pipeline.core.paired import row_losses
from pipeline.core.schema import Kind
from pipeline.core.sketch import Sketch
from pipeline.core.verdict import Interval

REFERENCE_ROWS = 2_000
"""Rows of the reference that weigh a window and show what a column is worth: a replay asks thousands of times."""
RESAMPLES = 100


@dataclass(frozen=True)
class Sides:
    """A model's reference for the tests of drift, in cells of its own."""

    features: Side
    prediction: Side


@dataclass(frozen=True)
class Registered:
    """A model's performance as it was judged."""

    metrics: dict[str, Interval]
    primary: str
    error: float
    usual_loss: float
    """Mean loss of a row that judged it."""
    lost_when_shuffled: Mapping[str, float]
    """What shuffling a feature costs, in the primary metric."""
    frame: pd.DataFrame = field(repr=False)
    """A sample of the rows that judged it, which `estimator` learned from."""
    estimator: Estimator = field(repr=False)

    @property
    def importance(self) -> dict[str, float]:
        """What shuffling a feature costs, as a share of the error."""
        return {name: lost / self.error if self.error > 0 else 0.0 for name, lost in self.lost_when_shuffled.items()}


def registered_of(past: Past, model: TrainedModel) -> Registered:
    """Judge a model on the rows that judge. Raises ValueError below 40 rows."""
    rng = np.random.default_rng([past.model.training.seed, model.cutoff.toordinal()])
    judged, scores, primary = past.judged(model.judge), model.judge_scores, past.model.primary_metric
    point = judged.metrics(scores, np.ones((1, len(scores))))
    spread = over_resamples(len(scores), RESAMPLES, rng, lambda w: judged.metrics(scores, w), judged.clusters)
    confidence = past.model.gate.confidence
    metrics = {}
    for name, found in point.items():
        finite = spread[name][np.isfinite(spread[name])]
        if np.isfinite(found[0]) and len(finite) > 1:
            low, high = np.quantile(finite, [(1 - confidence) / 2, (1 + confidence) / 2])
            metrics[name] = Interval(float(found[0]), float(low), float(high))
    some = np.sort(rng.choice(len(scores), min(len(scores), REFERENCE_ROWS), replace=False))
    part = past.judged(model.judge[some])
    frame = past.frame.iloc[model.judge[some]].reset_index(drop=True)
    reference = Reference(past.model.task, frame, part.actual, scores[some], past.model.threshold, part.payoff,
                          part.clusters)  # fmt: skip
    sign = 1 if higher_is_better(primary) else -1

    def value(given: Array) -> float:
        return sign * float(part.metrics(given, np.ones((1, len(given))))[primary][0])

    return Registered(
        metrics, primary, error_of(primary, metrics[primary].value), float(row_losses(judged, scores, primary).mean()),
        permutation_importance(lambda mixed: predict(model.pipeline, mixed), frame, value, rng), frame,
        fit_estimator(reference, rng),
    )  # fmt: skip


def sides_of(past: Past, model: TrainedModel) -> Sides:
    """The reference that each window is compared with, tamed by how much its own days differ."""
    rows = np.sort(np.concatenate([model.train, model.judge]))
    said, kinds = predictions_table(model.judge_scores, past.model.task)
    return Sides(_side(past, past.table.take(pa.array(rows)), past.schema.features, rows),
                 _side(past, said, kinds, model.judge))  # fmt: skip


def _side(past: Past, table: pa.Table, kinds: Mapping[str, Kind], rows: Array) -> Side:
    """`rows`: the row number of each row of the table, ascending."""
    bins = make_bins(table, kinds)
    whole = sketch(bins, table.to_batches(), 1)
    if past.model.monitoring.calibration == "independent":
        return Side(bins, whole, None)
    windows = judgeable(past)
    return Side(bins, whole, Calibration({
        days: found.windows[1]
        for days in windows
        if len(blocks := _blocks(past, table, bins, rows, days)) >= MIN_BLOCKS and (found := calibrate(blocks, (1,)))
    }))  # fmt: skip


def judgeable(past: Past) -> tuple[int, ...]:
    """Lengths of windows that ever hold the least number of rows: the others need no calibration."""
    watch = past.model.monitoring
    return tuple(days for days in watch.windows_days if past.most_rows(days) >= watch.min_rows)


def _blocks(past: Past, table: pa.Table, bins: Bins, rows: Array, days: int) -> Sequence[Sketch]:
    """Blocks of so many days that end with the last row, as `calibrate` cuts them, each counted in one go."""
    first, last = (int(np.searchsorted(past.starts, rows[place], "right")) - 1 for place in (0, -1))
    blocks = (last - first + 1) // days
    ends = past.starts[last + 1 - days * np.arange(blocks, -1, -1)]
    cuts = np.searchsorted(rows, ends)
    return [
        sketch(bins, table.slice(int(start), int(end - start)).to_batches(), 1)
        for start, end in itertools.pairwise(cuts)
    ]
