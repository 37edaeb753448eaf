"""Has a column changed? Several questions of its counts, each with an exact tail, joined into one p-value.

A number: location (rank scores for light tails, for heavy tails, and for humps that gain or lose), scale (two), any
single bin, wide stretches, and missing. A category: any single name, all names together, and missing. What is asked
first gets the larger part of the chance of a false alarm, and strongly related questions share theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from pipeline.core.drift_bins import normal_scores
from pipeline.core.drift_tails import (
    cell_p_values,
    chi_square_tail,
    joint_tail,
    normal_of,
    score_deviates,
    score_p_values,
    two_sided,
)  # fmt: skip

Array = np.ndarray
Question = Literal[
    "mean", "middle", "lower part", "upper part", "spread", "outer spread", "one cell", "many cells", "missing"
]
QUESTIONS: tuple[Question, ...] = get_args(Question)
SCORED = 6
"""The first questions are sums of scores over the bins."""
GROUPS = (0, 0, 0, 0, 1, 1, 2, 2, 3)
"""Which questions share a variance inflation: location, scale, cells, missing."""
NUMBER_WEIGHTS = np.array([0.33, 0.42, 0.10, 0.10, 0.004, 0.026, 0.008, 0.007, 0.005])
"""Share of the chance of a false alarm that each question of a number may spend. Chosen on simulated shifts of normal,
heavy-tailed and two-humped columns, so that none of these is seen much less often than its own best question would: the
power on just these shapes is that of a choice made on them, and flatters."""
CATEGORY_WEIGHTS = np.array([0.0] * SCORED + [0.6, 0.35, 0.05])
TREE = ((0, 1), (1, 2), (1, 3), (4, 5))
"""Related questions, for the bound on their union: no ring among them."""
STEPS = {0.5: 0.7, 0.3: 0.85, 0.7: 0.85}
"""Where the middle, the lower and the upper part are cut, and how much of their scores is a step; the rest is ranks.
Between the best scores for two humps, and for a shift of a heavy tail; chosen on simulated columns, as above."""
STRETCHES = 10
SMALLEST_P = 1e-6
"""A cell so small that all of it in one sample would be likelier than this cannot decide anything on its own."""


@dataclass(frozen=True)
class ColumnTests:
    """The answers for a batch of columns."""

    p_value: Array
    """Shape (batch,): chance under no change of anything as unlikely as what is seen."""
    question: Array
    """Shape (batch,): place in QUESTIONS of what has changed most."""
    each: Array
    """Shape (batch, questions): p-value of each question on its own, 1 where it cannot be asked."""


def number_tests(
    reference: Array, current: Array, missing_reference: Array, missing_current: Array, inflation: Array | None = None
) -> ColumnTests:
    """Test numeric columns by their bins. Exact under exchange of rows between the samples, whatever the ties.

    `reference`, `current`: rows in each bin, shape (batch, bins), empty bins allowed; `missing_*`: shape (batch,).
    `inflation`: variance beyond that of independent rows, shape (batch, 4) in the order of GROUPS.

    >>> even = np.full((1, 4), 250)
    >>> moved = number_tests(even, np.array([[150, 220, 280, 350]]), np.zeros(1), np.zeros(1))
    >>> bool(moved.p_value[0] < 1e-9), QUESTIONS[moved.question[0]]
    (True, 'mean')
    """
    pooled = reference + current
    scores = _scores(pooled)
    z, related = score_deviates(scores, pooled, current)
    each = np.ones((len(current), len(QUESTIONS)))
    each[:, :SCORED] = score_p_values(z, scores, pooled, current)
    each[:, SCORED : SCORED + 2] = _cells(reference, current, _stretches(pooled))
    each[:, -1] = missing_p_values(
        reference.sum(axis=1), current.sum(axis=1), missing_reference, missing_current
    )  # fmt: skip
    weights = np.where((missing_reference + missing_current > 0)[:, None], NUMBER_WEIGHTS, _without_last())
    correlations = np.stack([related[:, one, other] for one, other in TREE], axis=1)
    return _joined(each, weights, correlations, inflation)


def category_tests(
    reference: Array, current: Array, missing_reference: int, missing_current: int, inflation: Array | None = None
) -> ColumnTests:
    """Test one categorical column by the rows of its names, shape (names,), unseen ones with 0 in the reference.

    Names that are rare in both samples together are one cell: a choice by the pooled rows alone leaves the test
    exact, and a name that is new is evidence by its number of rows.

    >>> found = category_tests(np.array([900, 100, 0]), np.array([890, 90, 20]), 0, 0)
    >>> bool(found.p_value[0] < 1e-4), QUESTIONS[found.question[0]]
    (True, 'one cell')
    """
    pooled = reference + current
    rare = pooled < smallest_cell(int(reference.sum()), int(current.sum()))
    cells_reference, cells_current = (
        np.append(rows[~rare], rows[rare].sum())[None] for rows in (reference, current)
    )  # fmt: skip
    each = np.ones((1, len(QUESTIONS)))
    each[:, SCORED : SCORED + 2] = _cells(cells_reference, cells_current, None)
    lost, found = np.array([missing_reference]), np.array([missing_current])
    each[:, -1] = missing_p_values(cells_reference.sum(axis=1), cells_current.sum(axis=1), lost, found)
    return _joined(each, CATEGORY_WEIGHTS[None], None, inflation)


def missing_p_values(reference: Array, current: Array, missing_reference: Array, missing_current: Array) -> Array:
    """Fisher's exact test of the missing rates; `reference`, `current`: rows that are there. Shape (batch,)."""
    return cell_p_values(
        missing_current, missing_reference, current + missing_current, reference + missing_reference
    )  # fmt: skip


