"""What each policy cost, which of them no other beats, and which one to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.core.metric_names import higher_is_better
from pipeline.core.replay_policies import NamedPolicy
from pipeline.core.replay_walk import Walk


@dataclass(frozen=True)
class Prices:
    """What things cost, in one currency of the user's choice."""

    retraining: float = 1.0
    """One retraining: computing, review, risk."""
    error: float = 10.0
    """One per cent of the metric, lost over the whole replayed span."""


@dataclass(frozen=True)
class Outcome:
    """A policy with what came of it."""

    policy: str
    metric: float
    """The primary metric over all rows, each scored by the champion of its time."""
    months: tuple[tuple[str, float], ...]
    """The same by month, such as ("2026-03", 0.84); months in which it is not defined are left out."""
    retrainings: int
    alarms: int | None
    """None: it was not watched."""
    calls: int
    lost_percent: float
    """How much of the best policy's metric is lost; of an error or a loss, how much is added to it."""
    price: float
    on_frontier: bool
    """No other policy is as good with fewer retrainings, or better with as many."""


def price(
    walks: Sequence[Walk], policies: Sequence[NamedPolicy], metrics: Mapping[str, float],
    months: Mapping[str, tuple[tuple[str, float], ...]], primary: str, prices: Prices,
) -> tuple[Outcome, ...]:  # fmt: skip
    """Every policy priced, in the order given. `metrics` and `months`: of each policy by its name."""
    best = (max if higher_is_better(primary) else min)(metrics.values())
    points = [(walk.retrainings, metrics[walk.policy]) for walk in walks]
    best_of = frontier(points, primary)
    outcomes = []
    for walk, named, kept in zip(walks, policies, best_of, strict=True):
        lost = lost_percent(best, metrics[walk.policy])
        watched = named.wants_drift or named.wants_performance
        outcomes.append(Outcome(
            walk.policy, metrics[walk.policy], months[walk.policy], walk.retrainings,
            len(walk.of("alarm")) if watched else None, len(walk.of("called")), lost,
            walk.retrainings * prices.retraining + lost * prices.error, kept,
        ))  # fmt: skip
    return tuple(outcomes)


def lost_percent(best: float, value: float) -> float:
    """Distance from the best, as a percentage of the best.

    >>> round(lost_percent(0.8, 0.76), 6), round(lost_percent(10.0, 12.0), 6), lost_percent(0.0, 0.0)
    (5.0, 20.0, 0.0)
    """
    return 100 * abs(best - value) / abs(best) if best != value and best else 0.0


def frontier(points: Sequence[tuple[int, float]], primary: str) -> list[bool]:
    """Which points (retrainings, metric) no other dominates; of equal points, the first.

    >>> frontier([(0, 0.70), (4, 0.80), (6, 0.80), (9, 0.79), (12, 0.81)], "roc_auc")
    [True, True, False, False, True]
    """
    sign = 1 if higher_is_better(primary) else -1
    turned = [(count, sign * value) for count, value in points]

    def beaten(place: int) -> bool:
        count, value = turned[place]
        return any(
            other <= count and theirs >= value and ((other, theirs) != (count, value) or number < place)
            for number, (other, theirs) in enumerate(turned)
            if number != place
        )

    return [not beaten(place) for place in range(len(turned))]


def propose(outcomes: Sequence[Outcome]) -> Outcome:
    """The cheapest on the frontier; of equal prices the one with fewer retrainings."""
    return min((one for one in outcomes if one.on_frontier), key=lambda one: (one.price, one.retrainings))


def reason(chosen: Outcome, outcomes: Sequence[Outcome], primary: str, prices: Prices) -> str:
    """Why this one, in one line."""
    others = sorted((one for one in outcomes if one is not chosen), key=lambda one: one.price)
    next_best = f", before {others[0].policy} at {others[0].price:.1f}" if others else ""
    return (
        f"{chosen.policy} is the cheapest on the frontier: {primary} {chosen.metric:.4f} with {chosen.retrainings} "
        f"retrainings costs {chosen.price:.1f}{next_best} (a retraining {prices.retraining:g}, "
        f"one per cent of the metric {prices.error:g})"
    )


def section(named: NamedPolicy) -> str:
    """The policy as the model file's section `retraining`, one line of YAML.

    >>> from pipeline.core.replay_policies import named_policies
    >>> from pipeline.core.situation import Policy
    >>> section(named_policies(["never"], Policy(), 7)[0])
    'retraining: {mode: disabled}'
    """

    def written(value: object) -> str:
        return (
            str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else f"{value}"
        )

    return "retraining: {" + ", ".join(f"{key}: {written(value)}" for key, value in named.section) + "}"
