"""DuckDB and Parquet with flat memory and fixed bytes; names and values as SQL."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP = 131_072
MEMORY_LIMIT = "512MB"
"""What DuckDB may hold in memory; the rest goes to a file. Chosen so that a stage stays below 1.5 GiB."""


@contextmanager
def database(folder: Path, threads: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that spills into `folder` and leaves nothing there."""
    path = folder / "rows.duckdb"
    connection = duckdb.connect(
        str(path),
        config={
            "memory_limit": MEMORY_LIMIT, "threads": threads, "temp_directory": str(folder / "spill"),
            "autoinstall_known_extensions": False, "autoload_known_extensions": False,
        },
    )  # fmt: skip
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    except duckdb.Error as error:
        if "No space left" in str(error) or "failed to offload" in str(error):
            raise OSError(errno.ENOSPC, str(error)) from error
        raise
    finally:
        connection.close()
        path.unlink(missing_ok=True)
        path.with_suffix(".duckdb.wal").unlink(missing_ok=True)


def write_parquet(reader: pa.RecordBatchReader, path: Path) -> int:
    """Write a stream as Parquet with row groups of fixed size, so that equal rows are equal bytes."""
    with RowGroups(path, reader.schema) as groups:
        for batch in reader:
            groups.add(pa.Table.from_batches([batch]))
    return groups.rows


class RowGroups:
    """A Parquet file that is written piece by piece, in row groups of fixed size whatever the pieces."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Opens the file."""
        self.rows = 0
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", write_statistics=True)
        self._pending: list[pa.Table] = []
        self._waiting = 0

    def add(self, table: pa.Table) -> None:
        """Further rows."""
        self._pending.append(table)
        self._waiting += table.num_rows
        self.rows += table.num_rows
        if self._waiting >= ROW_GROUP:
            joined = pa.concat_tables(self._pending).combine_chunks()
            whole = self._waiting - self._waiting % ROW_GROUP
            self._writer.write_table(joined.slice(0, whole), row_group_size=ROW_GROUP)
            self._pending, self._waiting = [joined.slice(whole)], self._waiting - whole

    def close(self, metadata: Mapping[str, str] | None = None) -> None:
        """Write what waits; `metadata` goes into the footer."""
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._pending).combine_chunks(), row_group_size=ROW_GROUP)
            self._pending, self._waiting = [], 0
        if metadata:
            self._writer.add_key_value_metadata(dict(metadata))
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def number(db: duckdb.DuckDBPyConnection, query: str) -> int:
    """The single number that a query gives."""
    row: Any = db.execute(query).fetchone()
    return int(row[0])


def moment(db: duckdb.DuckDBPyConnection, instant_sql: str, rest: str) -> datetime | None:
    """The single instant that `SELECT instant_sql rest` gives, aware UTC; None for null."""
    row: Any = db.execute(f"SELECT epoch_us({instant_sql}) {rest}").fetchone()
    return None if row[0] is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row[0])


def is_text(kind: pa.DataType) -> bool:
    """Whether a column is stored as text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def quoted(name: str) -> str:
    """A column name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text as SQL."""
    return "'" + value.replace("'", "''") + "'"


def instant(value: datetime) -> str:
    """An instant as SQL."""
    return f"TIMESTAMPTZ '{value.isoformat()}'"
