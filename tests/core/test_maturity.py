"""Labels that come late, and later for some classes than for others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.maturity import MaturityCurve, fixed_maturity, maturity_curve, standing_for


def history(rows: int, rng: np.random.Generator, days: float = 120.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Delays (NaN where still to come), ages and classes: negatives come in days, positives take weeks."""
    ages = rng.uniform(0, days, rows)
    classes = (rng.random(rows) < 0.3).astype(int)
    delays = np.where(classes == 1, 30 * rng.random(rows), rng.exponential(3.0, rows).clip(max=30))
    return np.where(delays <= ages, delays, np.nan), ages, classes


def test_the_curve_of_each_class_is_found_though_young_rows_show_only_quick_labels():
    curve = maturity_curve(*history(40_000, np.random.default_rng(1)), horizon_days=30)
    ages = np.array([3.0, 9.0, 15.0, 24.0, 30.0])
    assert curve.of_class(ages, np.ones(5)) == pytest.approx(ages / 30, abs=0.015)
    assert curve.of_class(ages, np.zeros(5))[:-1] == pytest.approx(1 - np.exp(-ages[:-1] / 3), abs=0.015)
    assert curve.share_known(ages) == pytest.approx(0.3 * ages / 30 + 0.7 * (1 - np.exp(-ages / 3)), abs=0.015)


def test_labels_that_never_come_are_not_waited_for():
    rng = np.random.default_rng(2)
    delays, ages, _ = history(20_000, rng)
    never = rng.random(20_000) < 0.4
    curve = maturity_curve(np.where(never, np.nan, delays), ages, horizon_days=30)
    assert curve.share_ever == pytest.approx(0.6, abs=0.02)
    assert curve.share_known(np.array([30.0])) == 1
    assert curve.lag_days(0.5) == pytest.approx(maturity_curve(delays, ages, horizon_days=30).lag_days(0.5), abs=0.3)


def test_a_class_that_is_hardly_ever_seen_takes_the_curve_of_all():
    delays, ages, classes = history(2_000, np.random.default_rng(3))
    classes[:5] = 2
    curve = maturity_curve(delays, ages, classes, horizon_days=30)
    assert sorted(curve.by_class) == [0, 1]
    assert curve.of_class(np.array([9.0]), np.array([2])) == curve.share_known(np.array([9.0]))


def test_without_recorded_delays_labels_are_there_from_one_day_on():
    curve = fixed_maturity(30)
    assert curve.lag_days(0.95) == 30
    assert standing_for(curve, np.array([1.0, 29.0, 30.0, 90.0]), np.array([0, 1, 0, 1])).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("delays", "ages"), [([np.nan, np.nan], [40.0, 50.0]), ([1.0, 2.0], [5.0, 6.0]), ([35.0], [90.0])]
)
def test_a_curve_without_labels_or_without_rows_old_enough_is_refused(delays, ages):
    with pytest.raises(ValueError, match="known_after_days"):
        maturity_curve(np.array(delays), np.array(ages), horizon_days=30)


@given(
    st.lists(
        st.tuples(st.floats(0, 40), st.floats(0, 100), st.integers(0, 2)), min_size=1, max_size=200
    )
)  # fmt: skip
def test_a_curve_rises_from_nothing_to_everything(rows):
    delays, ages, classes = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    delays = np.where(delays <= ages, delays, np.nan)
    ages, delays = np.append(ages, 100.0), np.append(delays, 30.0)
    curve: MaturityCurve = maturity_curve(delays, ages, np.append(classes, 0).astype(int), horizon_days=30)
    asked = np.linspace(0, 60, 61)
    for known in (curve.share_known(asked), *(curve.of_class(asked, np.full(61, c)) for c in range(3))):
        assert (np.diff(known) >= -1e-12).all()
        assert known.min() >= 0
        assert known[-1] == pytest.approx(1)
    weights = standing_for(curve, asked, np.zeros(61))
    assert weights.max() <= 10 + 1e-9
