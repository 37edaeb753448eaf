"""What is known of a champion and a challenger on live traffic, and the rules that they are judged by.

The unit is a user, or a request of nobody: rows of one user are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pipeline.core.experiment_tests import Sample

Strategy = Literal["direct", "shadow", "canary", "ab"]
Decision = Literal["advance", "hold", "roll_back", "promote"]


@dataclass(frozen=True)
class Arm:
    """What one variant did in this step."""

    units: int
    """Users, and requests of nobody, by whom answered them first."""
    answers: int
    failed: int
    """Units with an answer that failed."""
    slow: int
    """Units with an answer slower than the champion's 99th percentile."""
    metric: Sample
    """One value for each labelled unit that met one arm only: the mean of its rows, in the metric's own direction."""
    calibration: Sample | None = None
    """The same of what came true less the probability that was said; None: the task has none."""


@dataclass(frozen=True)
class Arms:
    """Both variants in one step."""

    champion: Arm
    challenger: Arm
    paired: Sample | None = None
    """Shadow: challenger less champion on the same rows, a value for each labelled unit."""
    both: int = 0
    """Users who met both; they count for neither."""
    displaced: int = 0
    """Units answered by another variant than their bucket says, such as testers; they count for neither."""
    looked_at: float = 1.0
    """Share of the units that these are, a power of one half; below 1 they are a sample, of other units than before."""


@dataclass(frozen=True)
class Step:
    """Where the rollout stands."""

    number: int
    strategy: Strategy
    share: float
    """Of the users that meet the challenger; 0 in shadow."""
    hours: float
    """Since it began."""


@dataclass(frozen=True)
class RolloutPolicy:
    """The model file's rules."""

    strategy: Strategy
    metric: str
    shares: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5)
    """Of a canary, rising; 0 is a step in shadow."""
    margin: float = 0.05
    """Share of the champion's figure by which the challenger may be worse."""
    alpha: float = 0.05
    """Chance that a challenger no worse is rolled back, over the whole rollout."""
    min_hours: float = 1.0
    min_requests: int = 200
    """Answers of the challenger in a step."""
    min_labels: int = 100
    """Labelled units in each arm in a step; 0: the guards alone decide while no label is known."""

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.shares) if self.strategy == "canary" else 1

    def after(self, share: float) -> float | None:
        """The next share of the ramp; None: after this one comes the promotion.

        >>> [RolloutPolicy("canary", "accuracy").after(share) for share in (0.0, 0.05, 0.5)]
        [0.01, 0.25, None]
        """
        return next((s for s in self.shares if s > share), None) if self.strategy == "canary" else None


@dataclass(frozen=True)
class RolloutVerdict:
    """What is to be done, and why."""

    decision: Decision
    reasons: tuple[str, ...]
    next_share: float | None = None
    """advance: the share of the next step."""
    labels_needed: int | None = None
    """hold: further labelled units that would settle it at the difference seen."""
    figures: dict[str, float] = field(default_factory=dict)
    """What it rests on."""
