"""Schema events: facts about today's table that need no test, such as a category that was never seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from pipeline.core.schema import Kind

EventKind = Literal["column missing", "type", "missing", "unseen", "range", "volume", "freshness"]
Severity = Literal["warning", "error"]

MIN_ERROR_ROWS = 10
"""A large share of fewer rows than this is a warning still: one odd row of three is no broken source."""
NO_TYPE = 0.5
"""From this share of unreadable values the column has changed its type, rather than holding odd values."""


@dataclass(frozen=True)
class SchemaRules:
    """What is still ordinary; shares are of the rows of the day."""

    unseen_share: float = 0.0
    """Rows with a category that the reference never showed: more than this is an event."""
    unparseable_share: float = 0.01
    """Values that cannot be read as the column's kind."""
    missing_gain: float = 0.2
    """Missing values above the share of the reference."""
    range_margin: float = 0.5
    """How far beyond the reference's range a number may lie, in widths of that range."""
    range_share: float = 0.001
    """Rows outside of the reference's range; with one beyond the margin among them, more than this is an event."""
    volume_low: float = 0.5
    """Rows of a day against the median of past days: below this is an event."""
    volume_high: float = 3.0
    """And above this."""
    min_past_days: int = 7
    """With fewer past days there is nothing to hold the volume against, but that there are rows at all."""
    max_age_hours: float | None = None
    """Age of the newest row from which the table is stale; None: not asked."""
    error_share: float = 0.2
    """Share of the rows from which an event is an error, not a warning."""


@dataclass(frozen=True)
class ColumnCounts:
    """What one day shows of one column, beside its reference."""

    column: str
    kind: Kind
    rows: int
    missing: int = 0
    missing_reference_share: float = 0.0
    unparseable: int = 0
    unseen: int = 0
    """Category: rows whose value the reference never showed."""
    below: int = 0
    above: int = 0
    """Number: rows outside of the reference's range."""
    lowest: float | None = None
    highest: float | None = None
    """Number: of the day; infinite values count."""
    reference_low: float | None = None
    reference_high: float | None = None
    present: bool = True
    """False: the table has no such column."""
    examples: tuple[str, ...] = ()
    """A few of the unseen or unparseable values."""


@dataclass(frozen=True)
class TableCounts:
    """How much there is of the table, and how fresh."""

    rows: int
    """Of the day."""
    past_rows: tuple[int, ...]
    """Of past days, in any order; give like days, such as the same weekday, where days differ."""
    newest_age_hours: float | None
    """Age of the newest row at the cut-off; None: there is no row."""


@dataclass(frozen=True)
class SchemaEvent:
    """Something that is so, beyond what the rules call ordinary."""

    kind: EventKind
    column: str | None
    """None: the whole table."""
    severity: Severity
    share: float | None
    """Of the rows of the day, where it is about rows."""
    told: str


def schema_events(columns: Sequence[ColumnCounts], table: TableCounts, rules: SchemaRules) -> tuple[SchemaEvent, ...]:
    """All events of a day, errors first, then in the order of the columns.

    A day without rows says nothing of its columns' values.

    >>> tenure = ColumnCounts("tenure", "number", 1000, above=300, lowest=0, highest=86_400, reference_low=0,
    ...                       reference_high=72)
    >>> plan = ColumnCounts("plan", "category", 1000, unseen=5, examples=("plus_2",))
    >>> for event in schema_events([plan, tenure], TableCounts(1000, (980, 1010) * 5, 2.0), SchemaRules()):
    ...     print(f"{event.severity}: {event.told}")
    error: tenure: 30.0% of the rows are outside of 0 to 72, which is all the reference showed: 0 to 86400
    warning: plan: 0.5% of the rows have a value that the reference never showed, such as 'plus_2'
    """
    found = [*_of_table(table, rules)]
    for column in columns:
        found += _of_column(column, rules)
    return tuple(sorted(found, key=lambda event: event.severity != "error"))


def _of_table(table: TableCounts, rules: SchemaRules) -> Iterator[SchemaEvent]:
    age, most = table.newest_age_hours, rules.max_age_hours
    if most is not None and (age is None or age > most):
        told = "there is no row" if age is None else f"the newest row is {age:.0f} hours old"
        yield SchemaEvent("freshness", None, "error", None, f"{told}; {most:g} hours are allowed")
    usual = median(table.past_rows) if len(table.past_rows) >= rules.min_past_days else None
    against = "" if usual is None else f", the median of {len(table.past_rows)} past days is {usual:,.0f}"
    if table.rows == 0 and usual != 0:
        yield SchemaEvent("volume", None, "error", None, f"no rows today{against}")
    elif usual and table.rows < rules.volume_low * usual:
        yield SchemaEvent("volume", None, "warning", None, f"only {table.rows:,} rows today{against}")
    elif usual and table.rows > rules.volume_high * usual:
        yield SchemaEvent("volume", None, "warning", None, f"as many as {table.rows:,} rows today{against}")


def _of_column(column: ColumnCounts, rules: SchemaRules) -> Iterator[SchemaEvent]:
    if not column.present:
        yield SchemaEvent("column missing", column.column, "error", None, f"{column.column}: the column is missing")
        return
    if column.rows == 0:
        return
    such = f", such as {', '.join(map(repr, column.examples))}" if column.examples else ""
    share = column.unparseable / column.rows
    if share > rules.unparseable_share:
        changed = f"; it is no {column.kind} any more" if share >= NO_TYPE else ""
        told = f"{share:.1%} of the rows have a value that is no {column.kind}{such}{changed}"
        yield _event("type", column, column.unparseable, told, rules)
    if column.missing / column.rows > column.missing_reference_share + rules.missing_gain:
        told = f"missing in {column.missing / column.rows:.1%} of the rows, {column.missing_reference_share:.1%} before"
        yield _event("missing", column, column.missing, told, rules)
    if column.unseen / column.rows > rules.unseen_share:
        told = f"{column.unseen / column.rows:.1%} of the rows have a value that the reference never showed{such}"
        yield _event("unseen", column, column.unseen, told, rules)
    outside = column.below + column.above
    if outside / column.rows > rules.range_share and _beyond_margin(column, rules):
        told = (
            f"{outside / column.rows:.1%} of the rows are outside of {column.reference_low:g} to "
            f"{column.reference_high:g}, which is all the reference showed: {column.lowest:g} to {column.highest:g}"
        )
        yield _event("range", column, outside, told, rules)


def _beyond_margin(column: ColumnCounts, rules: SchemaRules) -> bool:
    low, high = column.reference_low, column.reference_high
    if low is None or high is None or column.lowest is None or column.highest is None:
        return False
    margin = rules.range_margin * (high - low)
    return column.lowest < low - margin or column.highest > high + margin


def _event(kind: EventKind, column: ColumnCounts, rows: int, told: str, rules: SchemaRules) -> SchemaEvent:
    share = rows / column.rows
    severity: Severity = "error" if share >= rules.error_share and rows >= MIN_ERROR_ROWS else "warning"
    return SchemaEvent(kind, column.column, severity, share, f"{column.column}: {told}")
