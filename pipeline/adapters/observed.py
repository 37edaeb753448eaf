"""What a model met, day by day: rows as they were when they came to be known, and the labels that came later.

A day is a UTC day of arrival, so what belongs to it does not change afterwards: a correction and a label are no
new rows. It is written once, as Parquet; labels are looked up for each cut-off anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.adapters.duck import ROW_GROUP, database, instant, quoted, text
from pipeline.adapters.frames import typed_category
from pipeline.adapters.observed_files import ENTITY, EVENT, ID, MET, REFUSED, write_days
from pipeline.adapters.snapshots import ROW, load_source
from pipeline.adapters.sources import open_table
from pipeline.adapters.store import exclusive
from pipeline.config import ModelConfig
from pipeline.core.schema import Schema
from pipeline.errors import BadConfiguration
from pipeline.prediction_rows import answered_parts
from pipeline.rollout import Label, RolloutStore
from pipeline.settings import Settings

ONE_DAY = timedelta(days=1)
ANSWERED = ("prediction_id", "user_id", "time", "features")
Wanted = Callable[[np.ndarray], np.ndarray]
"""A mask of identifiers."""


@dataclass(frozen=True)
class ObservedDay:
    """Rows of one day in a Parquet file: who and when, the features by the schema, and what slices are made of."""

    day: date
    path: Path
    rows: int
    unreadable: dict[str, int]
    """Values, by column, for which a server would have refused the row: no number, or not finite. Not among `rows`."""
    refused: int
    """Rows with such values."""

    @property
    def arrived(self) -> int:
        """All rows of the day."""
        return self.rows + self.refused


def observed_days(
    model: ModelConfig, schema: Schema, first: date, last: date, settings: Settings
) -> Iterator[ObservedDay]:
    """The days from `first` to `last`, both included; each is written once and found again ever after.

    Raises BadConfiguration where the rows of the source belong to no day, SourceUnreadable, OutsideFailure.
    """
    folder = settings.home / "observed" / model.name / f"{model.monitoring.data}-{schema.digest[:16]}"
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    with exclusive(folder / ".lock"):
        missing = [day for day in days if not _path(folder, day).is_file()]
        if missing:
            make = _from_source if model.monitoring.data == "source" else _from_log
            make(model, schema, missing, folder, settings)
    for day in days:
        path = _path(folder, day)
        footer = pq.read_metadata(path)
        counted = json.loads(footer.metadata[REFUSED.encode()])
        yield ObservedDay(day, path, footer.num_rows, counted["values"], counted["rows"])


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
    start, end = day_start(days[0]), day_start(days[-1]) + ONE_DAY
    with database(folder, settings.threads) as db:
        load_source(db, table, model)
        entity = _entity(model)
        columns = [
            f"concat_ws('|', {entity}, strftime(__happened, '%Y-%m-%dT%H:%M:%S.%f')) AS {ID}", f"{entity} AS {ENTITY}",
            f"__happened AS {EVENT}", f"greatest(__happened, __arrived) AS {MET}",
            *(quoted(c) for c in more),
            # A column that has vanished is one without values: an event of the day, and no end of watching.
            *(quoted(c) if c in table.schema.names else f"NULL::TEXT AS {quoted(c)}" for c in schema.features),
        ]  # fmt: skip
        query = (
            f"WITH {_timed(model)} SELECT {', '.join(columns)} FROM (SELECT *, row_number() OVER "
            f"(PARTITION BY {_key(model)} ORDER BY greatest(__happened, __arrived), {ROW}) AS __copy FROM timed) "
            f"WHERE __copy = 1 AND greatest(__happened, __arrived) >= {instant(start)} "
            f"AND greatest(__happened, __arrived) < {instant(end)} ORDER BY {MET}, {ID}, {ROW}"
        )
        write_days(db.sql(query).to_arrow_reader(ROW_GROUP), more, schema, days, partial(_path, folder))


def _from_log(model: ModelConfig, schema: Schema, days: list[date], folder: Path, settings: Settings) -> None:
    """The rows that the service answered on these days; what a shadow would have said is none."""
    keys = ", ".join(text(_pointer(name)) for name in schema.features)
    values = [f"v[{place}] AS {quoted(name)}" for place, name in enumerate(schema.features, 1)]
    with database(folder, settings.threads) as db:
        for day in days:
            db.execute("CREATE OR REPLACE TABLE answered (id TEXT, entity TEXT, time TIMESTAMPTZ, features TEXT)")
            for part in answered_parts(model.name, day, settings.log, ANSWERED):
                db.register("part", part)
                entity = "coalesce(user_id, prediction_id)"
                db.execute(f"INSERT INTO answered SELECT prediction_id, {entity}, time, features FROM part")
                db.unregister("part")
            rows = db.sql(
                f"SELECT id AS {ID}, entity AS {ENTITY}, time AS {EVENT}, time AS {MET}, {', '.join(values)} FROM "
                f"(SELECT *, json_extract_string(features, [{keys}]) AS v FROM answered) ORDER BY time, id"
            ).to_arrow_reader(ROW_GROUP)
            write_days(_once(rows), [], schema, [day], partial(_path, folder))


def _once(rows: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """Without rows that have the identifier of the row before them."""

    def fresh() -> Iterator[pa.RecordBatch]:
        last = None
        for batch in rows:
            ids = batch.column(ID).to_numpy(zero_copy_only=False)
            if len(ids):
                new = ids != np.concatenate([[last], ids[:-1]])
                last = ids[-1]
                yield batch if new.all() else batch.filter(pa.array(new))

    return pa.RecordBatchReader.from_batches(rows.schema, fresh())


def _pointer(name: str) -> str:
    """A JSON pointer to one key."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def labels_known(
    model: ModelConfig, since: datetime, cutoff: datetime, settings: Settings, wanted: Wanted | None = None
) -> pd.DataFrame:
    """Labels of rows met from `since` on, as known at the cut-off: index id, columns `label` (text) and `known_at`.

    `wanted`: only labels of these; they are read piece by piece, so that memory holds no more than them.
    """
    if model.monitoring.data == "predictions":
        with RolloutStore(settings.database_url) as store:
            parts = [_told(some, wanted) for some in store.labels(since.timestamp(), cutoff.timestamp())]
        frame = pd.concat([_told([], None), *parts], ignore_index=True)
        frame["known_at"] = pd.to_datetime(frame["known_at"], unit="s", utc=True)
        return _by_id(frame)
    with database(_scratch(model, settings), settings.threads) as db:
        load_source(db, open_table(model.source), model)
        target, days = quoted(model.target.column), model.target.known_after_days
        query = f"""
            WITH {_timed(model)}, known AS (
                SELECT concat_ws('|', {_entity(model)}, strftime(__happened, '%Y-%m-%dT%H:%M:%S.%f')) AS {ID}, {ROW},
                    {target} AS __label, __happened, __arrived
                FROM timed WHERE __arrived <= {instant(cutoff)} AND __happened < {instant(cutoff)}
            ), last AS (
                SELECT {ID}, arg_max(__label, (__arrived, -{ROW})) AS label,
                    greatest(min(__arrived) FILTER (__label IS NOT NULL), any_value(__happened)
                        + INTERVAL ({days * 86_400}) SECOND) AS known_at, min(greatest(__happened, __arrived)) AS met
                FROM known GROUP BY {ID}
            )
            SELECT {ID}, label, known_at FROM last
            WHERE label IS NOT NULL AND known_at <= {instant(cutoff)} AND met >= {instant(since)} ORDER BY {ID}"""
        rows = db.sql(query).to_arrow_reader(ROW_GROUP)
        parts = [_some(batch, wanted).to_pandas() for batch in rows]
    frame = pd.concat([_told([], None), *parts], ignore_index=True)
    frame["known_at"] = pd.to_datetime(frame["known_at"], utc=True)
    return _by_id(frame[frame["label"].notna()])


