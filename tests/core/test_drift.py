"""The measures against scipy, and at the edges; the plain form that people know; exact tails."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.spatial import distance

from pipeline.core import drift
from pipeline.core.drift_bins import make_bins
from pipeline.core.drift_count import sketch
from pipeline.core.drift_simple import ColumnResult, detect_drift, domain_classifier
from pipeline.core.drift_tails import cell_p_values, joint_tail, score_deviates, score_p_values
from pipeline.core.drift_test import ColumnDrift, coarse_names, compare

COUNTS = st.integers(1, 12).flatmap(
    lambda cells: st.tuples(*[arrays(np.int64, cells, elements=st.integers(0, 200))] * 2)
)


@given(COUNTS)
@settings(deadline=None)
def test_the_measures_are_those_of_scipy(both):
    reference, current = both
    if min(reference.sum(), current.sum()) < 2:  # scipy's own p-value asks for two
        return
    p, q = reference / reference.sum(), current / current.sum()
    positions = np.arange(len(p), dtype=float)
    rows = [np.repeat(positions, counts) for counts in both]
    assert drift.ks(*both) == pytest.approx(stats.ks_2samp(*rows, method="asymp").statistic, abs=1e-12)
    assert drift.jensen_shannon(*both) == pytest.approx(distance.jensenshannon(p, q, base=2), abs=1e-6)
    expected = stats.wasserstein_distance(positions, positions, p, q)
    assert drift.wasserstein(*both, positions) == pytest.approx(expected, abs=1e-12)
    assert drift.hellinger(*both) == pytest.approx(np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum() / 2), abs=1e-7)
    assert drift.total_variation(*both) == pytest.approx(distance.cityblock(p, q) / 2)
    seen = reference + current > 0
    if seen.sum() > 1:
        found = stats.chi2_contingency(np.array(both)[:, seen], correction=False)
        assert drift.chi_square(*both) == (pytest.approx(found.statistic, abs=1e-9), found.dof)
    if (reference[seen] > 0).all() and (current[seen] > 0).all():
        assert drift.psi(*both) == pytest.approx(stats.entropy(p[seen], q[seen]) + stats.entropy(q[seen], p[seen]))


@given(COUNTS)
@settings(deadline=None)
def test_the_measures_are_finite_symmetric_and_nought_for_the_same_counts(both):
    positions = np.arange(len(both[0]), dtype=float)
    measures = (drift.ks, drift.psi, drift.jensen_shannon, drift.hellinger, drift.total_variation,
                lambda a, b: drift.wasserstein(a, b, positions), lambda a, b: drift.chi_square(a, b)[0])  # fmt: skip
    for measure in measures:
        assert 0 <= measure(*both) < np.inf
        assert measure(*both) == pytest.approx(measure(*both[::-1]), abs=1e-9)
        assert measure(both[0], both[0]) == pytest.approx(0, abs=1e-7)
    assert 0 <= drift.debiased_psi(*both) <= drift.psi(*both)
    assert 0 <= drift.debiased_variation(*both) <= drift.total_variation(*both)
    assert drift.shift_score(both[0], both[0], positions) == 0
    assert drift.scale_score(both[0], both[0], positions) == 1


def test_a_side_without_rows_and_a_constant_have_an_answer():
    none, some = np.array([0, 0]), np.array([3, 4])
    assert drift.ks(none, some) == drift.psi(some, none) == drift.chi_square(none, some)[0] == 0
    positions = np.array([0.0, 1.0])
    assert drift.shift_score(np.array([5, 0]), np.array([0, 5]), positions) == np.inf
    assert drift.scale_score(np.array([5, 0]), np.array([1, 1]), positions) == np.inf
    assert drift.missing_change(0, 0, 1, 1) == 0
    with pytest.raises(ValueError, match="different cells"):
        drift.ks(none, np.zeros(3))


@pytest.mark.parametrize(("n", "m"), [(100, 10_000), (10_000, 10_000), (30_000, 10_000), (20, 20)])
def test_the_tails_of_counts_are_fishers_however_far_out(n, m):
    for pooled in (1, 2, 5, 20, 200, (n + m) // 2):
        counts = np.arange(0, min(pooled, n) + 1, max(1, n // 500))
        counts = counts[pooled - counts <= m]
        law = stats.hypergeom(n + m, pooled, n)
        exact = np.minimum(1, 2 * np.minimum(law.sf(counts - 1), law.cdf(counts)))
        found = cell_p_values(counts, pooled - counts, np.array(n), np.array(m))
        far = (exact < 0.002) & (exact > 1e-200)
        assert found[far] == pytest.approx(exact[far], rel=0.05)
        assert (found[exact >= 0.02] >= 0.002).all()


def test_the_tails_of_skewed_rank_sums_are_those_of_drawing_without_replacement():
    pooled = np.array([[9_000, 700, 400]])
    rng = np.random.default_rng(1)
    sums = rng.multivariate_hypergeometric(pooled[0], 100, size=400_000) @ np.array([0, 1, 3])
    scores = np.array([[[0.0, 1.0, 3.0]]])
    for observed in (36, 39, 42):
        current = np.array([[100 - observed // 3, 0, observed // 3]])
        z, _ = score_deviates(scores, pooled, current)
        found = score_p_values(z, scores, pooled, current)[0, 0] / 2
        simulated = (sums >= observed).mean()
        assert 0.95 * simulated <= found <= 3 * simulated  # a sum that moves in jumps of 1 and 3 is held for one of 3
        assert found > 1.5 * stats.norm.sf(z[0, 0])  # where the normal approximation is far too sure


def test_the_joint_tail_is_that_of_two_normals():
    rng = np.random.default_rng(3)
    drawn = np.abs(rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], size=1_000_000))
    both = ((drawn[:, 0] > 2.5) & (drawn[:, 1] > 2.2)).mean()
    assert float(joint_tail(np.array(2.5), np.array(2.2), np.array(-0.7))) == pytest.approx(both, rel=0.05)


ODD = {
    "constant": [1.0] * 200,
    "all missing": [None] * 200,
    "infinite": [np.inf, -np.inf] * 100,
    "huge": [1e308, -1e308] * 100,
    "ties": [0.0] * 150 + [1.0] * 50,
    "plain": list(np.linspace(0, 1, 200)),
}


@pytest.mark.parametrize("before", ODD)
@pytest.mark.parametrize("after", ODD)
def test_whatever_a_column_holds_is_compared_and_only_a_difference_is_a_change(before, after):
    reference, current = (pa.table({"x": pa.array(ODD[one], pa.float64())}) for one in (before, after))
    bins = make_bins(reference, {"x": "number"})
    first, second = (sketch(bins, one.to_batches()) for one in (reference, current))
    (one,) = compare(first, second, days=1, level=1e-6).columns
    assert 0 <= one.p_value <= 1
    assert np.isfinite([one.psi, one.total_variation]).all()
    assert one.told
    outermost = {before, after} == {"huge", "infinite"}  # infinite is in the outer bins, as the largest finite is
    assert (one.p_value < 1e-6) == (before != after and not outermost)


def test_categories_that_are_all_new_or_all_missing_are_a_change_with_its_words():
    reference = pa.table({"c": ["a", "b"] * 100})
    bins = make_bins(reference, {"c": "category"})
    first = sketch(bins, reference.to_batches())
    new = compare(first, sketch(bins, pa.table({"c": ["x"] * 200}).to_batches()), days=1, level=1e-4).changed[0]
    assert (new.unseen_share, new.shift) == (1.0, None)
    assert new.told == "new 'x' 0.00% -> 100.0%"
    gone = pa.table({"c": pa.nulls(200, pa.string())})
    lost = compare(first, sketch(bins, gone.to_batches()), days=1, level=1e-4).changed[0]
    assert lost.told == "missing 0.00% -> 100.0%"


def _category(before: list[str], after: list[str]) -> ColumnDrift:
    reference = pa.table({"c": before})
    bins = make_bins(reference, {"c": "category"})
    first, second = (sketch(bins, pa.table({"c": names}).to_batches()) for names in (before, after))
    return compare(first, second, days=1, level=1e-5).columns[0]


COMMON = [f"common {i}" for i in range(9)] * 1_000
RARE = [f"rare {i}" for i in range(100)] * 90
FEW = COMMON[:900]


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        (COMMON + RARE, FEW + ["new"] * 900, 0.5),
        (COMMON + RARE, FEW + ["rare 50"] * 900, 0.5),
        (COMMON + RARE, FEW + [f"rare {i}" for i in range(50, 60)] * 90, 0.45),
        (COMMON + RARE, FEW[:50] + ["rare 50"] * 50, 0.5),
        (COMMON + RARE, FEW + [f"new {i}" for i in range(900)], 0.5),
        (RARE, [f"new {i}" for i in range(200)] * 5, 1.0),
        (RARE, ["rare 50"] * 1_000, 1.0),
        ([f"once {i}" for i in range(500)] + COMMON[:500], FEW[:500] + ["new"] * 500, 0.5),
    ],
)  # fmt: skip
def test_rows_that_move_from_rare_names_to_a_new_or_another_rare_name_are_an_effect(before, after, moved):
    one = _category(before, after)
    assert one.p_value < 1e-9
    assert one.total_variation == pytest.approx(moved, abs=0.07)
    assert one.psi > 1


@pytest.mark.parametrize("power", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("names", [300, 900])
@pytest.mark.parametrize(("m", "n"), [(500, 100), (2_000, 100), (30_000, 100), (2_000, 2_000), (500, 5_000)])
def test_without_change_the_effect_on_hundreds_of_names_is_near_nought(power, names, m, n):
    rng = np.random.default_rng(8)
    shares = np.arange(1, names + 1) ** -power
    found = []
    for _ in range(60):
        before, after = (rng.multinomial(rows, shares / shares.sum()) for rows in (m, n))
        cells = coarse_names(np.append(before, 0), np.append(after, 0))
        found.append((drift.debiased_psi(*cells), drift.debiased_variation(*cells)))
    psi, moved = np.array(found).T
    assert psi.mean() < 0.03
    assert (psi >= 0.1).mean() <= 0.1
    assert moved.mean() < 0.05


def test_without_change_a_column_of_names_seen_once_has_no_effect():
    rng = np.random.default_rng(9)
    before, after = ([str(i) for i in rng.integers(0, 2_000, size=rows)] for rows in (800, 100))
    one = _category(before, after)
    assert one.unseen_share > 0.5
    assert one.p_value > 1e-5
    assert one.psi < 0.1


def test_too_few_rows_are_insufficient_and_other_bins_are_refused():
    rng = np.random.default_rng(2)
    whole = pa.table({"x": rng.normal(size=1_000)})
    bins = make_bins(whole, {"x": "number"})
    first = sketch(bins, whole.to_batches())
    few = sketch(bins, pa.table({"x": [50.0] * 99}).to_batches())
    found = compare(first, few, days=1, level=0.01)
    assert (found.status, found.changed, found.rows) == ("insufficient", (), 99)
    other = make_bins(pa.table({"x": [1.0, 2.0]}), {"x": "number"})
    with pytest.raises(ValueError, match="different bins"):
        compare(first, sketch(other, whole.to_batches()), days=1, level=0.01)


def test_a_pair_changes_only_when_its_correlation_does():
    rng = np.random.default_rng(6)
    x = rng.normal(size=20_000)
    y = 0.6 * x + 0.8 * rng.normal(size=20_000)
    reference = pa.table({"x": x, "y": y})
    bins = make_bins(reference, {"x": "number", "y": "number"})
    first = sketch(bins, reference.to_batches())

    def changed(x: np.ndarray, y: np.ndarray) -> list[str]:
        found = compare(first, sketch(bins, pa.table({"x": x, "y": y}).to_batches()), days=1, level=1e-4)
        return [one.column for one in found.changed]

    a = rng.normal(size=5_000)
    b = 0.6 * a + 0.8 * rng.normal(size=5_000)
    assert changed(a, b) == []
    assert changed(a, rng.permutation(b)) == ["x × y"]
    assert "x × y" not in changed(a + 0.5, b + 0.5)
    assert "x × y" not in changed(1.3 * a, b)


def test_the_plain_form_flags_what_changed_and_by_default_not_one_in_twenty():
    rng = np.random.default_rng(7)
    names = [f"x{i}" for i in range(20)]
    quiet = loud = 0
    for _ in range(20):
        reference, current = (pd.DataFrame(rng.normal(size=(200, 20)), columns=names) for _ in range(2))
        quiet += any(one.drift for one in detect_drift(reference, current))
        loud += any(one.drift for one in detect_drift(reference, current, correction="none"))
    assert quiet <= 4
    assert loud >= 6
    frame = pd.DataFrame({"x": rng.normal(size=300), "c": ["a", "b", None] * 100, "e": [np.nan] * 300})
    assert not any(one.drift for one in detect_drift(frame, frame))
    told = {one.column: one.drift for one in detect_drift(frame, frame.assign(c="z", e=1.0))}
    assert told == {"x": False, "c": True, "e": True}
    with pytest.raises(ValueError, match="nothing to compare"):
        detect_drift(frame, frame[:0])


def _plain(before: object, after: object) -> ColumnResult:
    return detect_drift(pd.DataFrame({"x": before}), pd.DataFrame({"x": after}))[0]


HOURS, LATER = (pd.date_range(start, periods=300, freq="h") for start in ("2024-01-01", "2025-06-01"))
SAME = ["same"] * 800
REPLACED = {
    "names of few rows": ([f"a{i % 200}" for i in range(1_000)], [f"b{i % 200}" for i in range(1_000)]),
    "some names": (SAME + [f"a{i % 50}" for i in range(200)], SAME + [f"b{i % 50}" for i in range(200)]),
    "few rows": (["a"] * 8, ["b"] * 8),
    "few rows against many": (["a"] * 1_000, ["b"] * 4),
    "dates": (HOURS, LATER),
    "dates as objects": (HOURS.date, LATER.date),
    "dates of a zone": (HOURS, LATER.tz_localize("Asia/Tokyo")),
    "durations": (pd.to_timedelta(range(300), unit="s"), pd.to_timedelta(range(200, 500), unit="s")),
}


@pytest.mark.parametrize("case", REPLACED)
def test_the_plain_form_flags_names_and_dates_that_are_replaced(case):
    before, after = REPLACED[case]
    assert _plain(before, after).p_value < 0.001
    assert _plain(before, before).p_value == 1


def test_the_plain_form_takes_numbers_as_text_for_the_same_names():
    assert _plain(["1", "2"] * 500, [1.0, 2.0] * 500).p_value == 1
    assert _plain([1.0, 2.5, None] * 100, ["1", "2.5", None] * 100).p_value == 1


def test_names_that_are_there_once_say_nothing():
    assert _plain([f"a{i}" for i in range(500)], [f"b{i}" for i in range(500)]).p_value == 1


@pytest.mark.parametrize("power", [0.0, 1.0])
@pytest.mark.parametrize("names", [3, 40, 300])
@pytest.mark.parametrize(("m", "n"), [(200, 200), (2_000, 100), (30, 30)])
def test_the_plain_form_flags_names_without_change_no_more_often_than_its_threshold(power, names, m, n):
    rng = np.random.default_rng(10)
    shares = np.arange(1, names + 1) ** -power
    p_values = np.array([
        _plain(*(rng.choice(names, size=rows, p=shares / shares.sum()).astype(str) for rows in (m, n))).p_value
        for _ in range(60)
    ])  # fmt: skip
    assert (p_values < 0.05).sum() <= 8  # of 60; more at a rate of 5 % has a chance below 1 %
    assert (p_values < 0.001).sum() <= 1


def test_a_classifier_sees_what_no_column_shows_alone():
    rng = np.random.default_rng(9)
    shared = rng.normal(size=1_500)
    reference = pd.DataFrame({"a": shared, "b": shared + 0.3 * rng.normal(size=1_500), "c": ["u", "v", None] * 500})
    current = reference.assign(b=rng.permutation(reference["b"].to_numpy()))
    assert domain_classifier(reference, current, np.random.default_rng(0)).auc > 0.8
    again = reference.sample(frac=1, random_state=1).assign(a=rng.normal(size=1_500))
    again["b"] = again["a"] + 0.3 * rng.normal(size=1_500)
    assert domain_classifier(reference, again, np.random.default_rng(0)).p_value > 0.01
