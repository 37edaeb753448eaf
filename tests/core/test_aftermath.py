"""What becomes of a promotion: whether it helped, and when the predecessor answers again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pipeline.core.aftermath import UNMISTAKABLE, did_it_help
from pipeline.core.retraining import decide_retraining
from pipeline.core.situation import Champion, Drop, Policy, Situation
from pipeline.core.verdict import Difference

NOW = datetime(2026, 6, 1, tzinfo=UTC)
FELL = Drop(0.30, 0.20, 0.40)


def lead(value: float, error: float, degrees: int = 900) -> Difference:
    return Difference(value, value - 2 * error, value + 2 * error, error, "DeLong", degrees)


def action(realised: Drop | None, previous: Difference | None, kind: str = "scheduled", **policy) -> str:
    champion = Champion(NOW - timedelta(days=40), NOW - timedelta(days=39), trained_rows=5000)
    of = Situation(NOW, kind, champion, 800, realised=realised, previous=previous)
    return decide_retraining(of, Policy(**policy)).action


@pytest.mark.parametrize(
    ("realised", "previous", "expected"),
    [
        (FELL, lead(0.035, 0.01), "roll back"),
        (FELL, lead(0.025, 0.01), "nothing"),  # looked at every day
        (FELL, lead(0.03, 0.02), "nothing"),
        (FELL, None, "nothing"),
        (replace(FELL, mature=False), lead(0.03, 0.01), "nothing"),
        (replace(FELL, source="estimated"), lead(0.03, 0.01), "nothing"),
        (Drop(0.1, -0.1, 0.3), lead(0.03, 0.01), "nothing"),
        (None, lead(0.05, 0.01), "roll back"),  # such as one that was bad when it was forced past the gate
        (FELL, lead(0.05, 0.01, degrees=20), "nothing"),
    ],
)
def test_a_champion_goes_back_where_its_predecessor_is_better_beyond_doubt(realised, previous, expected):
    assert action(realised, previous) == expected
    assert action(realised, previous, "backfill") == "nothing"
    assert action(realised, previous, min_regress=0.04) == "nothing"


def test_equals_looked_at_every_day_of_a_hundred_years_are_never_rolled_back():
    rng = np.random.default_rng(3)
    for _ in range(100):
        walk = np.cumsum(rng.normal(size=365)) / np.arange(1, 366)
        errors = 1 / np.sqrt(np.arange(1, 366))
        worst = int(np.argmax(walk / errors))
        assert walk[worst] < UNMISTAKABLE * errors[worst]
        assert action(None, lead(walk[worst], errors[worst])) == "nothing"


@pytest.mark.parametrize(
    ("before", "after", "previous", "helped", "why"),
    [
        (FELL, Drop(0.02, -0.05, 0.09), None, True, "it helped"),
        (FELL, Drop(0.31, 0.25, 0.37), None, None, "unclear"),
        (FELL, Drop(0.60, 0.50, 0.70), None, False, "it did not help"),
        (FELL, Drop(0.02, -0.05, 0.09, mature=False), None, None, "not mature"),
        (FELL, Drop(0.02, -0.05, 0.09, source="estimated"), None, None, "cannot be held against"),
        (None, FELL, None, None, "not known"),
        (FELL, FELL, lead(-0.03, 0.01), True, "better than the replaced champion by 0.0300"),
        (FELL, Drop(0.02, -0.05, 0.09), lead(0.03, 0.01), False, "the replaced champion is better by 0.0300"),
        (FELL, Drop(0.02, -0.05, 0.09), lead(0.00, 0.01), True, "it helped"),
    ],
)
def test_a_retraining_is_judged_by_what_came_after_it(before, after, previous, helped, why):
    found = did_it_help(before, after, previous)
    assert found.helped is helped
    assert why in found.reason


def test_a_gain_too_small_to_matter_is_none():
    assert did_it_help(Drop(0.1, 0.095, 0.105), Drop(0.09, 0.085, 0.095), None, min_gain=0.05).helped is False
