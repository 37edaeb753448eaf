"""Cutting a clean table into the rows that train and the rows that judge, through DuckDB."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import duckdb

from pipeline.adapters.duck import ROW_GROUP, database, instant, moment, number, quoted, text, write_parquet
from pipeline.config import ModelConfig
from pipeline.core.split import TimeSplit, split_by_rows, split_by_time

PART = "__part"


@dataclass(frozen=True)
class Parts:
    """How many rows went where."""

    train: int
    test: int
    unlabelled: int
    embargoed: int
    outside: int
    window: TimeSplit | None


def cut(clean: Path, model: ModelConfig, train: Path, test: Path, threads: int) -> Parts:
    """Write the two parts, in the order of the clean table. No row is in both.

    With event time the later rows judge; where the order of rows is time, the last ones do; otherwise a
    row's part is told by MD5 over its entity, so that an entity keeps its part for ever.
    """
    label = f"{quoted(model.target.column)} IS NOT NULL"
    with database(train.parent, threads) as db:
        db.execute(
            "CREATE VIEW rows AS SELECT *, file_row_number AS __row "
            f"FROM read_parquet({text(str(clean))}, file_row_number=true)"
        )
        window = None
        if model.time and model.time.event:
            event = quoted(model.time.event)
            window = _window(db, model, event, label)
            if window is None:
                part = "'unlabelled'"
            else:
                too_old = f"{event} < {instant(window.train_from)}" if window.train_from else "false"
                part = (
                    f"CASE WHEN NOT {label} THEN 'unlabelled' WHEN {event} >= {instant(window.test_from)} THEN 'test' "
                    f"WHEN {event} >= {instant(window.train_until)} THEN 'embargoed' "
                    f"WHEN {too_old} THEN 'outside' ELSE 'train' END"
                )
        elif model.time:
            labelled = number(db, f"SELECT count(*) FROM rows WHERE {label}")
            split = split_by_rows(labelled, test_share=model.split.test_share, embargo_rows=model.split.embargo_rows)
            nth = f"count(*) FILTER (WHERE {label}) OVER (ORDER BY __row) - 1"
            part = (
                f"CASE WHEN NOT {label} THEN 'unlabelled' WHEN {nth} >= {split.test_from} THEN 'test' "
                f"WHEN {nth} >= {split.train_until} THEN 'embargoed' ELSE 'train' END"
            )
        else:
            part = f"CASE WHEN NOT {label} THEN 'unlabelled' ELSE {hash_part(model, model.split.test_share)} END"
        db.execute(f"CREATE TABLE parts AS SELECT __row, {part} AS {PART} FROM rows")
        counts = dict(db.execute(f"SELECT {PART}, count(*) FROM parts GROUP BY 1").fetchall())
        for name, path in (("train", train), ("test", test)):
            query = (
                f"SELECT r.* EXCLUDE (__row, file_row_number) FROM rows r JOIN parts p USING (__row) "
                f"WHERE p.{PART} = '{name}' ORDER BY __row"
            )
            write_parquet(db.sql(query).to_arrow_reader(ROW_GROUP), path)
    train_rows, test_rows, unlabelled, embargoed, outside = (
        counts.get(name, 0) for name in ("train", "test", "unlabelled", "embargoed", "outside")
    )
    return Parts(train_rows, test_rows, unlabelled, embargoed, outside, window)


def hash_part(model: ModelConfig, test_share: float) -> str:
    """SQL for the part of a row by its entity: 'test' or 'train'. A larger share only adds entities to the test."""
    entity = ", ".join(f"CAST({quoted(c)} AS VARCHAR)" for c in model.entity)
    limit = f"{round(test_share * 16**8) - 1:08x}"
    return f"CASE WHEN md5(concat_ws(chr(31), {entity}))[1:8] <= '{limit}' THEN 'test' ELSE 'train' END"


def _window(db: duckdb.DuckDBPyConnection, model: ModelConfig, event: str, label: str) -> TimeSplit | None:
    last = moment(db, f"max({event})", f"FROM rows WHERE {label}")
    if last is None:
        return None
    if model.split.test_days:
        test_from = last - timedelta(days=model.split.test_days)
    else:
        found = moment(db, f"quantile_disc({event}, {1 - model.split.test_share})", f"FROM rows WHERE {label}")
        assert found is not None
        test_from = found
    return split_by_time(
        last_event=last, test_from=test_from, train_days=model.split.train_days, embargo_days=model.embargo_days
    )