def _told(labels: Sequence[Label], wanted: Wanted | None) -> pd.DataFrame:
    """What the service was told, as a frame; `known_at` in seconds since 1970."""
    if wanted is not None and labels:
        mask = wanted(np.array([one.prediction_id for one in labels], dtype=object))
        labels = [one for one, mine in zip(labels, mask, strict=True) if mine]
    return pd.DataFrame({
        ID: pd.Series([one.prediction_id for one in labels], dtype=object),
        "label": pd.Series([_plain(one.actual) for one in labels], dtype=object),
        "known_at": pd.Series([one.received_at for one in labels], dtype=np.float64),
    })  # fmt: skip


def _some(batch: pa.RecordBatch, wanted: Wanted | None) -> pa.RecordBatch:
    """The wanted ones, their labels written as the classes are: 1.0 is 1."""
    if wanted is not None:
        batch = batch.filter(pa.array(wanted(batch.column(ID).to_numpy(zero_copy_only=False))))
    label = batch.column("label")
    if pa.types.is_floating(label.type):
        label = pc.if_else(pc.is_nan(label), None, label)
    return batch.set_column(1, "label", pa.array(typed_category(label), pa.string(), from_pandas=True))


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
        f"timed AS (SELECT *, {event} AS __happened, {arrival} AS __arrived FROM source "
        f"WHERE {event} IS NOT NULL AND {arrival} IS NOT NULL)"
    )


def _entity(model: ModelConfig) -> str:
    """SQL: who a row is about, as one text; a row of nobody is about itself."""
    if not model.entity:
        return f"CAST({ROW} AS VARCHAR)"
    parts = ", ".join(f"CAST({quoted(c)} AS VARCHAR)" for c in model.entity)
    return f"coalesce(nullif(concat_ws('|', {parts}), ''), CAST({ROW} AS VARCHAR))"


def _key(model: ModelConfig) -> str:
    return f"{_entity(model)}, __happened"
