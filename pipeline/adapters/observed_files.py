"""Writing the observed days: a stream of rows in the order of time becomes one Parquet file a day, in flat memory."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.adapters.duck import RowGroups
from pipeline.adapters.frames import typed_category, typed_number
from pipeline.core.schema import Schema

ID, ENTITY, EVENT, MET = "__id", "__entity", "__event", "__met"
REFUSED = "evergreen.refused"
"""Key of a file's metadata: `values`, by column, for which a server would have refused the row, and `rows`, as JSON."""
DAY_MICROSECONDS = 86_400_000_000
EPOCH = date(1970, 1, 1).toordinal()


def write_days(
    rows: pa.RecordBatchReader,
    more: Sequence[str],
    schema: Schema,
    days: Sequence[date],
    path_of: Callable[[date], Path],
) -> None:
    """Each of the days into its file, whole or not at all; a day without rows is a file without rows.

    `rows`: ID, ENTITY, EVENT, MET, `more` and the features of the schema, as they were read, in the order of MET; all
    of them were met on one of `days`. A row with a number that cannot be read is counted, and left out.
    """
    kinds = pa.schema([
        (ID, pa.string()), (ENTITY, pa.string()), (EVENT, pa.timestamp("us", "UTC")), (MET, pa.timestamp("us", "UTC")),
        *((name, rows.schema.field(name).type) for name in more),
        *((name, pa.float64() if kind == "number" else pa.string()) for name, kind in schema.features.items()),
    ])  # fmt: skip
    waiting = list(days)
    file = _DayFile(waiting.pop(0), path_of, kinds)
    try:
        for batch in rows:
            typed, bad = _typed(batch, kinds, schema)
            refused = np.any(list(bad.values()), axis=0) if bad else np.zeros(batch.num_rows, dtype=bool)
            met = typed[MET].cast(pa.int64()).to_numpy() // DAY_MICROSECONDS + EPOCH
            for ordinal in np.unique(met):
                while file.day.toordinal() < ordinal:
                    file.finish()
                    file = _DayFile(waiting.pop(0), path_of, kinds)
                today = met == ordinal
                file.add(typed.filter(pa.array(today & ~refused)), {n: int((b & today).sum()) for n, b in bad.items()},
                         int((refused & today).sum()))  # fmt: skip
        file.finish()
        for day in waiting:
            file = _DayFile(day, path_of, kinds)
            file.finish()
    finally:
        file.drop()


def _typed(batch: pa.RecordBatch, kinds: pa.Schema, schema: Schema) -> tuple[pa.Table, dict[str, np.ndarray]]:
    """The rows as they are kept; and by column of numbers which of them cannot be, masks."""
    columns: dict[str, pa.Array] = {}
    bad: dict[str, np.ndarray] = {}
    for field in kinds:
        column, kind = batch.column(field.name), schema.features.get(field.name)
        if kind == "number":
            values, unread = typed_number(column)
            bad[field.name] = unread | np.isinf(values)
            column = pa.array(values, pa.float64(), from_pandas=True)
        elif kind == "category":
            column = pa.array(typed_category(column), pa.string(), from_pandas=True)
        columns[field.name] = column.cast(field.type)
    return pa.table(columns, schema=kinds), bad


class _DayFile:
    """A day that is being written."""

    def __init__(self, day: date, path_of: Callable[[date], Path], kinds: pa.Schema) -> None:
        self.day = day
        self._path = path_of(day)
        self._temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        self._groups = RowGroups(self._temporary, kinds)
        self._unreadable: Counter[str] = Counter()
        self._refused = 0

    def add(self, rows: pa.Table, unreadable: dict[str, int], refused: int) -> None:
        self._groups.add(rows)
        self._unreadable.update({name: count for name, count in unreadable.items() if count})
        self._refused += refused

    def finish(self) -> None:
        """It is there."""
        self._groups.close({REFUSED: json.dumps({"values": dict(self._unreadable), "rows": self._refused})})
        self._temporary.replace(self._path)

    def drop(self) -> None:
        """Leave nothing half-written."""
        self._groups.close()
        self._temporary.unlink(missing_ok=True)
