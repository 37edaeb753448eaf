"""The one door to source tables: CSV, Parquet and SQL, streamed as Arrow record batches.

Memory does not grow with rows: a batch at a time is read, wherever the file lies.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import pyarrow as pa
from fsspec.core import url_to_fs

from pipeline.core.digest import digest_of
from pipeline.errors import BadConfiguration, OutsideFailure, SourceUnreadable
from pipeline.sections import Source
from pipeline.settings import secret

BATCH_ROWS = 65_536
KEPT_MALFORMED = 1_000
SUFFIXES = {"csv": (".csv", ".csv.gz", ".tsv", ".txt"), "parquet": (".parquet", ".pq")}


@dataclass
class Table:
    """An opened source: its columns, and its rows once, as a stream."""

    where: str
    schema: pa.Schema
    batches: Callable[[], Iterator[pa.RecordBatch]]
    malformed: list[str] = field(default_factory=list)
    """Lines that do not split into the columns (at most KEPT_MALFORMED are kept); filled while reading."""
    malformed_count: int = 0

    def require(self, columns: list[str]) -> None:
        """Raise SourceUnreadable for the first of these columns that the table lacks."""
        for column in columns:
            if column not in self.schema.names:
                near = get_close_matches(column, self.schema.names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(self.schema.names[:20])}"
                raise SourceUnreadable(f"{self.where} has no column {column!r}; {hint}")


def open_table(source: Source) -> Table:
    """Open the source that a model file names.

    Raises SourceUnreadable (missing, empty, wrong separator or encoding, duplicate columns),
    OutsideFailure (a database that is down), BadConfiguration (an unset variable).
    """
    if source.sql is not None:
        return _open_sql(source.sql.url_variable, source.sql.query)
    assert source.path is not None
    filesystem, files = _files(source)
    kind = source.format or _format_of(files[0])
    table = _open_csv(filesystem, files, source) if kind == "csv" else _open_parquet(filesystem, files, source.path)
    doubles = sorted({name for name in table.schema.names if table.schema.names.count(name) > 1})
    if doubles:
        raise SourceUnreadable(f"{table.where} names the column {doubles[0]!r} more than once; rename one of them")
    return table


def fingerprint(source: Source) -> str | None:
    """A digest that changes when a file of the source does; None where that cannot be told (SQL)."""
    if source.sql is not None:
        return None
    filesystem, files = _files(source)
    return digest_of([[path, filesystem.ukey(path)] for path in files])


def _files(source: Source) -> tuple[Any, list[str]]:
    assert source.path is not None
    try:
        filesystem, path = url_to_fs(source.path)
        if filesystem.isdir(path):
            endings = SUFFIXES[source.format] if source.format else SUFFIXES["csv"] + SUFFIXES["parquet"]
            files = [f for f in filesystem.find(path) if f.endswith(endings)]
        else:
            files = filesystem.glob(path) if any(c in path for c in "*?[") else [path] * filesystem.isfile(path)
    except (ImportError, ValueError, OSError) as error:
        raise SourceUnreadable(f"source.path {source.path!r} cannot be opened: {error}") from error
    if not files:
        raise SourceUnreadable(f"source.path {source.path!r}: no such file; it is looked for from {os.getcwd()}")
    return filesystem, sorted(files)


def _format_of(path: str) -> str:
    for kind, endings in SUFFIXES.items():
        if path.endswith(endings):
            return kind
    raise BadConfiguration(f"cannot tell the format of {path} from its ending; set source.format to csv or parquet")


def _open_csv(filesystem: Any, files: list[str], source: Source) -> Table:
    headers = {path: _header(filesystem, path, source) for path in files}
    first = headers[files[0]]
    for path, names in headers.items():
        if set(names) != set(first):
            odd = sorted(set(names) ^ set(first))
            raise SourceUnreadable(
                f"{path} and {files[0]} differ in the columns {', '.join(odd)}; give them one header"
            )
    schema = pa.schema([(name, pa.string()) for name in first])
    table = Table(str(source.path), schema, lambda: iter(()))
    table.batches = lambda: _read_csv(filesystem, files, source, table)
    return table


def _header(filesystem: Any, path: str, source: Source) -> list[str]:
    try:
        with filesystem.open(path, "rb", compression="infer") as raw:
            lines = io.TextIOWrapper(raw, encoding=source.encoding, newline="")
            names = next(csv.reader(lines, delimiter=source.separator), [])
    except UnicodeError as error:
        raise _wrong_encoding(path, source.encoding, error) from error
    except LookupError:
        raise BadConfiguration(
            f"source.encoding {source.encoding!r} is unknown to Python; utf-8 and latin-1 are usual"
        ) from None
    if names:
        names[0] = names[0].removeprefix("\ufeff")
    if not any(name.strip() for name in names):
        raise SourceUnreadable(f"{path} is empty; it needs a line of column names and rows below it")
    if len(names) == 1:
        for other in ",;\t|":
            if other != source.separator and other in names[0]:
                raise SourceUnreadable(
                    f"{path} has one column, {names[0][:60]!r}, with the separator {source.separator!r}; "
                    f"set source.separator to {other!r}"
                )
    return [name.strip() for name in names]


def _wrong_encoding(path: str, encoding: str, error: Exception) -> SourceUnreadable:
    return SourceUnreadable(f"{path} is not {encoding}: {error}; set source.encoding, for instance to latin-1")


def _read_csv(filesystem: Any, files: list[str], source: Source, table: Table) -> Iterator[pa.RecordBatch]:
    import pyarrow.csv as pc

    def malformed(row: Any) -> str:
        table.malformed_count += 1
        if len(table.malformed) < KEPT_MALFORMED:
            table.malformed.append(row.text or "")
        return "skip"

    for path in files:
        names = _header(filesystem, path, source)
        with filesystem.open(path, "rb", compression="infer") as raw:
            try:
                reader = pc.open_csv(
                    raw,
                    read_options=pc.ReadOptions(
                        encoding=source.encoding, block_size=4 << 20, column_names=names, skip_rows=1, use_threads=False
                    ),
                    parse_options=pc.ParseOptions(
                        delimiter=source.separator, newlines_in_values=True, invalid_row_handler=malformed
                    ),
                    convert_options=pc.ConvertOptions(
                        column_types={name: pa.string() for name in names},
                        include_columns=table.schema.names, strings_can_be_null=True, null_values=[""],
                    ),
                )  # fmt: skip
                yield from reader
            except pa.ArrowInvalid as error:
                if "UTF8" in str(error) or "codec" in str(error):
                    raise _wrong_encoding(path, source.encoding, error) from error
                if "Empty CSV" in str(error) or "only" in str(error):
                    continue  # a header and no rows: counted by the stage, over all files
                raise SourceUnreadable(f"{path} cannot be read as CSV: {error}") from error
            except UnicodeError as error:
                raise _wrong_encoding(path, source.encoding, error) from error


def _open_parquet(filesystem: Any, files: list[str], where: str) -> Table:
    import pyarrow.parquet as pq

    def schema_of(path: str) -> pa.Schema:
        try:
            with filesystem.open(path, "rb") as raw:
                return pq.read_schema(raw).remove_metadata()
        except (pa.ArrowInvalid, OSError) as error:
            raise SourceUnreadable(f"{path} cannot be read as Parquet: {error}") from error

    schemas = [schema_of(path) for path in files]
    try:
        schema = pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise SourceUnreadable(f"the files of {where} give a column different types: {error}") from error
    schema = pa.schema([pa.field(f.name, f.type) for f in schema])

    def batches() -> Iterator[pa.RecordBatch]:
        for path in files:
            with filesystem.open(path, "rb") as raw:
                for batch in pq.ParquetFile(raw, pre_buffer=False).iter_batches(batch_size=BATCH_ROWS):
                    yield _conform(batch, schema)

    return Table(where, schema, batches)


def _conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch in the common schema: absent columns are null, narrower types widen."""
    arrays = [
        batch.column(f.name).cast(f.type) if f.name in batch.schema.names else pa.nulls(batch.num_rows, f.type)
        for f in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _open_sql(url_variable: str, query: str) -> Table:
    import sqlalchemy as sa

    url = secret(url_variable)
    where = f"the query of source.sql at ${url_variable}"

    def rows() -> Iterator[list[dict[str, Any]]]:
        engine = sa.create_engine(url)
        try:
            with engine.connect().execution_options(stream_results=True, yield_per=BATCH_ROWS) as connection:
                for part in connection.execute(sa.text(query)).mappings().partitions():
                    yield [dict(row) for row in part]
        except sa.exc.SQLAlchemyError as error:
            raise OutsideFailure(f"{where} failed: {error}; check the address and the query") from error
        finally:
            engine.dispose()

    head = next(rows(), None)
    if head is None:
        raise SourceUnreadable(f"{where} gives no rows")
    inferred = pa.RecordBatch.from_pylist(head).schema
    schema = pa.schema([(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in inferred])

    def batches() -> Iterator[pa.RecordBatch]:
        for part in rows():
            try:
                yield pa.RecordBatch.from_pylist(part, schema=schema)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise SourceUnreadable(
                    f"{where} changes the type of a column on the way: {error}; cast it in SQL"
                ) from error

    return Table(where, schema, batches)


def describe(source: Source) -> str:
    """The source in a few words, for messages."""
    return source.path or "the query of source.sql"