def smallest_cell(rows_reference: int, rows_current: int) -> int:
    """Pooled rows from which a cell can be unlikely enough on its own to be asked about (Tarone, Biometrics 46, 1990).

    >>> smallest_cell(10_000, 10_000), smallest_cell(10_000, 100)
    (20, 3)
    """
    share = min(rows_reference, rows_current) / max(rows_reference + rows_current, 1)
    return max(2, int(np.ceil(np.log(SMALLEST_P) / np.log(share)))) if share > 0 else 2


def _without_last() -> Array:
    """Where nothing is missing the question of it costs nothing."""
    rest = NUMBER_WEIGHTS.copy()
    rest[-1] = 0.0
    return np.asarray(rest / rest.sum())


def _scores(pooled: Array) -> Array:
    """Rank scores of the bins given the pooled rows, shape (batch, SCORED, bins), in the order of QUESTIONS.

    Normal; steps blended with ranks; Mood and Klotz. All are averaged over the ranks of a bin.
    """
    total = np.maximum(pooled.sum(axis=1, keepdims=True), 1)
    above, width = np.cumsum(pooled, axis=1) / total, pooled / total
    ranks = above - width / 2 - 0.5
    parts = []
    for cut, share in STEPS.items():
        step = np.clip(above - cut, 0, width) / np.where(width > 0, width, 1.0)
        parts.append(share * step / np.sqrt(cut * (1 - cut)) + (1 - share) * ranks * np.sqrt(12))
    normal = normal_scores(pooled)
    return np.stack([normal, *parts, ranks**2, normal**2], axis=1)


def _stretches(pooled: Array) -> Array:
    """Which of STRETCHES stretches of about equal rows each bin belongs to, shape (batch, bins)."""
    total = np.maximum(pooled.sum(axis=1, keepdims=True), 1)
    middle = (np.cumsum(pooled, axis=1) - pooled / 2) / total
    return np.asarray(np.minimum((middle * STRETCHES).astype(int), STRETCHES - 1))


def _cells(reference: Array, current: Array, stretches: Array | None) -> Array:
    """p-values of the most unlikely cell and of all cells together, shape (batch, 2)."""
    n, m = current.sum(axis=1, keepdims=True), reference.sum(axis=1, keepdims=True)
    share = np.minimum(n, m) / np.maximum(n + m, 1)
    least = np.maximum(2, np.log(SMALLEST_P) / np.log(np.clip(share, 1e-12, 0.5)))
    single = cell_p_values(current, reference, n, m)
    asked = reference + current >= least
    one = np.where(asked, single, 1.0).min(axis=1) * np.maximum(asked.sum(axis=1), 1)
    if stretches is not None:
        places = (stretches + STRETCHES * np.arange(len(stretches))[:, None]).ravel()
        cells = len(stretches) * STRETCHES
        reference, current = (
            np.bincount(places, rows.ravel(), minlength=cells).reshape(-1, STRETCHES) for rows in (reference, current)
        )
        single = cell_p_values(current, reference, n, m)
    pooled = reference + current
    occupied = (pooled > 0).sum(axis=1)
    # Squares of exact tails turned into normal deviates: no sparse cell can make the sum larger than it may be.
    squares = ((1 - pooled / np.maximum(n + m, 1)) * normal_of(single) ** 2).sum(axis=1)
    many = chi_square_tail(squares, occupied - 1)
    return np.stack([np.minimum(one, 1.0), np.where(occupied > 1, many, 1.0)], axis=1)


def _joined(each: Array, weights: Array, correlations: Array | None, inflation: Array | None) -> ColumnTests:
    """The chance that any question has an answer as unlikely, for its share, as the most unlikely one.

    At most the sum of the shares, less what neighbours in a tree have in common (Hunter, Journal of Applied
    Probability 13, 1976; Worsley, Biometrika 69, 1982).
    """
    if inflation is not None:
        each = two_sided(normal_of(each) / np.sqrt(inflation[:, GROUPS]))
    weighted = np.where(weights > 0, each / np.where(weights > 0, weights, 1.0), np.inf)
    question = weighted.argmin(axis=1)
    least = weighted.min(axis=1)
    bound = np.minimum(least, 1.0)
    small = np.nonzero(least < 0.2)[0]
    if correlations is not None and len(small):
        limits = normal_of(weights[small] * least[small, None])
        shared = sum(
            joint_tail(limits[:, a], limits[:, b], correlations[small, place])
            for place, (a, b) in enumerate(TREE)
        )  # fmt: skip
        bound[small] = np.maximum(bound[small] - shared, least[small] * weights[small].max(axis=1))
    return ColumnTests(np.minimum(bound, 1.0), question, each)
