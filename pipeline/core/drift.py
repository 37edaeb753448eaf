"""How far apart are two samples? The measures that people know, on rows counted in the same cells.

Every function takes counts of shape (cells,): rows of the reference and of the current window. Empty cells are
allowed; without any rows on a side nothing can be said, and the answer is 0. A measurement is not an alarm: how large
one is by chance alone depends on the number of rows, and `drift_test` judges that.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray


def shares(counts: Array) -> Array:
    """Counts as shares of their sum; all zero without rows."""
    total = float(np.sum(counts))
    return np.asarray(counts, dtype=np.float64) / (total if total > 0 else 1.0)


def _both(reference: Array, current: Array) -> tuple[Array, Array] | None:
    p, q = shares(reference), shares(current)
    if p.shape != q.shape:
        raise ValueError(f"counts of different cells: {p.shape} and {q.shape}")
    return (p, q) if p.sum() > 0 and q.sum() > 0 else None


def ks(reference: Array, current: Array) -> float:
    """Kolmogorov-Smirnov: the largest distance between the two distribution functions, in [0, 1].

    Cells in order of value. With a cell for every value it is the two-sample statistic itself (Smirnov, Annals of
    Mathematical Statistics 19, 1948), with wider ones at most that.

    >>> ks(np.array([5, 5, 0]), np.array([0, 5, 5]))
    0.5
    """
    both = _both(reference, current)
    return 0.0 if both is None else float(np.abs(np.cumsum(both[0] - both[1])).max())


def psi(reference: Array, current: Array) -> float:
    """Population stability index: sum of (q - p) * ln(q / p), at least 0. Jeffreys' divergence of the shares.

    A cell that is empty on one side counts as half a row there, as the index would be infinite (for the index: Siddiqi,
    Credit Risk Scorecards, 2006). By convention .1 is small and .25 large, yet with 10 cells and 100 rows chance alone
    gives .1.

    >>> round(psi(np.array([50, 50]), np.array([40, 60])), 4)
    0.0405
    """
    if _both(reference, current) is None:
        return 0.0
    seen = (np.asarray(reference) + np.asarray(current)) > 0
    p, q = (shares(np.maximum(np.asarray(counts, dtype=np.float64)[seen], 0.5)) for counts in (reference, current))
    return max(0.0, float(((q - p) * np.log(q / p)).sum()))


def jensen_shannon(reference: Array, current: Array) -> float:
    """Jensen-Shannon distance to base 2, in [0, 1].

    Endres & Schindelin, IEEE Transactions on Information Theory 49, 2003.

    >>> jensen_shannon(np.array([1, 0]), np.array([0, 1]))
    1.0
    """
    both = _both(reference, current)
    if both is None:
        return 0.0
    middle = (both[0] + both[1]) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(p > 0, p * np.log2(p / middle), 0.0).sum() / 2 for p in both]
    return math.sqrt(max(0.0, float(sum(parts))))


def wasserstein(reference: Array, current: Array, positions: Array) -> float:
    """Wasserstein's first distance: how far mass is moved on average, in the unit of `positions`.

    `positions`: ascending finite value of each cell, shape (cells,). The area between the distribution functions
    (Vallender, Theory of Probability and its Applications 18, 1974).

    >>> wasserstein(np.array([1, 0]), np.array([0, 1]), np.array([0.0, 3.0]))
    3.0
    """
    both = _both(reference, current)
    if both is None:
        return 0.0
    return float((np.abs(np.cumsum(both[0] - both[1]))[:-1] * np.diff(positions)).sum())


def hellinger(reference: Array, current: Array) -> float:
    """Hellinger distance, in [0, 1]: root of 1 - sum of sqrt(p * q).

    >>> hellinger(np.array([1, 0]), np.array([0, 1]))
    1.0
    """
    both = _both(reference, current)
    return 0.0 if both is None else math.sqrt(max(0.0, 1.0 - float(np.sqrt(both[0] * both[1]).sum())))


def total_variation(reference: Array, current: Array) -> float:
    """Total variation: the share of the rows that would have to move to another cell, in [0, 1].

    >>> total_variation(np.array([50, 50]), np.array([40, 60])).__round__(4)
    0.1
    """
    both = _both(reference, current)
    return 0.0 if both is None else float(np.abs(both[0] - both[1]).sum()) / 2


def chi_square(reference: Array, current: Array) -> tuple[float, int]:
    """Pearson's chi-square of the table of two samples by cells, and its degrees of freedom.

    Cells that are empty in both are left out (Pearson, Philosophical Magazine 50, 1900).

    >>> chi_square(np.array([60, 40]), np.array([40, 60]))
    (8.0, 1)
    """
    table = np.array([reference, current], dtype=np.float64)
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or (table.sum(axis=1) == 0).any():
        return 0.0, 0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    return float(((table - expected) ** 2 / expected).sum()), table.shape[1] - 1


def shift_score(reference: Array, current: Array, positions: Array) -> float:
    """How far the mean has moved, in standard deviations of the reference; infinite where that did not vary.

    >>> shift_score(np.array([1, 1, 0]), np.array([0, 1, 1]), np.array([-1.0, 1.0, 3.0]))
    2.0
    """
    if _both(reference, current) is None:
        return 0.0
    (first, spread), (second, _) = _moments(reference, positions), _moments(current, positions)
    if first == second:
        return 0.0
    return (second - first) / spread if spread > 0 else math.copysign(math.inf, second - first)


def scale_score(reference: Array, current: Array, positions: Array) -> float:
    """Standard deviation over that of the reference: 1 for no change, infinite where the reference did not vary.

    >>> scale_score(np.array([1, 1, 0]), np.array([1, 0, 1]), np.array([-1.0, 1.0, 3.0]))
    2.0
    """
    if _both(reference, current) is None:
        return 1.0
    before, after = _moments(reference, positions)[1], _moments(current, positions)[1]
    if before == after:
        return 1.0
    return after / before if before > 0 else math.inf


def missing_change(missing_reference: int, rows_reference: int, missing_current: int, rows_current: int) -> float:
    """Share of missing values now less that of the reference, in [-1, 1]; 0 where a side has no rows.

    >>> missing_change(0, 1000, 30, 1000)
    0.03
    """
    if not rows_reference or not rows_current:
        return 0.0
    return missing_current / rows_current - missing_reference / rows_reference


def debiased_psi(reference: Array, current: Array) -> float:
    """PSI less what chance alone gives at this number of rows, (cells - 1) * (1 / n + 1 / m); not below 0.

    Without change PSI is nearly chi-square over the rows (Yurdakul & Naranjo, Journal of Risk Model Validation 14,
    2020).

    >>> debiased_psi(np.array([50, 50]), np.array([47, 53]))
    0.0
    """
    if _both(reference, current) is None:
        return 0.0
    cells = int(((np.asarray(reference) + np.asarray(current)) > 0).sum())
    chance = (cells - 1) * (1 / np.sum(reference) + 1 / np.sum(current))
    return max(0.0, psi(reference, current) - float(chance))


def debiased_variation(reference: Array, current: Array) -> float:
    """Total variation less what chance alone gives at this number of rows, squares taken from squares; not below 0.

    >>> debiased_variation(np.array([50, 50]), np.array([47, 53]))
    0.0
    """
    both = _both(reference, current)
    if both is None:
        return 0.0
    n, m = float(np.sum(current)), float(np.sum(reference))
    pooled = shares(np.asarray(reference) + np.asarray(current))
    chance = math.sqrt(2 / math.pi) * float(np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m)).sum()) / 2
    return math.sqrt(max(0.0, total_variation(reference, current) ** 2 - chance**2))


def _moments(counts: Array, positions: Array) -> tuple[float, float]:
    p = shares(counts)
    mean = float((p * positions).sum())
    return mean, math.sqrt(max(0.0, float((p * (positions - mean) ** 2).sum())))
