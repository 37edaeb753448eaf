"""What a model met, day by day: rows as they were when they came to be known, and the labels that came later.

A day is a UTC day of arrival, so what belongs to it does not change afterwards: a correction and a label are no
new rows. It is written once, as Parquet; labels are looked up for each cut-off anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.adapters.duck import ROW_GROUP, database, instant, quoted, text
from pipeline.adapters.frames import typed_category, typed_number
from pipeline.adapters.snapshots import ROW, load_source
from pipeline.adapters.sources import open_table
from pipeline.adapters.store import exclusive
from pipeline.config import ModelConfig
from pipeline.core.schema import Schema
from pipeline.errors import BadConfiguration
from pipeline.prediction_rows import answered_rows
from pipeline.rollout import RolloutStore
from pipeline.settings import Settings

ID, ENTITY, EVENT, MET = "__id", "__entity", "__event", "__met"
UNREADABLE = b"evergreen.unreadable"
ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class ObservedDay:
    """Rows of one day in a Parquet file: who and when, the features by the schema, and what slices are made of."""

    day: date
    path: Path
    rows: int
    unreadable: dict[str, int]
    """Values, by column, for which a server would have refused the row: no number, or not finite. Not among `rows`."""


def observed_days(
    model: ModelConfig, schema: Schema, first: date, last: date, settings: Settings
) -> Iterator[ObservedDay]:
    """The days from `first` to `last`, both included; each is written once and found again ever after.

    Raises BadConfiguration where the rows of the source belong to no day, SourceUnreadable, OutsideFailure.
    """
    folder = settings.home / "observed" / model.name / schema.digest[:16]
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    with exclusive(folder / ".lock"):
        missing = [day for day in days if not _path(folder, day).is_file()]
        if missing:
            make = _from_source if model.monitoring.data == "source" else _from_log
            make(model, schema, missing, folder, settings)
    for day in days:
        path = _path(folder, day)
        metadata = pq.read_schema(path).metadata or {}
        yield ObservedDay(day, path, pq.read_metadata(path).num_rows, json.loads(metadata[UNREADABLE]))


def newest_row(days: Sequence[ObservedDay]) -> datetime | None:
    """When the last of these rows was met."""
    instants = [pq.read_table(day.path, columns=[MET]).column(0) for day in reversed(days) if day.rows]
    if not instants:
        return None
    newest: datetime = instants[0].to_pandas().max().to_pydatetime()
    return newest


def day_start(day: date) -> datetime:
    """Midnight, UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _path(folder: Path, day: date) -> Path:
    return folder / f"day={day.isoformat()}.parquet"


def _from_source(model: ModelConfig, schema: Schema, days: list[date], folder: Path, settings: Settings) -> None:
    """First copies of the rows that arrived on these days."""
    if model.time is None or model.time.event is None:
        raise BadConfiguration(
            f"{model.name}: the rows of a table without time.event belong to no day; set monitoring.data to predictions"
        )
    table = open_table(model.source)
    more = [c for c in model.judged_columns if c not in schema.features and c in table.schema.names]
    table.require([*schema.features])
    start, end = day_start(days[0]), day_start(days[-1]) + ONE_DAY
    with database(folder, settings.threads) as db:
        load_source(db, table, model)
        entity = _entity(model)
        columns = [
            f"concat_ws('|', {entity}, strftime(happened, '%Y-%m-%dT%H:%M:%S.%f')) AS {ID}", f"{entity} AS {ENTITY}",
            f"happened AS {EVENT}", f"greatest(happened, arrived) AS {MET}",
            *(quoted(c) for c in (*more, *schema.features)),
        ]  # fmt: skip
        query = (
            f"WITH {_timed(model)} SELECT {', '.join(columns)} FROM (SELECT *, row_number() OVER "
            f"(PARTITION BY {_key(model)} ORDER BY greatest(happened, arrived), {ROW}) AS copy FROM timed) "
            f"WHERE copy = 1 AND greatest(happened, arrived) >= {instant(start)} "
            f"AND greatest(happened, arrived) < {instant(end)} ORDER BY {MET}, {ID}, {ROW}"
        )
        _write_days(db.sql(query).to_arrow_table(), more, schema, days, folder)


def _from_log(model: ModelConfig, schema: Schema, days: list[date], folder: Path, settings: Settings) -> None:
    """The rows that the service answered on these days; what a shadow would have said is none."""
    for day in days:
        answered = answered_rows(model.name, day, settings.log)
        values = [f"json_extract_string(features, {text(_pointer(n))}) AS {quoted(n)}" for n in schema.features]
        with duckdb.connect(config={"threads": settings.threads}) as db:
            db.execute("SET TimeZone = 'UTC'")
            db.register("answered", answered.select(["prediction_id", "user_id", "time", "features"]))
            table = db.sql(
                f"SELECT prediction_id AS {ID}, coalesce(user_id, prediction_id) AS {ENTITY}, "
                f"time AS {EVENT}, time AS {MET}, {', '.join(values)} FROM "
                "(SELECT * REPLACE (CAST(features AS JSON) AS features) FROM answered) ORDER BY time, prediction_id"
            ).to_arrow_table()
        _write_days(table, [], schema, [day], folder)


