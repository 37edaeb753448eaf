"""The ledger: every decision about a model, in order, each line sealed by a hash over itself and the one before.

A line that is edited no longer fits its hash; a line that is taken out leaves a gap; one that is replaced with
a hash of its own does not fit the next. Lines cut off at the end are found by the copies of hashes that the
registry keeps on its versions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self

import sqlalchemy as sa

from pipeline.database import Database, tables

Kind = Literal[
    "verdict", "registered", "promoted", "refused", "approved", "rejected", "rolled_back", "staged",
    "alarm", "decision", "retrained", "graded", "breaker_closed",
    "rollout_started", "rollout_judged", "advanced", "withdrawn", "superseded",
]  # fmt: skip
FIRST = "0" * 64
"""What the first line names as the hash before it."""
MOVES: tuple[Kind, ...] = ("promoted", "rolled_back")
"""Lines after which another version answers."""

lines = sa.Table(
    "evergreen_ledger",
    tables,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.String(32), nullable=False, index=True),
    sa.Column("model", sa.String(64), nullable=False, index=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("version", sa.Integer),
    sa.Column("subject", sa.String(64), unique=True, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)


@dataclass(frozen=True)
class Event:
    """A decision that is to be written down."""

    model: str
    kind: Kind
    version: int | None
    body: Mapping[str, Any]
    """Inputs, figures, reasons, run and person, as plain JSON."""
    once: str | None = None
    """A text that names this very decision: written again, it is the line that is there already."""


@dataclass(frozen=True)
class Line:
    """A decision as it was written down."""

    number: int
    at: str
    """ISO 8601, UTC; never earlier than the line before."""
    model: str
    kind: Kind
    version: int | None
    subject: str
    body: dict[str, Any] = field(repr=False)
    previous: str = field(repr=False)
    hash: str = field(repr=False)

    @property
    def instant(self) -> datetime:
        """When it was written."""
        return datetime.fromisoformat(self.at)


@dataclass(frozen=True)
class Fault:
    """A line at which the ledger does not hold together."""

    number: int
    reason: str


class Ledger:
    """Lines are added and read, never changed."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def append(self, event: Event, now: datetime | None = None) -> Line:
        """Write a decision down; one that is there already is returned as it is."""
        with self._database.transaction(writes=True) as connection:
            return append(connection, event, now or datetime.now(UTC))

    def lines(self, model: str | None = None, *kinds: Kind, until: datetime | None = None) -> list[Line]:
        """Lines in order; of one model, of some kinds, up to an instant."""
        query = sa.select(lines).order_by(lines.c.number)
        if model is not None:
            query = query.where(lines.c.model == model)
        if kinds:
            query = query.where(lines.c.kind.in_(kinds))
        if until is not None:
            query = query.where(lines.c.at <= _text(until))
        with self._database.transaction() as connection:
            return [_line(row) for row in connection.execute(query)]

    def last(self, model: str, *kinds: Kind, version: int | None = None, until: datetime | None = None) -> Line | None:
        """The newest of these lines."""
        query = sa.select(lines).where(lines.c.model == model, lines.c.kind.in_(kinds))
        if version is not None:
            query = query.where(lines.c.version == version)
        if until is not None:
            query = query.where(lines.c.at <= _text(until))
        with self._database.transaction() as connection:
            row = connection.execute(query.order_by(lines.c.number.desc()).limit(1)).one_or_none()
        return None if row is None else _line(row)

    def faults(self) -> Iterator[Fault]:
        """Every line at which the chain is broken, in order; nothing where it holds."""
        expected, previous = 1, FIRST
        with self._database.transaction() as connection:
            for row in connection.execute(sa.select(lines).order_by(lines.c.number)):
                if row.number != expected:
                    gone = f"{expected} to {row.number - 1}" if row.number > expected + 1 else str(expected)
                    yield Fault(expected, f"missing: {gone}")
                elif row.previous != previous:
                    yield Fault(row.number, "does not follow the line before it, which was replaced")
                if row.hash != _seal(row):
                    yield Fault(row.number, f"was edited ({row.kind} of {row.model} at {row.at})")
                expected, previous = row.number + 1, row.hash

    def hash_of(self, number: int) -> str | None:
        """The seal of a line; None: there is no such line."""
        with self._database.transaction() as connection:
            return connection.execute(sa.select(lines.c.hash).where(lines.c.number == number)).scalar_one_or_none()

    def count(self) -> int:
        """How many lines there are."""
        with self._database.transaction() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(lines)).scalar_one())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()


def append(connection: sa.Connection, event: Event, now: datetime) -> Line:
    """Write a decision down inside a transaction that also does what was decided."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("LOCK TABLE evergreen_ledger IN SHARE ROW EXCLUSIVE MODE"))
    body = json.dumps(dict(event.body), sort_keys=True, allow_nan=False)
    last = connection.execute(sa.select(lines).order_by(lines.c.number.desc()).limit(1)).one_or_none()
    number = last.number + 1 if last else 1
    name = event.once if event.once is not None else f"line {number}"
    subject = hashlib.sha256(json.dumps([event.model, event.kind, name]).encode()).hexdigest()
    found = connection.execute(sa.select(lines).where(lines.c.subject == subject)).one_or_none()
    if found is not None:
        return _line(found)
    values = {
        "number": number,
        "at": max(_text(now), last.at) if last else _text(now),
        "model": event.model,
        "kind": event.kind,
        "version": event.version,
        "subject": subject,
        "body": body,
        "previous": last.hash if last else FIRST,
    }
    connection.execute(sa.insert(lines).values(**values, hash=_sealed(values)))
    return _line(connection.execute(sa.select(lines).where(lines.c.number == number)).one())


def _seal(row: Any) -> str:
    return _sealed(dict(row._mapping))


def _sealed(values: Mapping[str, Any]) -> str:
    """SHA-256 over every field of a line but the hash itself."""
    names = ("number", "at", "model", "kind", "version", "subject", "body", "previous")
    return hashlib.sha256(json.dumps([values[name] for name in names]).encode()).hexdigest()


def _line(row: Any) -> Line:
    content = dict(row._mapping)
    return Line(**{**content, "body": json.loads(content["body"])})


def _text(instant: datetime) -> str:
    """One form of fixed width, so that texts stand in the order of time."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")
