"""Models of the past: each trained on what was known at the start of a day, once for all policies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from pipeline.adapters.replay_past import Array, Past, instant
from pipeline.core.recipe import build
from pipeline.core.split import split_by_rows, split_by_time
from pipeline.errors import NotEnoughData

AHEAD = timedelta(days=28)
"""Rows are scored for so many days at once: a call costs more than the rows in it."""


@dataclass
class TrainedModel:
    """A model, and what it says of the rows that it has not seen, as far as anyone asked."""

    cutoff: date
    pipeline: Any
    train: Array
    """Row numbers."""
    judge: Array
    judge_scores: Array
    fresh_from: int
    """The first row whose event is after all that it learned from or was judged on."""
    said: Array
    said_until: int


def train(past: Past, cutoff: date) -> TrainedModel:
    """The model of the file as it would have been made at the start of this day, with the parameters that stand there.

    Raises NotEnoughData where too few rows, or only one class, had a label by then.
    """
    learned, judge = _parts(past, cutoff)
    least = past.model.split.min_rows
    if min(len(learned), len(judge)) < least:
        raise NotEnoughData(
            f"{past.model.name}: on {cutoff} {len(learned)} labelled rows are left to train and {len(judge)} to judge, "
            f"fewer than split.min_rows={least}; replay from a later day"
        )
    target = past.target[learned]
    both = past.model.task == "regression" or min(len(set(target)), len(set(past.target[judge]))) > 1
    if not both or (past.model.task != "regression" and len(set(target)) < len(past.classes)):
        raise NotEnoughData(f"{past.model.name}: on {cutoff} some class had no labelled row; replay from a later day")
    wanted, frame = past.model.training, past.frame.iloc[learned]
    made = build(wanted.estimator, wanted.parameters, wanted.seed, past.schema.features, frame, wanted.max_onehot)
    with threadpool_limits(limits=1):
        fitted = made.fit(frame, target)  # in one go: the same model as a training run grows with its progress
    fresh = past.event > past.event[judge].max()
    fresh_from = int(fresh.argmax()) if fresh.any() else len(fresh)
    scores = predict(fitted, past.frame.iloc[judge])
    return TrainedModel(cutoff, fitted, learned, judge, scores, fresh_from, scores[:0], fresh_from)


def said(past: Past, model: TrainedModel, rows: Array) -> Array:
    """Scores of rows from `fresh_from` on, as `metrics.evaluate` takes them. `rows`: ascending row numbers."""
    if len(rows) and rows[-1] >= model.said_until:
        day = int(np.searchsorted(past.starts, rows[-1], "right")) - 1
        end = past.row_of(past.first + timedelta(days=day + 1) + AHEAD)
        more = predict(model.pipeline, past.frame.iloc[model.said_until : end])
        model.said, model.said_until = np.concatenate([model.said, more]), end
    return np.asarray(model.said[rows - model.fresh_from])


def predict(pipeline: Any, frame: pd.DataFrame) -> Array:
    """Scores of features, as `metrics.evaluate` takes them."""
    found = pipeline.predict_proba(frame) if hasattr(pipeline, "predict_proba") else pipeline.predict(frame)
    return np.asarray(found, dtype=np.float64)


def fresh_rows(past: Past, models: list[TrainedModel], now: date) -> Array:
    """Rows met before a day that none of these models has seen, ascending."""
    rows = np.arange(max(model.fresh_from for model in models), past.row_of(now))
    last = max(past.event[model.judge].max() for model in models)
    return np.asarray(rows[past.event[rows] > last])


def _parts(past: Past, cutoff: date) -> tuple[Array, Array]:
    """The rows that train and the later ones that judge, of those whose label was known."""
    rows = np.arange(past.row_of(cutoff))
    rows = rows[past.labelled(rows, cutoff)]
    split = past.model.split
    if len(rows) == 0:
        return rows, rows
    if past.numbered:
        cut = split_by_rows(len(rows), test_share=split.test_share, embargo_rows=split.embargo_rows)
        return rows[: cut.train_until], rows[cut.test_from :]
    event = past.event[rows]
    window = split_by_time(
        last_event=instant(event.max()), test_from=_test_from(event, split.test_days, split.test_share),
        train_days=split.train_days, embargo_days=past.model.embargo_days,
    )  # fmt: skip
    test_from, until = _plain(window.test_from), _plain(window.train_until)
    begun = event >= _plain(window.train_from) if window.train_from else np.ones(len(rows), dtype=bool)
    return rows[(event < until) & begun], rows[event >= test_from]


def _test_from(event: Array, days: float | None, share: float) -> datetime:
    if days:
        return instant(event.max()) - timedelta(days=days)
    return instant(np.sort(event)[max(0, int(np.ceil(len(event) * (1 - share))) - 1)])


def _plain(value: datetime) -> np.datetime64:
    return np.datetime64(value.replace(tzinfo=None), "us")
