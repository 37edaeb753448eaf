"""Snapshots: a source as it was known at a cut-off, through DuckDB, with flat memory.

The rows are streamed into a DuckDB file beside the output, which sorts them outside of memory and gives
them back in one fixed order. The same rows known at the cut-off give the same bytes, whatever else the
source holds and in whatever order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from pipeline.adapters.duck import ROW_GROUP, database, instant, is_text, moment, number, quoted, text, write_parquet
from pipeline.adapters.sources import Table
from pipeline.config import ModelConfig
from pipeline.errors import SourceUnreadable

ROW = "__row"
REASON = "__reason"


@dataclass(frozen=True)
class Snapshot:
    """What became of the rows of a source."""

    rows: int
    rejected_reasons: dict[str, int]
    superseded_rows: int
    later_rows: int
    unmatured_rows: int
    source_rows: int
    first_known: datetime | None
    unchanged_until: datetime | None


def take_snapshot(
    table: Table, model: ModelConfig, cutoff: datetime, snapshot: Path, rejected: Path, threads: int
) -> Snapshot:
    """Write the rows known at the cut-off to `snapshot`, and those that cannot be placed to `rejected`.

    Known is a row whose event lies before the cut-off and that had arrived by it; of several states of a
    row (same entity, same event) the one that arrived last. A label that had not matured is left out.
    Raises SourceUnreadable for a source without rows.
    """
    with database(snapshot.parent, threads) as db:
        load_source(db, table, model)
        source_rows = number(db, "SELECT count(*) FROM source") + table.malformed_count
        if source_rows == 0:
            raise SourceUnreadable(f"{table.where} has a header but no rows; check the source or its export")
        _place(db, model, cutoff)
        names = ", ".join(f"s.{quoted(name)}" for name in table.schema.names)
        _write(db, f"SELECT {_values(table, model, cutoff)} FROM source s JOIN placed p USING ({ROW}) "
                   f"WHERE p.fate = 'known' ORDER BY {_order(model)}", snapshot)  # fmt: skip
        _write(db, f"SELECT {names}, p.fate AS {quoted(REASON)} FROM source s JOIN placed p USING ({ROW}) "
                   f"WHERE p.fate NOT IN ('known', 'later', 'superseded') ORDER BY {ROW}", rejected)  # fmt: skip
        fates = dict(db.execute("SELECT fate, count(*) FROM placed GROUP BY fate ORDER BY fate").fetchall())
        if table.malformed_count:
            fates["line does not split into the columns"] = table.malformed_count
        known, later, superseded = (fates.pop(name, 0) for name in ("known", "later", "superseded"))
        return Snapshot(
            rows=known,
            rejected_reasons=fates,
            superseded_rows=superseded,
            later_rows=later,
            unmatured_rows=number(
                db, f"SELECT count(*) FROM placed WHERE fate = 'known' AND matures > {instant(cutoff)}"
            ),
            source_rows=source_rows,
            first_known=moment(db, "min(known_at)", "FROM placed"),
            unchanged_until=_next_change(db, cutoff),
        )


def load_source(db: duckdb.DuckDBPyConnection, table: Table, model: ModelConfig) -> None:
    """All rows as the table `source`: blanks as missing, a row number ROW, instants read as `__instant_COLUMN`."""
    schema = pa.schema([*table.schema, pa.field(ROW, pa.int64())])

    def numbered() -> Iterator[pa.RecordBatch]:
        count = 0
        for batch in table.batches():
            rows = pa.array(range(count, count + batch.num_rows), pa.int64())
            count += batch.num_rows
            yield pa.RecordBatch.from_arrays([*batch.columns, rows], schema=schema)

    columns = [
        f"nullif(trim({quoted(f.name)}), '') AS {quoted(f.name)}" if is_text(f.type) else quoted(f.name)
        for f in table.schema
    ]
    times = [_instant(table, column, model) for column in _time_columns(model)]
    db.register("stream", pa.RecordBatchReader.from_batches(schema, numbered()))
    db.execute("SET preserve_insertion_order = false")
    db.execute(f"CREATE TABLE source AS SELECT {', '.join([*columns, *times, ROW])} FROM stream")
    db.unregister("stream")


def _time_columns(model: ModelConfig) -> list[str]:
    return [c for c in (model.time.event, model.time.arrival) if c] if model.time else []


def _instant(table: Table, column: str, model: ModelConfig) -> str:
    """SQL that reads a column as an instant, null where it is none."""
    assert model.time is not None
    alias = quoted(f"__instant_{column}")
    if not is_text(table.schema.field(column).type):
        return f"try_cast({quoted(column)} AS TIMESTAMPTZ) AS {alias}"
    if model.time.format:
        form = model.time.format.replace("'", "''")
        return f"try_cast(try_strptime(trim({quoted(column)}), '{form}') AS TIMESTAMPTZ) AS {alias}"
    return f"try_cast(trim({quoted(column)}) AS TIMESTAMPTZ) AS {alias}"


def _place(db: duckdb.DuckDBPyConnection, model: ModelConfig, cutoff: datetime) -> None:
    """Decide each row's fate at the cut-off: known, later, superseded, or the reason it is rejected."""
    if model.time is None or model.time.event is None:
        entity = ", ".join(quoted(c) for c in model.entity)
        fate = "'known'"
        if entity:
            fate = (
                f"CASE WHEN {_any_null(model)} OR row_number() OVER (PARTITION BY {entity} ORDER BY {ROW}) = 1 "
                f"THEN 'known' ELSE 'duplicate {_plain(model.entity)}' END"
            )
        db.execute(
            f"CREATE TABLE placed AS SELECT {ROW}, {fate} AS fate, NULL::TIMESTAMPTZ AS known_at, "
            "NULL::TIMESTAMPTZ AS matures FROM source"
        )
        return
    event = quoted(f"__instant_{model.time.event}")
    arrival = quoted(f"__instant_{model.time.arrival}") if model.time.arrival else event
    bad = [
        f"WHEN {quoted(f'__instant_{c}')} IS NULL AND {quoted(c)} IS NULL THEN {text(f'{c}: empty')} "
        f"WHEN {quoted(f'__instant_{c}')} IS NULL THEN {text(f'{c}: not an instant')}"
        for c in _time_columns(model)
    ]
    parts = ", ".join([*(quoted(c) for c in model.entity), event])
    days = model.target.known_after_days
    keyless = f"CASE WHEN {_any_null(model)} THEN {ROW} END"
    db.execute(f"""
        CREATE TABLE placed AS
        WITH timed AS (
            SELECT *, {event} AS __happened, {arrival} AS __arrived, CASE {" ".join(bad)}
                WHEN NOT ({event} < {instant(cutoff)} AND {arrival} <= {instant(cutoff)}) THEN 'later' END AS __fate
            FROM source
        ), ranked AS (
            SELECT {ROW}, __fate, __happened, __arrived,
                max(__arrived) OVER states AS __last_arrival,
                row_number() OVER (PARTITION BY {parts}, {keyless}, __fate, __arrived ORDER BY {ROW}) AS __copy
            FROM timed WINDOW states AS (PARTITION BY {parts}, {keyless}, __fate)
        )
        SELECT {ROW}, greatest(__happened, __arrived) AS known_at,
            __happened + INTERVAL ({days * 86_400}) SECOND AS matures,
            coalesce(__fate, CASE WHEN __arrived < __last_arrival THEN 'superseded'
                                WHEN __copy > 1 THEN {text(f"duplicate {_plain((*model.entity, model.time.event))}")}
                                ELSE 'known' END) AS fate
        FROM ranked""")


