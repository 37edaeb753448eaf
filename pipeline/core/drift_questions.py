"""All questions of two sketches at once: every column's p-values, and every pair's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.core.drift_bins import Bins
from pipeline.core.drift_columns import QUESTIONS, ColumnTests, category_tests, number_tests
from pipeline.core.drift_pairs import PairMoments, pair_p_values
from pipeline.core.sketch import Sketch

Array = np.ndarray


def column_tests(reference: Sketch, current: Sketch, inflation: Array | None) -> ColumnTests:
    """The tests of every column, in the order of `Bins.columns`; `inflation`: shape (columns, 4)."""
    bins = reference.bins
    numbers = len(bins.numbers)
    found = []
    if numbers:
        ours, theirs = _packed(bins, current), _packed(bins, reference)
        own = None if inflation is None else inflation[:numbers]
        found.append(number_tests(theirs[0], ours[0], theirs[1], ours[1], own))
    for place, name in enumerate(bins.categories):
        before, after = name_rows(name, reference, current)
        lost = reference.categories[name].missing, current.categories[name].missing
        own = None if inflation is None else inflation[numbers + place][None]
        found.append(category_tests(before, after, *lost, own))
    if not found:
        return ColumnTests(np.ones(0), np.zeros(0, dtype=int), np.ones((0, len(QUESTIONS))))
    return ColumnTests(*(np.concatenate([getattr(one, f) for one in found]) for f in ("p_value", "question", "each")))


def name_rows(column: str, reference: Sketch, current: Sketch) -> tuple[Array, Array]:
    """Rows of every name of a category in both, known ones first, then those new in either, then the rest."""
    one, other = reference.categories[column], current.categories[column]
    new = sorted({name for name, _ in (*one.unseen, *other.unseen)})
    first, second = (
        np.array([*counts.counts, *(dict(counts.unseen).get(name, 0) for name in new), counts.unseen_rest])
        for counts in (one, other)
    )
    return first, second


def pair_tests(reference: Sketch, current: Sketch, inflation: Array | None) -> tuple[Array, Array, Array]:
    """p-values of every pair and both correlations, shape (pairs, pairs)."""
    one, other = moments(reference), moments(current)
    return pair_p_values(one, other, inflation)


def moments(sketch: Sketch) -> PairMoments:
    """What the pair tests need of a sketch."""
    names = sketch.bins.pairs
    counts = [np.array(sketch.numbers[name].counts) for name in names]
    return PairMoments.of(sketch.products, counts, [np.array(sketch.bins.numbers[name].scores) for name in names])


def question_p_values(reference: Sketch, current: Sketch) -> tuple[Array, Array]:
    """p-values of every question of every column, shape (columns, questions), and of every pair."""
    return column_tests(reference, current, None).each, pair_tests(reference, current, None)[0]


def _packed(bins: Bins, sketch: Sketch) -> tuple[Array, Array]:
    """Rows in each bin, shape (columns, most bins), and missing rows, of the numeric columns."""
    rows: Sequence[tuple[int, ...]] = [sketch.numbers[name].counts for name in bins.numbers]
    packed = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for place, counts in enumerate(rows):
        packed[place, : len(counts)] = counts
    return packed, np.array([sketch.numbers[name].missing for name in bins.numbers])
