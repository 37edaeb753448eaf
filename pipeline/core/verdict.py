"""What the gate says, and the figures it says it with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Interval:
    """A metric with its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """PROMOTE, HOLD or REJECT, with every reason."""

    decision: Literal["PROMOTE", "HOLD", "REJECT"]
    reasons: tuple[str, ...]