def _values(table: Table, model: ModelConfig, cutoff: datetime) -> str:
    """The columns of the snapshot: instants in UTC, labels that had not matured left out."""
    times = _time_columns(model)
    values = []
    for name in table.schema.names:
        column = f"s.{quoted(name)}"
        if name in times:
            column = f"s.{quoted(f'__instant_{name}')}"
        elif name == model.target.column and times:
            column = f"CASE WHEN p.matures <= {instant(cutoff)} THEN {column} END"
        values.append(f"{column} AS {quoted(name)}")
    return ", ".join(values)


def _order(model: ModelConfig) -> str:
    times = [f"s.{quoted(f'__instant_{model.time.event}')}"] if model.time and model.time.event else []
    return ", ".join([*times, *(f"s.{quoted(c)}" for c in model.entity if times), f"s.{ROW}"])


def _next_change(db: duckdb.DuckDBPyConnection, cutoff: datetime) -> datetime | None:
    """The next instant after the cut-off at which a row becomes known or a label final."""
    soonest = f"least(min(known_at) FILTER (fate = 'later'), min(matures) FILTER (matures > {instant(cutoff)}))"
    return moment(db, soonest, "FROM placed")


def _write(db: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    reader = db.sql(query).to_arrow_reader(ROW_GROUP)
    write_parquet(reader, path)


def _any_null(model: ModelConfig) -> str:
    return " OR ".join(f"{quoted(c)} IS NULL" for c in model.entity) or "false"


def _plain(columns: tuple[str, ...]) -> str:
    return " at ".join(columns).replace("'", "''")
