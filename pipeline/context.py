"""Where in time a run stands: its model, its cut-off, and what started it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from pipeline.errors import BadConfiguration

Kind = Literal["manual", "scheduled", "asset", "backfill"]


@dataclass(frozen=True)
class RunContext:
    """A run's only notion of "now" is its cut-off: the instant up to which it may know anything."""

    model: str
    cutoff: datetime
    """Aware, UTC."""
    run_id: str
    kind: Kind = "manual"

    @property
    def label(self) -> str:
        """The cut-off as a folder name.

        >>> RunContext("churn", parse_instant("2026-06-01"), "r1").label
        '20260601T000000Z'
        """
        text = self.cutoff.strftime("%Y%m%dT%H%M%S")
        return f"{text}.{self.cutoff.microsecond:06d}Z" if self.cutoff.microsecond else f"{text}Z"


def cutoff_of(label: str) -> datetime:
    """The inverse of `RunContext.label`.

    >>> cutoff_of("20260601T000000.250000Z").isoformat()
    '2026-06-01T00:00:00.250000+00:00'
    """
    return datetime.strptime(label, "%Y%m%dT%H%M%S.%fZ" if "." in label else "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def parse_instant(text: str) -> datetime:
    """An ISO 8601 date or instant as an aware UTC datetime; without a zone it is UTC.

    Raises BadConfiguration for anything else.

    >>> parse_instant("2026-06-01T02:00:00+02:00").isoformat()
    '2026-06-01T00:00:00+00:00'
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise BadConfiguration(
            f"{text!r} is not an instant; write it like 2026-06-01 or 2026-06-01T02:00:00Z"
        ) from None
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def run_context(
    model: str,
    *,
    run_id: str,
    kind: str,
    triggered_at: datetime,
    interval_end: datetime | None = None,
    requested_cutoff: str | None = None,
    event_cutoff: str | None = None,
) -> RunContext:
    """Turn whatever started a run into its cut-off.

    Scheduled and backfill runs: the end of their data interval. Manual runs: the cut-off asked for,
    else the trigger time. Asset events: the instant the event carries, else the trigger time.
    `kind` is Airflow's run type; "asset_triggered" and "asset_materialization" count as "asset".

    Raises BadConfiguration for a backfill or scheduled run without an interval, and for an unknown kind.

    >>> noon = datetime(2026, 6, 2, 12, tzinfo=UTC)
    >>> run_context("churn", run_id="r", kind="backfill", triggered_at=noon,
    ...             interval_end=datetime(2026, 1, 1, tzinfo=UTC)).cutoff.isoformat()
    '2026-01-01T00:00:00+00:00'
    """
    if kind.startswith("asset"):
        kind = "asset"
    if kind not in get_args(Kind):
        raise BadConfiguration(f"run type {kind!r} is none of {', '.join(get_args(Kind))}")
    if kind in ("scheduled", "backfill"):
        if interval_end is None:
            raise BadConfiguration(f"the {kind} run {run_id} has no data interval; use a timetable that gives one")
        cutoff = interval_end
    elif kind == "asset":
        cutoff = parse_instant(event_cutoff) if event_cutoff else triggered_at
    else:
        cutoff = parse_instant(requested_cutoff) if requested_cutoff else triggered_at
    return RunContext(model, cutoff.astimezone(UTC), run_id, kind)  # type: ignore[arg-type]
