"""A budget of false alarms, spent: over columns and pairs, over windows, over the days of a year.

Every p-value that is held against these levels is exact or conservative, so a sum of chances bounds what any of
them does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from scipy.special import ndtri

WINDOW_SHARES: Mapping[int, float] = {1: 0.2, 7: 0.3, 30: 0.5}
"""How the year's budget is spent over the usual windows: long ones see small changes, and are worth more."""
LEAST_WEIGHT = 0.01
"""The smallest share of a column's level that one question in it has: its threshold is the furthest out."""


def window_level(false_alarm_share: float, columns: int) -> float:
    """p-value below which a column has changed, where one window on its own may raise a false alarm this often.

    Bonferroni's bound: whatever the columns have to do with each other. Raises ValueError for a share outside of
    (0, 1) or no columns.

    >>> window_level(0.01, 25)
    0.0004
    """
    if not 0 < false_alarm_share < 1 or columns < 1:
        raise ValueError(f"a share in (0, 1) and at least one column, not {false_alarm_share} and {columns}")
    return false_alarm_share / columns


def levels(
    false_alarms_per_year: float, columns: int, windows: Sequence[int] = (1, 7, 30), checks_a_year: int = 365
) -> dict[int, float]:
    """p-value below which a column has changed, for each length of window in days.

    So that the expected number of times that anything begins to look changed in a year without change, and so the
    chance of any, is at most `false_alarms_per_year`. Raises ValueError for a budget that is not positive, or more than
    one a check.

    >>> {days: f"{level:.1e}" for days, level in levels(0.1, 20).items()}
    {1: '2.7e-06', 7: '5.3e-06', 30: '1.6e-05'}
    """
    if not 0 < false_alarms_per_year <= checks_a_year:
        raise ValueError(f"a budget between 0 and {checks_a_year} false alarms a year, not {false_alarms_per_year}")
    every = 365 / checks_a_year
    total = sum(WINDOW_SHARES.get(days, 0.3) for days in windows)
    found = {}
    for days in windows:
        share = false_alarms_per_year * WINDOW_SHARES.get(days, 0.3) / total
        level = share / checks_a_year
        for _ in range(20):  # the more rarely, the more independent: settles within a few rounds
            level = share / (checks_a_year * independent_share(days / every, level / columns))
        found[days] = window_level(min(level, 0.5), columns)
    return found


def independent_share(overlap: float, level: float) -> float:
    """How many independent checks one more check of a moving window is worth, where each covers `overlap` steps.

    The chance that a moving average of independent steps first passes a high threshold at a step, over the chance that
    it is beyond it: local correlation falls as 1 - step / overlap, so it is z^2 / overlap * v(z * sqrt(2 / overlap))
    with v(x) = exp(-0.583 x) (Siegmund, Sequential Analysis, 1985, chapter X). Its largest value over the thresholds
    that a column's questions can have at this level, and never above one.

    >>> independent_share(1, 1e-6), round(independent_share(30, 1e-6), 2)
    (1.0, 0.46)
    """
    if overlap <= 1:
        return 1.0
    near, far = (-float(ndtri(max(chance, 1e-300) / 2)) for chance in (level, level * LEAST_WEIGHT))
    peak = 2 / 0.583 / math.sqrt(2 / overlap)
    rates = [z**2 / overlap * math.exp(-0.583 * z * math.sqrt(2 / overlap)) for z in (near, far)]
    if near < peak < far:
        rates.append(peak**2 / overlap * math.exp(-2))
    return min(1.0, max(rates))
