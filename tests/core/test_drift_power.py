"""False alarms and power of the drift tests, in worlds whose truth is known. Seeds are fixed, bounds are stated.

The full sizes are in `python -m benchmarks.drift`; here they are smaller, and the bounds allow for that.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.drift.alarms import COLUMNS, REFERENCE, SHARE, false_alarm, half_sigma, interval, seen
from benchmarks.drift.worlds import CHANGES
from benchmarks.drift.years import alarmed_share, quiet_year
from pipeline.core.drift_bins import make_bins
from pipeline.core.drift_budget import independent_share, levels, window_level
from pipeline.core.drift_calibration import Calibration, calibrate
from pipeline.core.drift_columns import category_tests, number_tests
from pipeline.core.drift_count import sketch
from pipeline.core.drift_test import compare
from pipeline.core.sketch import Sketch

CHANGE = {change.name: change for change in CHANGES}


def test_of_four_hundred_windows_without_change_about_one_in_a_hundred_is_called_changed():
    found = sum(false_alarm(REFERENCE, rows, seed) for rows in (100, 500, 1_000, 10_000) for seed in range(100))
    assert interval(found, 400)[0] <= SHARE  # expected 4, and at most 9 in all but one of a hundred such tests
    assert found <= 9


@pytest.mark.parametrize("rows", [100, 10_000])
def test_p_values_without_change_are_no_smaller_than_they_say(rows):
    rng = np.random.default_rng([1, rows])
    heavy = np.concatenate([[0.6], np.full(20, 0.4 / 20)])  # much of the mass at one value
    for shares in (np.full(64, 1 / 64), heavy, np.array([0.995, 0.005]), 0.8 ** np.arange(40)):
        reference, current = (rng.multinomial(number, shares / shares.sum(), 5_000) for number in (REFERENCE, rows))
        nothing = np.zeros(len(current), dtype=int)
        p_values = np.concatenate([
            number_tests(reference[part], current[part], nothing[part], nothing[part]).p_value
            for part in (slice(at, at + 500) for at in range(0, 5_000, 500))
        ])  # fmt: skip
        for level in (0.01, 0.001):
            assert interval(int((p_values <= level).sum()), 5_000)[0] <= level


def test_a_long_tail_of_rare_names_is_no_change_though_each_day_brings_new_ones():
    rng = np.random.default_rng(5)
    shares = 1 / np.arange(1, 3_001)
    shares /= shares.sum()
    called = 0
    for _ in range(200):
        reference, current = rng.multinomial(5_000, shares), rng.multinomial(2_000, shares)
        called += category_tests(reference, current, 0, 0).p_value[0] <= 0.01
    assert interval(called, 200)[0] <= 0.01


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("mean .1 sigma", 0.98),
        ("scale 1.1", 0.98),
        ("3 % of rows change from the 1st to the 2nd of 50 names", 0.90),
        ("new category .5 %", 0.98),
        ("missing 1 % -> 3 %", 0.98),
        ("correlation .6 -> .3", 0.98),
    ],
)
def test_a_plain_change_in_ten_thousand_rows_is_seen(name, least):
    assert np.mean([seen(CHANGE[name], 10_000, seed).ours for seed in range(100)]) >= least


@pytest.mark.parametrize("name", ["t4, mean .04 sigma", "two humps, weight .50 -> .53", "two humps, weight .30 -> .33"])
def test_a_small_shift_is_seen_about_as_often_as_by_the_ks_test_or_more(name):
    found = [seen(CHANGE[name], 10_000, seed) for seed in range(400)]
    differences = np.array([int(one.ours) - int(one.peer) for one in found])
    error = differences.std() / np.sqrt(len(found))
    assert differences.mean() >= -0.03 - 2 * error  # the promise, as far as so few paired windows can tell
    assert error < 0.025


def test_a_twentieth_of_a_sigma_is_seen_in_nearly_half_of_the_windows():
    found = np.array([seen(CHANGE["mean .05 sigma"], 10_000, seed).ours for seed in range(400)])
    assert found.mean() >= 0.47 - 2 * found.std() / np.sqrt(len(found))


def test_half_a_sigma_in_one_of_twenty_columns_is_seen_at_five_hundred_rows():
    assert sum(half_sigma(seed) for seed in range(30)) >= 27


def test_a_year_without_change_keeps_its_budget():
    smallest = np.array([quiet_year(30_000, seed) for seed in range(3)])
    assert alarmed_share(smallest, 0.05) == 0
    assert (smallest > 1e-7).all()


def test_a_larger_budget_gives_larger_levels_and_a_moving_window_is_less_than_as_many_windows():
    small, large = levels(0.01, COLUMNS), levels(0.5, COLUMNS)
    assert all(small[days] < large[days] < window_level(SHARE, COLUMNS) for days in (1, 7, 30))
    assert independent_share(30, 1e-7) < independent_share(7, 1e-7) < 1
    assert 365 * COLUMNS * sum(levels(0.1, COLUMNS, (1,)).values()) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="budget"):
        levels(0, COLUMNS)


def days_of(shift_of_day: np.ndarray, seed: int, rows: int = 400) -> tuple[list[Sketch], np.random.Generator]:
    rng = np.random.default_rng(seed)
    tables = [pa.table({"x": rng.normal(size=rows) + shift, "y": rng.exponential(size=rows)}) for shift in shift_of_day]
    bins = make_bins(pa.concat_tables(tables), {"x": "number", "y": "number"})
    return [sketch(bins, table.to_batches(), 1) for table in tables], rng


def test_days_that_differ_among_themselves_in_the_reference_are_no_alarm_later():
    rng = np.random.default_rng(8)
    wobble = rng.normal(scale=0.3, size=120)
    days, _ = days_of(wobble, 9)
    reference, later = days[:90], days[90:]
    whole, calibration = Sketch.sum(days[0].bins, reference), calibrate(reference)
    naive = sum(bool(compare(whole, day, days=1, level=1e-3).changed) for day in later)
    tamed = sum(bool(compare(whole, day, days=1, level=1e-3, calibration=calibration).changed) for day in later)
    assert naive > 10
    assert tamed <= 1
    assert calibration.windows[1].columns["y"][0] < calibration.windows[1].columns["x"][0]


def test_days_that_are_alike_need_hardly_any_inflation_and_few_days_none_is_guessed_from():
    days, rng = days_of(np.zeros(90), 3)
    calibration = calibrate(days)
    found = np.array([row for one in calibration.windows.values() for row in one.columns.values()])
    assert set(calibration.windows) == {1, 7}  # 30 days fit into 90 three times only
    assert np.median(found) == 1.0
    assert found.max() < 3
    assert Calibration.from_json(calibration.to_json()) == calibration
    whole = Sketch.sum(days[0].bins, days)
    month = compare(whole, days[0] + days[1], days=30, level=0.5, calibration=calibration)
    assert (month.status, month.changed) == ("not calibrated", ())
    assert month.columns
    moved = sketch(days[0].bins, pa.table({"x": rng.normal(size=400) + 1, "y": rng.exponential(size=400)}).to_batches())
    assert [one.column for one in compare(whole, moved, days=1, level=1e-6, calibration=calibration).changed] == ["x"]
