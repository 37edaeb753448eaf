"""Rows that a champion met, with what it says of them and the labels known at a cut-off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.adapters.champion_reference import ChampionReference
from pipeline.adapters.day_sketches import score, typed_features
from pipeline.adapters.frames import batches
from pipeline.adapters.observed import day_start, labels_known, observed_days
from pipeline.adapters.observed_files import ENTITY, EVENT, ID
from pipeline.config import ModelConfig
from pipeline.core.labels import class_index
from pipeline.core.paired import Judged
from pipeline.core.sampling import in_sample, thin
from pipeline.records import RegisterRecord
from pipeline.settings import Settings

MOST_ROWS = 200_000
"""Rows that are looked at; of more days than that holds a sample is, evenly over all of them."""
Array = np.ndarray


@dataclass(frozen=True)
class MetRows:
    """In order of their event. Arrays have shape (n,)."""

    table: pd.DataFrame
    """Features, and what slices are made of."""
    features: tuple[str, ...]
    scores: Array
    actual: Array
    """Class index, -1 for a class that the champion does not know and where no label is known; or float, NaN there."""
    known: Array
    """Whether the label is known."""
    event: Array
    """datetime64, UTC."""
    ages_days: Array
    """From the event to the cut-off."""
    delays_days: Array
    """From the event to its label; NaN where none is known."""
    clusters: Array | None
    share: float
    """Of the rows that were met; below 1 it is a sample."""

    @property
    def frame(self) -> pd.DataFrame:
        """The features as the model takes them."""
        return self.table[list(self.features)]

    def only(self, rows: Array) -> MetRows:
        """Some of the rows; `rows` is a mask."""
        clusters = None if self.clusters is None else np.unique(self.clusters[rows], return_inverse=True)[1]
        return replace(
            self, table=self.table[rows].reset_index(drop=True), scores=self.scores[rows], actual=self.actual[rows],
            known=self.known[rows], event=self.event[rows], ages_days=self.ages_days[rows],
            delays_days=self.delays_days[rows], clusters=clusters,
        )  # fmt: skip

    def between(self, start: datetime, end: datetime) -> MetRows:
        """Events from `start` on and before `end`."""
        low, high = (np.datetime64(one.replace(tzinfo=None), "us") for one in (start, end))
        return self.only((self.event >= low) & (self.event < high))

    def judged(self, champion: ChampionReference) -> Judged:
        """As the metrics take them."""
        reference = champion.measured()
        return Judged(reference.task, self.actual, self.clusters, reference.payoff, reference.threshold,
                      reference.threshold)  # fmt: skip


def met_rows(
    champion: ChampionReference, model: ModelConfig, first: date, last: date, cutoff: datetime, settings: Settings
) -> MetRows:
    """What was met on the days from `first` to `last`; see `unseen` for those that the champion had not seen.

    Raises as `observed_days` does.
    """
    schema = champion.schema
    days = list(observed_days(model, schema, first, last, settings))
    met = (pa.Table.from_batches([batch]) for day in days if day.rows for batch in batches(day.path))
    kept, share = thin(met, lambda table: table[ID].to_numpy(), MOST_ROWS)
    tables = [table.to_pandas() for table in kept if table.num_rows]
    whole = pd.concat(tables, ignore_index=True) if tables else pq.read_table(days[-1].path).to_pandas()
    whole = whole.sort_values([EVENT, ID], kind="stable").reset_index(drop=True)
    labels = labels_known(model, day_start(first), cutoff, settings, lambda ids: in_sample(ids, share))
    label = labels["label"].reindex(whole[ID]).to_numpy(dtype=object)
    known_at = pd.to_datetime(labels["known_at"].reindex(whole[ID])).to_numpy(dtype="datetime64[us]")
    event = whole[EVENT].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    now = np.datetime64(cutoff.replace(tzinfo=None), "us")
    known = np.array([value is not None and value == value for value in label], dtype=bool)
    delays = (known_at - event) / np.timedelta64(1, "D")
    codes = pd.factorize(whole[ENTITY])[0]
    more = [c for c in model.judged_columns if c in whole.columns and c not in schema.features]
    table = pd.concat([typed_features(whole, schema), whole[more]], axis=1)
    return MetRows(
        table=table, features=tuple(schema.features), scores=score(champion.predictor, table[list(schema.features)]),
        actual=_actual(label, champion), known=known, event=event,
        ages_days=np.asarray((now - event) / np.timedelta64(1, "D"), dtype=np.float64),
        delays_days=np.where(known, np.asarray(delays, dtype=np.float64), np.nan),
        clusters=codes if len(codes) and int(codes.max()) + 1 < len(codes) else None, share=share,
    )  # fmt: skip


def unseen(rows: MetRows, registers: Sequence[RegisterRecord]) -> MetRows:
    """Without the rows that any of these versions learned from or was judged on."""
    ends = [r.evaluate.train.prepare.test_until for r in registers]
    last = max((datetime.fromisoformat(end) for end in ends if end is not None), default=None)
    if last is None:
        return rows
    return rows.only(rows.event > np.datetime64(last.astimezone(UTC).replace(tzinfo=None), "us"))


def _actual(label: Array, champion: ChampionReference) -> Array:
    if champion.model.task == "regression":
        return pd.to_numeric(pd.Series(label), errors="coerce").to_numpy(dtype=np.float64)
    return class_index(label, champion.classes)
