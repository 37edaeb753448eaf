"""The past of a model as arrays: every row with the day on which it was met, and the instant its label was known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.adapters.day_sketches import typed_features
from pipeline.adapters.observed import ONE_DAY, day_start, labels_known, observed_days
from pipeline.adapters.observed_files import ENTITY, EVENT, ID
from pipeline.adapters.training_rows import find_classes
from pipeline.config import ModelConfig
from pipeline.core.decision import Payoff
from pipeline.core.labels import class_index
from pipeline.core.paired import Judged
from pipeline.core.schema import Schema
from pipeline.errors import BadConfiguration, NotEnoughData
from pipeline.records import ValidateRecord
from pipeline.settings import Settings

NUMBERED_FROM = date(2000, 1, 1)
"""Where only the order of rows is known, days are numbered from here."""
Array = np.ndarray


@dataclass(frozen=True)
class Past:
    """Rows in the order in which they were met. Arrays have shape (n,)."""

    model: ModelConfig
    schema: Schema
    classes: tuple[str, ...]
    frame: pd.DataFrame
    """The features as the model takes them."""
    target: Array
    """Class index, -1 for none; or float, NaN for none."""
    event: Array
    """datetime64, UTC."""
    label_at: Array
    """When the label was known; NaT where it never was."""
    clusters: Array | None
    """Number of the entity, where entities have several rows."""
    first: date
    starts: Array
    """Row at which each day begins, and the end, shape (days + 1,)."""
    numbered: bool
    """The days are not of the calendar: so many rows each, in their order."""

    @cached_property
    def table(self) -> pa.Table:
        """The features once more, for sketches."""
        return pa.Table.from_pandas(self.frame, preserve_index=False)

    @property
    def last(self) -> date:
        """The last day."""
        return self.first + timedelta(days=len(self.starts) - 2)

    def row_of(self, day: date) -> int:
        """The first row that was not yet met at the start of this day."""
        return int(self.starts[min(max((day - self.first).days, 0), len(self.starts) - 1)])

    def most_rows(self, days: int) -> int:
        """Rows of the fullest window of so many days."""
        length = min(days, len(self.starts) - 1)
        return int((self.starts[length:] - self.starts[:-length]).max())

    def labelled(self, rows: Array, now: date) -> Array:
        """Which of these rows had a label at the start of a day, mask."""
        return np.asarray(self.label_at[rows] <= np.datetime64(now, "us"))

    def judged(self, rows: Array) -> Judged:
        """These rows as metrics take them."""
        clusters = None
        if self.clusters is not None:
            codes = np.unique(self.clusters[rows], return_inverse=True)[1]
            clusters = codes if len(codes) and int(codes.max()) + 1 < len(codes) else None
        payoff = Payoff(**self.model.payoff.model_dump()) if self.model.payoff else None
        threshold = self.model.threshold
        return Judged(self.model.task, self.target[rows], clusters, payoff, threshold, threshold)


def load_past(
    validate: ValidateRecord, model: ModelConfig, until: date | None, cutoff: datetime, rows_a_day: int,
    settings: Settings,
) -> Past:  # fmt: skip
    """The rows of the source, from its first day to `until` or its last.

    With event times: the first copy of each row on the day it arrived, and when its label was known, as the monitors
    read them. Where the order of rows is time: days of `rows_a_day` rows. Raises as `observed_days` does, and
    BadConfiguration for a table without any time.
    """
    if model.time is None:
        raise BadConfiguration(f"{model.name}: a table without time has no past to replay; give the section time")
    clean = settings.home / validate.clean
    schema = Schema.from_json((settings.home / validate.schema).read_text(encoding="utf-8"))
    classes = find_classes(clean, model)
    if model.time.event is None:
        return _numbered(clean, schema, classes, model, until, rows_a_day)
    events = pq.read_table(clean, columns=[model.time.event]).column(0).to_pandas()
    first, last = events.min().date(), min(events.max().date(), until or date.max, cutoff.date() - ONE_DAY)
    if last < first:
        raise NotEnoughData(f"{model.name}: the first row is of {first}, after {last}; choose a later --to")
    source = model.model_copy(update={"monitoring": model.monitoring.model_copy(update={"data": "source"})})
    days = list(observed_days(source, schema, first, last, settings))
    whole = pd.concat([pq.read_table(day.path).to_pandas() for day in days], ignore_index=True)
    labels = labels_known(source, day_start(first), cutoff, settings)
    known_at = pd.to_datetime(labels["known_at"].reindex(whole[ID]), utc=True).dt.tz_localize(None)
    codes = pd.factorize(whole[ENTITY])[0]
    return Past(
        model, schema, classes, typed_features(whole, schema),
        _target(labels["label"].reindex(whole[ID]), classes, model),
        whole[EVENT].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[us]"),
        known_at.to_numpy(dtype="datetime64[us]"), codes if len(codes) and codes.max() + 1 < len(codes) else None,
        first, np.concatenate([[0], np.cumsum([day.rows for day in days])]), numbered=False,
    )  # fmt: skip


def _numbered(
    clean: Path, schema: Schema, classes: tuple[str, ...], model: ModelConfig, until: date | None, rows_a_day: int
) -> Past:
    whole = pq.read_table(clean, columns=[*schema.features, model.target.column]).to_pandas()
    if until is not None:
        whole = whole.head(max(0, (until - NUMBERED_FROM).days + 1) * rows_a_day)
    days = len(whole) // rows_a_day
    if days == 0:
        raise NotEnoughData(f"{model.name}: {len(whole)} rows make no day of {rows_a_day}; choose less --rows-a-day")
    whole = whole.head(days * rows_a_day)  # a day that is not full is left out
    place = np.arange(len(whole))
    start = np.datetime64(NUMBERED_FROM, "us") + (place // rows_a_day) * np.timedelta64(1, "D")
    event = start + (place % rows_a_day) * (np.timedelta64(86_400_000_000, "us") // rows_a_day)
    label_at = event + np.timedelta64(round(model.target.known_after_days * 86_400_000_000), "us")
    label = whole[model.target.column]
    label_at[label.isna().to_numpy()] = np.datetime64("NaT")
    return Past(model, schema, classes, typed_features(whole, schema), _target(label, classes, model), event, label_at,
                None, NUMBERED_FROM, np.arange(0, len(whole) + 1, rows_a_day), numbered=True)  # fmt: skip


def _target(label: pd.Series, classes: tuple[str, ...], model: ModelConfig) -> Array:
    if model.task == "regression":
        return np.asarray(pd.to_numeric(label, errors="coerce").to_numpy(dtype=np.float64))
    return class_index(label.to_numpy(dtype=object), classes)


def instant(value: np.datetime64) -> datetime:
    """As an aware instant."""
    return value.astype("datetime64[us]").item().replace(tzinfo=UTC)  # type: ignore[no-any-return]
