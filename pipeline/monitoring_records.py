"""What the stages that watch a champion hand each other; as `pipeline.records`, small and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.core.verdict import Difference, Interval
from pipeline.records import Record

WatchStatus = Literal["ok", "no champion", "no new day"]
Action = Literal["nothing", "retrain", "roll back", "call a person"]


@dataclass(frozen=True)
class WindowSummary:
    """One window, ending with the day that was checked."""

    days: int
    rows: int
    status: Literal["ok", "insufficient", "not calibrated"]
    level: float
    """Columns whose p-value is at most this have changed."""
    changed: tuple[str, ...]


@dataclass(frozen=True)
class OpenAlarm:
    """A suspicion or an alarm that stands."""

    subject: str
    level: Literal["suspected", "confirmed"]
    since: str
    impact: float
    """Estimated loss, as a share of the champion's error."""
    told: str


@dataclass(frozen=True)
class DetectDriftRecord(Record):
    """What the newest complete day looked like to the champion."""

    status: WatchStatus
    reason: str
    day: str | None
    cutoff: str
    champion: str | None
    """Digest of the champion's package."""
    champion_version: int | None
    rows: int
    """Rows of that day."""
    windows: tuple[WindowSummary, ...]
    alarms: tuple[OpenAlarm, ...]
    told: tuple[str, ...]
    """What began, was confirmed or was resolved on that day."""
    findings: tuple[str, ...]
    """Every change, with why it is an alarm or none."""
    events: tuple[str, ...]
    """Schema events, errors first."""
    details: str | None
    """Everything that was measured, as JSON."""
    report: str | None
    """The same for people, as HTML."""


@dataclass(frozen=True)
class PerformanceWindow:
    """The champion on labelled rows that it never saw."""

    days: int
    first: str
    last: str
    rows: int
    labelled: int
    share_known: float
    status: Literal["mature", "immature", "insufficient"]
    realised: Interval | None
    """Of the primary metric; corrected for the labels that are still to come where immature."""
    drop: float | None
    """Registered less realised, turned so that positive is worse."""
    p_worse: float | None
    estimated: Interval | None
    """The same metric without labels, on the newest rows."""
    told: str


@dataclass(frozen=True)
class WorseSlice:
    """A part of the rows on which the champion is worse than at registration, beyond doubt."""

    name: str
    then: float
    """Its mean loss on the rows that judged it."""
    now: float
    """The same on mature rows that it never saw."""

    @property
    def told(self) -> str:
        """In a few words."""
        return f"{self.name}: loss {self.now:.4f}, {self.then:.4f} at registration"


@dataclass(frozen=True)
class MeasurePerformanceRecord(Record):
    """How good the champion is, as far as labels tell and beyond."""

    status: WatchStatus
    reason: str
    primary: str
    registered: Interval | None
    windows: tuple[PerformanceWindow, ...]
    concept_p: float | None
    cause: str
    """covariates, concept, data fault or unclear; empty where nothing dropped."""
    cause_column: str | None
    explanation: str
    predecessor: Difference | None
    """The champion before it less the champion, on the same fresh rows; positive: the one before is better."""
    predecessor_version: int | None
    alarms: tuple[OpenAlarm, ...]
    told: tuple[str, ...]
    due: tuple[str, ...]
    """Why a decision is due; empty where there is nothing to decide."""
    details: str | None
    drift: DetectDriftRecord
    worse: tuple[WorseSlice, ...] = ()
    """The surest ones; all of them are in its details."""
    worse_slices: int = 0
    """How many there are."""


@dataclass(frozen=True)
class DecideRetrainingRecord(Record):
    """What is to be done."""

    action: Action
    reasons: tuple[str, ...]
    mode: Literal["enabled", "dry_run", "disabled"]
    breaker: Literal["closed", "open"]
    line: int | None
    """Its line of the ledger."""
    performance: MeasurePerformanceRecord
