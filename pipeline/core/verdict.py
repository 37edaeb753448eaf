"""What the gate says, and the figures it says it with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Decision = Literal["PROMOTE", "HOLD", "REJECT"]
Outcome = Literal["pass", "unclear", "fail"]


@dataclass(frozen=True)
class Interval:
    """A metric with its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Candidate less champion in one metric on the same rows, turned so that positive is better."""

    value: float
    low: float
    high: float
    standard_error: float
    method: str
    degrees: int
    """Degrees of freedom: independent entities less one."""


@dataclass(frozen=True)
class SliceResult:
    """A part of the rows, judged on its own."""

    name: str
    declared: bool
    rows: int
    candidate_loss: float
    """Mean loss of the candidate there: Brier score, or the error that the model file decides by."""
    champion_loss: float | None
    p_value: float | None
    """Chance to see this much harm or more if there were none beyond the margin; not yet corrected."""
    outcome: Outcome
    told: str


@dataclass(frozen=True)
class Check:
    """One thing that was asked of the candidate."""

    kind: Literal["floor", "slice", "fairness", "behaviour", "latency", "comparison", "law"]
    name: str
    outcome: Outcome
    told: str


@dataclass(frozen=True)
class Wear:
    """How worn the rows that judge are, and what that costs."""

    candidates: float
    """Candidates judged on these rows, this one included; partly shared rows count in part."""
    confidence: float
    """Two-sided confidence that is asked for a promotion instead of the model file's."""


@dataclass(frozen=True)
class Evidence:
    """Everything that the verdict rests on."""

    rows: int
    entities: int
    compared_rows: int
    """Rows of these that the champion had not learned from either."""
    checks: tuple[Check, ...]
    slices: tuple[SliceResult, ...]
    slices_searched: int
    wear: Wear | None
    labels_needed: int | None
    """Further labels that would settle the comparison at the difference seen."""


@dataclass(frozen=True)
class Verdict:
    """PROMOTE, HOLD or REJECT, with every reason."""

    decision: Decision
    reasons: tuple[str, ...]
    mode: Literal["enabled", "dry_run", "disabled"] = "enabled"
    judged: Decision | None = None
    """What the gate would have said, where it is not enabled."""