def _pointer(name: str) -> str:
    """A JSON pointer to one key."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _write_days(table: pa.Table, more: list[str], schema: Schema, days: list[date], folder: Path) -> None:
    """One file a day, whole or not at all."""
    columns: dict[str, pa.Array] = {
        name: table.column(name).cast(pa.string()).combine_chunks() for name in (ID, ENTITY)
    }
    for name in (EVENT, MET):
        columns[name] = table.column(name).cast(pa.timestamp("us", "UTC")).combine_chunks()
    columns |= {name: table.column(name).combine_chunks() for name in more}
    bad: dict[str, np.ndarray] = {}
    for name, kind in schema.features.items():
        column = table.column(name).combine_chunks()
        if kind == "number":
            values, unread = typed_number(column)
            bad[name] = unread | np.isinf(values)
            columns[name] = pa.array(values, pa.float64(), from_pandas=True)
        else:
            columns[name] = pa.array(typed_category(column), pa.string(), from_pandas=True)
    refused = np.any(list(bad.values()), axis=0) if bad else np.zeros(table.num_rows, dtype=bool)
    typed = pa.table(columns)
    met = typed.column(MET).to_pandas().dt.date.to_numpy()
    for day in days:
        today = np.asarray(met == day)
        counted: dict[str, int] = {
            name: int((mask & today).sum()) for name, mask in bad.items() if (mask & today).any()
        }
        rows = typed.filter(pa.array(today & ~refused)).replace_schema_metadata({UNREADABLE: json.dumps(counted)})
        path = _path(folder, day)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        pq.write_table(rows, temporary, compression="zstd", row_group_size=ROW_GROUP)
        temporary.replace(path)


def labels_known(model: ModelConfig, since: datetime, cutoff: datetime, settings: Settings) -> pd.DataFrame:
    """Labels of rows met from `since` on, as known at the cut-off: index id, columns `label` (text) and `known_at`."""
    if model.monitoring.data == "predictions":
        with RolloutStore(settings.database_url) as store:
            found = store.labels(since.timestamp(), cutoff.timestamp())
        rows = [(one.prediction_id, _plain(one.actual), one.received_at) for one in found]
        frame = pd.DataFrame(rows, columns=[ID, "label", "known_at"])
        frame["known_at"] = pd.to_datetime(frame["known_at"], unit="s", utc=True)
        return _by_id(frame)
    with database(_scratch(model, settings), settings.threads) as db:
        load_source(db, open_table(model.source), model)
        target, days = quoted(model.target.column), model.target.known_after_days
        query = f"""
            WITH {_timed(model)}, known AS (
                SELECT *, concat_ws('|', {_entity(model)}, strftime(happened, '%Y-%m-%dT%H:%M:%S.%f')) AS id
                FROM timed WHERE arrived <= {instant(cutoff)} AND happened < {instant(cutoff)}
            ), last AS (
                SELECT id, arg_max({target}, (arrived, -{ROW})) AS label,
                    greatest(min(arrived) FILTER ({target} IS NOT NULL), any_value(happened)
                        + INTERVAL ({days * 86_400}) SECOND) AS known_at, min(greatest(happened, arrived)) AS met
                FROM known GROUP BY id
            )
            SELECT id AS {ID}, CAST(label AS VARCHAR) AS label, known_at FROM last
            WHERE label IS NOT NULL AND known_at <= {instant(cutoff)} AND met >= {instant(since)} ORDER BY id"""
        table = db.sql(query).to_arrow_table()
    frame = table.to_pandas()
    frame["known_at"] = pd.to_datetime(frame["known_at"], utc=True)
    frame["label"] = frame["label"].astype(object)
    return _by_id(frame)


def _by_id(frame: pd.DataFrame) -> pd.DataFrame:
    indexed: pd.DataFrame = frame.set_index(ID)
    return indexed


def _scratch(model: ModelConfig, settings: Settings) -> Path:
    folder = settings.home / "observed" / model.name / f".labels-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _plain(actual: str) -> str | None:
    """A label as JSON in the form in which tables write it.

    >>> _plain("1.0"), _plain("true"), _plain('"Yes"'), _plain("2.5"), _plain("null")
    ('1', '1', 'Yes', '2.5', None)
    """
    value = json.loads(actual)
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return None if value is None else str(value)


def _timed(model: ModelConfig) -> str:
    """SQL: the rows that can be placed in time."""
    assert model.time is not None
    assert model.time.event is not None
    event = quoted(f"__instant_{model.time.event}")
    arrival = quoted(f"__instant_{model.time.arrival}") if model.time.arrival else event
    return (
        f"timed AS (SELECT *, {event} AS happened, {arrival} AS arrived FROM source "
        f"WHERE {event} IS NOT NULL AND {arrival} IS NOT NULL)"
    )


def _entity(model: ModelConfig) -> str:
    """SQL: who a row is about, as one text; a row of nobody is about itself."""
    if not model.entity:
        return f"CAST({ROW} AS VARCHAR)"
    parts = ", ".join(f"CAST({quoted(c)} AS VARCHAR)" for c in model.entity)
    return f"coalesce(nullif(concat_ws('|', {parts}), ''), CAST({ROW} AS VARCHAR))"


def _key(model: ModelConfig) -> str:
    return f"{_entity(model)}, happened"
