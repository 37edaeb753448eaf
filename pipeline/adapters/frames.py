"""Stored Parquet tables as typed frames, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.adapters.duck import is_text, quoted, text
from pipeline.core.schema import ColumnFacts, Schema

BATCH_ROWS = 131_072


def column_facts(path: Path, threads: int) -> list[ColumnFacts]:
    """What each column of a snapshot holds, in one pass."""
    schema = pq.read_schema(path)
    parts = []
    for field in schema:
        column = quoted(field.name)
        reads = f"count(try_cast({column} AS DOUBLE))" if is_text(field.type) else f"count({column})"
        parts.append(f"count({column}), {reads}, approx_count_distinct({column})")
    with duckdb.connect(config={"threads": threads, "memory_limit": "512MB"}) as db:
        row = db.execute(f"SELECT {', '.join(parts)} FROM read_parquet({text(str(path))})").fetchone()
    assert row is not None
    return [
        ColumnFacts(
            f.name, _is_number(f.type), pa.types.is_temporal(f.type), row[3 * i], row[3 * i + 1], row[3 * i + 2]
        )
        for i, f in enumerate(schema)
    ]


def batches(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a stored table, in order."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        yield from file.iter_batches(batch_size=BATCH_ROWS, columns=columns)


def typed_number(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """A column as float64 with NaN for missing, and which of its values read as no number: shapes (n,)."""
    if not is_text(column.type):
        values = (
            column.cast(pa.float64())
            if not pa.types.is_boolean(column.type)
            else column.cast(pa.int8()).cast(pa.float64())
        )
        return values.to_numpy(zero_copy_only=False), np.zeros(len(column), dtype=bool)
    try:  # the same numbers, ten times as fast, where every value is one
        numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return numbers, np.isnan(numbers) & column.is_valid().to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        text = column.to_pandas()
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return numbers, np.isnan(numbers) & text.notna().to_numpy()


def typed_category(column: pa.Array) -> np.ndarray:
    """A column as an object array of str, NaN for missing: shape (n,)."""
    if pa.types.is_boolean(column.type):
        values = [None if v is None else str(v) for v in column.to_pylist()]
    else:
        values = column.cast(pa.string()).to_pylist()
    array = np.array(values, dtype=object)
    array[[v is None for v in values]] = np.nan
    return array


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


def read_frame(path: Path, columns: list[str], schema: Schema) -> pd.DataFrame:
    """Some columns of a clean table, whole; with no columns, a frame that only has its number of rows."""
    if not columns:
        return pd.DataFrame(index=pd.RangeIndex(pq.read_metadata(path).num_rows))
    frame = pq.read_table(path, columns=columns).to_pandas()
    categories = [c for c in columns if schema.features.get(c) == "category"]
    typed: pd.DataFrame = frame.astype(dict.fromkeys(categories, object))
    return typed
