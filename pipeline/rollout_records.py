"""What judging a rollout leaves: small, frozen, JSON; as `pipeline.records`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.records import Record


@dataclass(frozen=True)
class JudgeRolloutRecord(Record):
    """The verdict about the step at which a rollout stood, and what was done."""

    status: Literal["judged", "nothing on trial", "too early"]
    decision: Literal["advance", "hold", "roll_back", "promote"]
    reasons: tuple[str, ...]
    done: str
    """What was done, in one line; empty: nothing."""
    cutoff: str
    champion: int | None
    challenger: int | None
    strategy: str
    share: float
    """Of the users that met the challenger."""
    step: int
    labels_needed: int | None
    figures: dict[str, float]
    line: int | None
    """Number of the ledger line; None: it was not written down."""
