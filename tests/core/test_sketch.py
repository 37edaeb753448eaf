"""Sketches: exact, mergeable, defined for everything that a column can hold."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.core.drift_bins import BUCKETS, MOST_NAMES, Bins, make_bins
from pipeline.core.drift_count import sketch, sketch_frame
from pipeline.core.drift_questions import moments
from pipeline.core.sketch import MOST_UNSEEN, Sketch

KINDS = {"x": "number", "y": "number", "c": "category"}
ANY = st.floats(allow_nan=True, allow_infinity=True)


def table(rows: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    x = rng.lognormal(size=rows)
    return pa.table({
        "x": np.where(rng.random(rows) < 0.1, np.nan, x), "y": np.where(rng.random(rows) < 0.5, 0.0, x.round(1)),
        "c": rng.choice(["a", "b", "c", None], rows),
    })  # fmt: skip


def same_counts(one: Sketch, other: Sketch) -> bool:
    numbers = all(
        (a.counts, a.missing, a.infinite, a.below, a.above, a.minimum, a.maximum)
        == (b.counts, b.missing, b.infinite, b.below, b.above, b.minimum, b.maximum)
        for a, b in ((one.numbers[name], other.numbers[name]) for name in one.numbers)
    )
    return numbers and one.categories == other.categories and bool((one.products == other.products).all())


@given(arrays(np.float64, st.integers(1, 60), elements=ANY), arrays(np.float64, st.integers(1, 60), elements=ANY))
@settings(deadline=None, max_examples=150)
def test_every_value_lands_in_the_bin_that_a_binary_search_finds(reference, current):
    bins = make_bins(pa.table({"x": reference}), {"x": "number"})
    found = sketch(bins, pa.table({"x": current}).to_batches(), 1).numbers["x"]
    known = current[~np.isnan(current)]
    edges = np.array(bins.numbers["x"].edges)
    assert (np.diff(edges) > 0).all()
    expected = np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)
    assert found.counts == tuple(expected.tolist())
    assert found.missing == len(current) - len(known)
    assert found.infinite == int(np.isinf(known).sum())
    assert np.isfinite([found.total, found.squares]).all()


@given(st.lists(st.integers(0, 3_000), max_size=4), st.sampled_from([1, 2]))
@settings(deadline=None, max_examples=20)
def test_however_the_rows_are_split_the_sum_is_the_same(cuts, threads):
    whole = table(3_000)
    bins = make_bins(whole, KINDS)
    bounds = [0, *sorted(cuts), 3_000]
    parts = [sketch(bins, whole.slice(a, b - a).to_batches(), threads) for a, b in itertools.pairwise(bounds)]
    once = sketch(bins, whole.to_batches(), threads)
    together = Sketch.sum(bins, parts)
    assert same_counts(once, together)
    assert together.rows == 3_000
    assert together.moments("x") == pytest.approx(once.moments("x"))


def test_a_frame_and_batches_give_the_same_sketch():
    whole = table(70_000)
    bins = make_bins(whole, KINDS)
    frame = whole.to_pandas()
    for one in (frame, frame.astype({"c": object}), frame.astype({"c": "category"})):
        assert same_counts(sketch_frame(bins, one), sketch(bins, whole.to_batches(max_chunksize=9_999)))


def test_bytes_and_back_are_the_same_sketch_and_other_bins_are_refused():
    whole = table(500)
    bins = make_bins(whole, KINDS)
    once = sketch(bins, whole.to_batches())
    stored = once.to_bytes()
    assert Sketch.from_bytes(stored, bins).to_bytes() == stored
    assert Bins.from_json(bins.to_json()) == bins
    assert Sketch.from_bytes(Sketch.empty(bins).to_bytes(), bins).rows == 0
    other = make_bins(table(500, 1), KINDS)
    with pytest.raises(ValueError, match="bins"):
        Sketch.from_bytes(stored, other)
    with pytest.raises(ValueError, match="no sketch"):
        Sketch.from_bytes(b"nothing", bins)
    with pytest.raises(ValueError, match="different bins"):
        once + Sketch.empty(other)


def test_a_constant_has_room_below_and_above_and_an_empty_column_has_bins_too():
    bins = make_bins(pa.table({"k": [7.0] * 10, "n": pa.nulls(10), "c": pa.nulls(10, pa.string())}),
                     {"k": "number", "n": "number", "c": "category"})  # fmt: skip
    assert bins.pairs == ()
    found = sketch(bins, [pa.record_batch({"k": [6.0, 7.0, 7.0, 8.0], "n": [1.0, 2.0, None, np.inf],
                                           "c": ["a", "a", None, "b"]})])  # fmt: skip
    assert found.numbers["k"].counts == (1, 2, 1)
    assert (found.numbers["k"].below, found.numbers["k"].above) == (1, 1)
    assert sum(found.numbers["n"].counts) == 3
    assert found.categories["c"].unseen == (("a", 2), ("b", 1))
    assert found.categories["c"].missing == 1


def test_a_value_that_holds_much_of_the_mass_has_a_bin_of_its_own():
    rng = np.random.default_rng(2)
    values = np.where(rng.random(5_000) < 0.3, 0.5, rng.normal(size=5_000))
    bins = make_bins(pa.table({"x": values}), {"x": "number"})
    counts = sketch(bins, pa.table({"x": values}).to_batches()).numbers["x"].counts
    assert int((values == 0.5).sum()) in counts
    assert len(counts) <= 64


def test_numbers_written_as_text_are_read_and_what_is_none_is_counted_as_missing_and_told():
    bins = make_bins(pa.table({"x": ["1", "2", "3"]}), {"x": "number"})
    for found in (
        sketch(bins, [pa.record_batch({"x": ["1", "two", None]})]),
        sketch_frame(bins, pd.DataFrame({"x": ["1", "two", None]})),
    ):
        one = found.numbers["x"]
        assert (sum(one.counts), one.missing, one.not_a_number) == (1, 2, 1)


def test_a_name_is_one_name_however_its_number_is_stored():
    bins = make_bins(pa.table({"c": [1, 2, 2]}), {"c": "category"})
    found = sketch(bins, [pa.record_batch({"c": [1.0, 2.0, None]})])
    assert found.categories["c"].counts == (1, 1)
    mixed = sketch_frame(bins, pd.DataFrame({"c": [1, "2", None]}, dtype=object))
    assert mixed.categories["c"].counts == (1, 1)


def test_more_names_than_can_be_kept_are_counted_in_buckets_and_the_unseen_are_capped():
    many = pa.table({"c": [f"name {i}" for i in range(MOST_NAMES + 1)]})
    bins = make_bins(many, {"c": "category"})
    counts = sketch(bins, many.to_batches()).categories["c"].counts
    assert len(counts) == BUCKETS
    assert sum(counts) == MOST_NAMES + 1
    few = make_bins(pa.table({"c": ["a"]}), {"c": "category"})
    found = sketch(few, many.to_batches()).categories["c"]
    assert len(found.unseen) == MOST_UNSEEN
    assert found.unseen_rows == found.present == MOST_NAMES + 1
    assert (found + found).unseen_rows == 2 * (MOST_NAMES + 1)


def test_quantiles_moments_and_correlations_are_those_of_the_rows():
    rng = np.random.default_rng(4)
    x = rng.normal(3, 2, 50_000)
    whole = pa.table({"x": x, "y": np.exp(0.6 * (x - 3) / 2 + 0.8 * rng.normal(size=50_000))})
    bins = make_bins(whole, {"x": "number", "y": "number"})
    found = sketch(bins, whole.to_batches())
    assert found.moments("x") == pytest.approx((x.mean(), x.std()), rel=1e-9)
    assert found.quantiles("x", (0.1, 0.5, 0.9)) == pytest.approx(np.quantile(x, (0.1, 0.5, 0.9)), abs=0.05)
    assert moments(found).correlations()[0, 1] == pytest.approx(0.6, abs=0.02)
    assert np.isnan(Sketch.empty(bins).quantiles("x", (0.5,))[0])


def test_one_absurd_value_does_not_drown_the_moments():
    bins = make_bins(pa.table({"x": [0.0, 1.0, 2.0]}), {"x": "number"})
    found = sketch(bins, [pa.record_batch({"x": [1e308, -1e308, 1.0, np.inf]})])
    assert np.isfinite(found.moments("x")).all()
