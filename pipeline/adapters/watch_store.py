"""What was seen of a champion on each day: the memory between one check and the next, and the history for people."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, Self

import sqlalchemy as sa

from pipeline.database import Database, tables

Monitor = Literal["drift", "performance"]

watched = sa.Table(
    "evergreen_watch",
    tables,
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("monitor", sa.String(16), primary_key=True),
    sa.Column("champion", sa.String(64), primary_key=True),
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("cutoff", sa.String(32), nullable=False),
    sa.Column("run_kind", sa.String(16), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)


@dataclass(frozen=True)
class Watched:
    """One day of one champion, by one monitor."""

    model: str
    monitor: Monitor
    champion: str
    """Digest of its package."""
    day: date
    version: int
    cutoff: datetime
    """Up to when was known what was seen."""
    run_kind: str
    body: dict[str, Any] = field(repr=False)
    """As plain JSON."""


class WatchStore:
    """Days are written once: a second run of the same day finds what the first one kept."""

    def __init__(self, url: str) -> None:
        """`url` is SQLAlchemy's; nothing is opened yet."""
        self._database = Database(url)

    def keep(self, found: Watched) -> Watched:
        """Keep a day, unless it is kept already; what is kept comes back."""
        with self._database.transaction(writes=True) as connection:
            here = connection.execute(sa.select(watched).where(_which(found))).one_or_none()
            if here is not None:
                return _watched(here)
            connection.execute(sa.insert(watched).values(_values(found)))
        return found

    def last(self, model: str, monitor: Monitor, champion: str, before: date) -> Watched | None:
        """The newest day of this champion before a day."""
        query = (
            sa.select(watched)
            .where(watched.c.model == model, watched.c.monitor == monitor, watched.c.champion == champion)
            .where(watched.c.day < before.isoformat())
            .order_by(watched.c.day.desc())
            .limit(1)
        )
        with self._database.transaction() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _watched(row)

    def days(
        self, model: str, monitor: Monitor, since: date, until: date, champion: str | None = None
    ) -> list[Watched]:
        """Days from `since` to `until`, both included, in order; of one champion or of all."""
        query = (
            sa.select(watched)
            .where(watched.c.model == model, watched.c.monitor == monitor)
            .where(watched.c.day.between(since.isoformat(), until.isoformat()))
            .order_by(watched.c.day, watched.c.version)
        )
        if champion is not None:
            query = query.where(watched.c.champion == champion)
        with self._database.transaction() as connection:
            return [_watched(row) for row in connection.execute(query)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()


def _which(found: Watched) -> Any:
    return sa.and_(
        watched.c.model == found.model, watched.c.monitor == found.monitor,
        watched.c.champion == found.champion, watched.c.day == found.day.isoformat(),
    )  # fmt: skip


def _values(found: Watched) -> dict[str, Any]:
    return {
        "model": found.model, "monitor": found.monitor, "champion": found.champion, "day": found.day.isoformat(),
        "version": found.version, "cutoff": found.cutoff.isoformat(), "run_kind": found.run_kind,
        "body": json.dumps(found.body, sort_keys=True, allow_nan=False),
    }  # fmt: skip


def _watched(row: Any) -> Watched:
    return Watched(
        row.model, row.monitor, row.champion, date.fromisoformat(row.day), row.version,
        datetime.fromisoformat(row.cutoff), row.run_kind, json.loads(row.body),
    )  # fmt: skip
