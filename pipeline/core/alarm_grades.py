"""Whether past alarms were right: graded when labels arrive, counted as precision and recall."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from pipeline.core.alarms import Alarm
from pipeline.core.situation import Drop
from pipeline.core.verdict import Interval

Grade = Literal["true", "false", "open"]


@dataclass(frozen=True)
class Graded:
    """A confirmed drift alarm, and what labels made of it."""

    alarm: Alarm
    grade: Grade


@dataclass(frozen=True)
class Scorecard:
    """How well alarms announced what then happened to the performance."""

    alarms: int
    true: int
    false: int
    announced: int
    """Drops of the performance with a drift alarm before them."""
    missed: int
    """Those without one."""
    precision: Interval | None
    """True among true and false ones; None: none is graded yet."""
    recall: Interval | None
    """Announced among all drops; None: there was none."""


def grade(alarm: Alarm, drop: Drop | None, margin: float) -> Grade:
    """True where the performance fell with the alarm, false where it did not, open until labels tell.

    `drop`: of the champion that raised the alarm, over the days from `alarm.since` to its end or the champion's.
    `margin`: the share of the registered error from which a drop matters, as of the rules that raised the alarm.
    True asks for a drop beyond doubt whose size matters, false for one that beyond doubt does not matter.

    >>> from datetime import date
    >>> day = date(2026, 3, 4)
    >>> alarm = Alarm("column", "tenure", "confirmed", day, day, day, (day,), (day,), 0, 7, 0.3, 0.1, 0.4, "32 -> 41")
    >>> [grade(alarm, drop, 0.02) for drop in (Drop(0.09, 0.04, 0.14), Drop(0.0, -0.01, 0.01), Drop(0.1, -0.1, 0.3))]
    ['true', 'false', 'open']
    """
    if alarm.level == "suspected" or drop is None or not drop.mature or drop.source != "realised":
        return "open"
    if drop.low > 0 and drop.value >= margin:
        return "true"
    return "false" if drop.high < margin else "open"


def scorecard(graded: Sequence[Graded], drops: Sequence[Alarm], confidence: float = 0.95) -> Scorecard:
    """Precision and recall with their intervals.

    `graded`: confirmed drift alarms of every kind but `performance`. `drops`: confirmed performance alarms. A drop
    is announced by a drift alarm that was confirmed no later than it and still stood when it began.
    """
    true, false = (sum(one.grade == wanted for one in graded) for wanted in ("true", "false"))
    announced = sum(any(_announces(one.alarm, drop) for one in graded) for drop in drops)
    return Scorecard(
        len(graded), true, false, announced, len(drops) - announced,
        wilson(true, true + false, confidence), wilson(announced, len(drops), confidence),
    )  # fmt: skip


def wilson(hits: int, trials: int, confidence: float) -> Interval | None:
    """A share with its score interval (Wilson, Journal of the American Statistical Association 22, 1927).

    None where nothing was tried.

    >>> found = wilson(9, 10, 0.95)
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.9, 0.596, 0.982)
    """
    if trials == 0:
        return None
    z = float(stats.norm.isf((1 - confidence) / 2))
    share = hits / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def _announces(alarm: Alarm, drop: Alarm) -> bool:
    if alarm.confirmed_on is None or drop.confirmed_on is None or alarm.confirmed_on > drop.confirmed_on:
        return False
    return alarm.resolved_on is None or alarm.resolved_on >= drop.since
