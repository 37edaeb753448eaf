"""Rows that pass, typed; rows that do not, with their reason. Streamed, a batch at a time."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.adapters.expectations import RowChecks
from pipeline.adapters.frames import batches, typed_category, typed_number
from pipeline.adapters.snapshots import REASON
from pipeline.config import ModelConfig
from pipeline.core.schema import Schema
from pipeline.errors import NotEnoughData


@dataclass
class Separated:
    """What became of the rows of a snapshot."""

    clean: int = 0
    quarantined: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    digest: str = ""
    targets: Counter[Any] = field(default_factory=Counter)
    """How often each target value occurs among the clean rows (classification)."""
    labelled: int = 0

    def require_target(self, model: ModelConfig, where: str) -> None:
        """Raise NotEnoughData where the target cannot be learned."""
        column = model.target.column
        if self.labelled == 0:
            raise NotEnoughData(f"{where}: no row has a final label in {column!r}; choose a later --cutoff")
        if model.task == "regression":
            return
        values = sorted(self.targets, key=str)
        if len(values) < 2:
            raise NotEnoughData(
                f"{where}: the target {column!r} has one value, {values[0]!r}, "
                f"in all {self.labelled} rows; there is nothing to learn"
            )
        if model.task == "binary" and len(values) > 2:
            raise NotEnoughData(
                f"{where}: the target {column!r} of a binary model has {len(values)} values, such as {values[:4]}; "
                "set task: multiclass, or mend the source"
            )


def separate(
    snapshot: Path, schema: Schema, model: ModelConfig, checks: RowChecks, clean_path: Path, quarantine_path: Path
) -> Separated:
    """Write the rows that pass to `clean_path` and the others, as they came, to `quarantine_path`."""
    outcome = Separated()
    reasons: Counter[str] = Counter()
    typed = {*schema.features, model.target.column}
    clean_schema = _clean_schema(schema, model, pq.read_schema(snapshot))
    raw_schema = pq.read_schema(snapshot).append(pa.field(REASON, pa.string()))
    with (
        pq.ParquetWriter(clean_path, clean_schema, compression="zstd") as clean,
        pq.ParquetWriter(quarantine_path, raw_schema, compression="zstd") as quarantine,
    ):
        for batch in batches(snapshot):
            frame, broken = _typed(batch, schema, model)
            broken |= checks.check(frame)
            bad = np.zeros(len(frame), dtype=bool)
            for reason, mask in broken.items():
                reasons[reason] += int(mask.sum())
                bad |= mask
            if bad.any():
                texts = pa.array(list(_reasons(broken, bad)), pa.string())
                quarantine.write_table(pa.table([*batch.filter(pa.array(bad)).columns, texts], schema=raw_schema))
            clean.write_table(_clean(batch, frame, ~bad, clean_schema, typed))
            _count(outcome, frame[model.target.column][~bad], model)
            outcome.clean += int((~bad).sum())
            outcome.quarantined += int(bad.sum())
    outcome.reasons = {reason: count for reason, count in sorted(reasons.items()) if count}
    with clean_path.open("rb") as file:
        outcome.digest = hashlib.file_digest(file, "sha256").hexdigest()[:32]
    return outcome


def set_apart(
    quarantine: Path, schema: Schema, event: str, target: str, first: datetime | None, until: datetime
) -> pa.Table:
    """Quarantined rows with a label and `first` <= event < `until`: event and features, in the types of a clean table.

    A row with a number that is none or not finite is left out, as it is of a day that monitoring observes.
    """
    raw = pq.read_schema(quarantine)
    types = [pa.field(n, pa.float64() if k == "number" else pa.string()) for n, k in schema.features.items()]
    kinds = pa.schema([*types, pa.field(event, raw.field(event).type)])
    found = []
    for batch in batches(quarantine, [*schema.features, event, target]):
        instants = pc.cast(batch.column(event), pa.timestamp("us", "UTC"))
        labelled = pc.invert(pc.is_null(batch.column(target), nan_is_null=True))
        wanted = pc.and_(labelled, pc.less(instants, pa.scalar(until, instants.type)))
        if first is not None:
            wanted = pc.and_(wanted, pc.greater_equal(instants, pa.scalar(first, instants.type)))
        found.append(_as_observed(batch.filter(wanted), kinds, schema))
    return pa.concat_tables([kinds.empty_table(), *found])


def _as_observed(batch: pa.RecordBatch, kinds: pa.Schema, schema: Schema) -> pa.Table:
    columns = []
    good = np.ones(batch.num_rows, dtype=bool)
    for kept in kinds:
        column, kind = batch.column(kept.name), schema.features.get(kept.name)
        if kind == "number":
            column, unreadable = typed_number(column)
            good &= ~(unreadable | np.isinf(column))
        elif kind == "category":
            column = typed_category(column)
        columns.append(pa.array(column, kept.type, from_pandas=True) if kind else column)
    return pa.table(columns, schema=kinds).filter(pa.array(good))


def _clean(
    batch: pa.RecordBatch, frame: pd.DataFrame, good: np.ndarray, schema: pa.Schema, typed: set[str]
) -> pa.Table:
    """The good rows: who and when as they came, the rest as typed."""
    mask = pa.array(good)
    columns = []
    for column in schema:
        if column.name in typed:
            columns.append(pa.array(frame[column.name].to_numpy()[good], column.type, from_pandas=True))
        else:
            columns.append(batch.column(column.name).filter(mask))
    return pa.table(columns, schema=schema)


def _clean_schema(schema: Schema, model: ModelConfig, raw: pa.Schema) -> pa.Schema:
    fields = [
        pa.field(c, raw.field(c).type) for c in _kept(model) if c not in schema.features and c != model.target.column
    ]
    target = pa.float64() if model.task == "regression" else pa.string()
    features = [pa.field(n, pa.float64() if k == "number" else pa.string()) for n, k in schema.features.items()]
    return pa.schema([*fields, pa.field(model.target.column, target), *features])


def _kept(model: ModelConfig) -> list[str]:
    """Columns beside features and target that later stages need: who, when, and what the gate groups by."""
    event = [model.time.event] if model.time and model.time.event else []
    return list(dict.fromkeys([*model.entity, *event, *model.judged_columns]))


def _typed(batch: pa.RecordBatch, schema: Schema, model: ModelConfig) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The batch in the types of the schema, and which rows could not be typed, by reason."""
    columns: dict[str, Any] = {}
    broken: dict[str, np.ndarray] = {}
    for name in model.entity:
        columns[name] = batch.column(name).to_pandas()
    target = batch.column(model.target.column)
    if model.task == "regression":
        columns[model.target.column] = _number(target, model.target.column, broken)
    else:
        columns[model.target.column] = typed_category(target)
    for name, kind in schema.features.items():
        values = batch.column(name)
        columns[name] = _number(values, name, broken) if kind == "number" else typed_category(values)
    return pd.DataFrame(columns), broken


def _number(column: pa.Array, name: str, broken: dict[str, np.ndarray]) -> np.ndarray:
    values, unreadable = typed_number(column)
    if unreadable.any():
        broken[f"{name}: not a number"] = unreadable
    return values


def _reasons(broken: dict[str, np.ndarray], bad: np.ndarray) -> Iterator[str]:
    for row in np.flatnonzero(bad):
        yield "; ".join(reason for reason, mask in broken.items() if mask[row])


def _count(outcome: Separated, labels: pd.Series, model: ModelConfig) -> None:
    known = labels.dropna()
    outcome.labelled += len(known)
    if model.task != "regression":
        outcome.targets.update(known.value_counts().to_dict())
