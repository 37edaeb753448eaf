"""Evergreen's database: whoever meets it first makes its tables, and others may at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

import pipeline.gauges
import pipeline.rollout  # noqa: F401 - they add their tables
from pipeline.database import Database, tables


def test_many_may_meet_a_fresh_database_at_once(tmp_path):
    def first_use(number: int) -> int:
        database = Database(f"sqlite:///{tmp_path / str(number // 8)}.db")
        with database.transaction() as connection:
            found = len(sa.inspect(connection).get_table_names())
        database.close()
        return found

    for attempt in range(10):
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(first_use, range(attempt * 8, attempt * 8 + 8))) == {len(tables.tables)}
