"""Tails of permutation distributions, far out: a budget of false alarms a year asks for chances of one in ten million.

There the normal approximation is wrong for sparse and skewed counts, by factors of ten and more. Given what two
samples hold together, which rows are in which sample is a draw without replacement; its tails come from the double
saddlepoint approximation, whose relative error stays within a few percent however far out.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaincc, gammaln, ndtr, ndtri

Array = np.ndarray

PRECISE_FROM = 2.5
"""Below this many standard errors nothing is decided, and the normal approximation will do."""
NEWTON_STEPS = 40
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(48)


def two_sided(z: Array) -> Array:
    """Chance of a standard normal further out than `z`, on either side."""
    return np.asarray(2 * ndtr(-np.abs(z)))


def normal_of(p_value: Array) -> Array:
    """The inverse of `two_sided`: as many standard errors, not negative."""
    return np.asarray(-ndtri(np.clip(p_value, 1e-300, 1.0) / 2))


def cell_p_values(current: Array, reference: Array, rows_current: Array, rows_reference: Array) -> Array:
    """Two-sided p-values of counts in a cell: Fisher's exact test, twice the smaller tail, within a few percent.

    Shapes broadcast; counts and rows are whole numbers. Within PRECISE_FROM standard errors, where an exact p-value is
    no smaller than .002, the normal approximation.

    >>> cell_p_values(np.array([9]), np.array([1]), np.array([50]), np.array([100])).round(4)
    array([0.0004])
    """
    ours, theirs, n, m = np.broadcast_arrays(current, reference, rows_current, rows_reference)
    total, pooled = np.maximum(n + m, 2.0), ours + theirs
    spread = np.sqrt(np.maximum(n * (m / total) * (pooled / total) * ((total - pooled) / (total - 1)), 1e-300))
    z = (ours - n * (pooled / total)) / spread
    p_values = two_sided(z)
    far = np.nonzero((np.abs(z) > PRECISE_FROM) & (pooled > 0) & (pooled < total))
    if len(far[0]):
        p_values[far] = np.minimum(1.0, 2 * _cell_tail(ours[far], theirs[far], n[far], m[far]))
    return p_values


def _cell_tail(ours: Array, theirs: Array, n: Array, m: Array) -> Array:
    """Upper tail for whichever side has more than its part.

    Skovgaard's double saddlepoint with its second continuity correction (Journal of Applied Probability 24, 1987;
    Butler: Saddlepoint Approximations, 2007, section 4.1.5), which for two rows and two columns is in closed form.
    """
    more = ours * (m / n) > theirs
    a, b = np.where(more, ours, theirs) - 0.5, np.where(more, theirs, ours) + 0.5
    own, other = np.where(more, n, m).astype(np.float64), np.where(more, m, n).astype(np.float64)
    both, total, c, d = a + b, own + other, own - a, other - b
    rest = total - both
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = np.log(a) + np.log(d) - np.log(b) - np.log(c)
        gain = (
            a * np.log(a * total / (own * both)) + b * np.log(b * total / (other * both))
            + c * np.log(c * total / (own * rest)) + d * np.log(d * total / (other * rest))
        )  # fmt: skip
        root = np.sqrt(2 * np.maximum(gain, 0))
        wald = 2 * np.sinh(odds / 2) * np.sqrt(a * b / both * (c * d / rest) * (total / (own * other)))
        tail = lugannani_rice(root, wald)
    # The whole cell in one sample, or a sample wholly in the cell: one arrangement, whose chance is exact.
    whole = np.where(b < 1, both, rest)
    least = np.where(b < 1, own, other)
    alone = np.exp(gammaln(least + 1) - gammaln(least - whole + 1) + gammaln(total - whole + 1) - gammaln(total + 1))
    return np.asarray(np.where(((b < 1) & (both <= own)) | (c < 1), alone, tail))


def lugannani_rice(root: Array, wald: Array) -> Array:
    """Upper tail from a signed likelihood root and a Wald statistic, both positive.

    Lugannani & Rice, Advances in Applied Probability 12, 1980.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        bulk = np.exp(-0.5 * root**2) / np.sqrt(2 * np.pi)
        tail = ndtr(-root) + bulk * (1 / wald - 1 / root)
    return np.asarray(np.where(root > 1e-4, np.clip(tail, 0.0, 1.0), 0.5))


def score_deviates(scores: Array, pooled: Array, current: Array) -> tuple[Array, Array]:
    """Sums of scores over the current rows, in standard errors from their mean; and the correlations of the sums.

    `scores`: shape (batch, statistics, cells), of the order of one; `pooled`, `current`: rows, shape (batch, cells).
    Returns shapes (batch, statistics) and (batch, statistics, statistics). Exact mean and variance over permutations
    (Hajek, Sidak, Sen: Theory of Rank Tests, 2nd ed. 1999, section 3.3). Zero where the scores do not vary.
    """
    total = np.maximum(pooled.sum(axis=-1, dtype=np.float64), 2.0)[:, None]
    rows = current.sum(axis=-1, dtype=np.float64)[:, None]
    shares = pooled / total
    mean = np.matmul(scores, shares[..., None])[..., 0]
    products = np.matmul(scores * shares[:, None, :], scores.transpose(0, 2, 1)) - mean[:, :, None] * mean[:, None, :]
    spread = np.sqrt(np.maximum(np.diagonal(products, axis1=1, axis2=2), 0.0))
    varies = spread > 1e-6
    spread = np.where(varies, spread, 1.0)
    error = spread * np.sqrt(np.maximum(rows * (total - rows) / (total - 1), 1e-12))
    sums = np.matmul(scores, current[..., None].astype(np.float64))[..., 0]
    z = np.where(varies, (sums - rows * mean) / error, 0.0)
    return z, products / (spread[:, :, None] * spread[:, None, :])


def score_p_values(z: Array, scores: Array, pooled: Array, current: Array) -> Array:
    """Two-sided permutation p-values of sums of scores, given `score_deviates`. Shape (batch, statistics).

    The sum is moved towards its mean by half the largest gap between neighbouring scores of occupied cells, so that
    where it moves in jumps the p-value is that of reaching the jump.
    """
    p_values = two_sided(z)
    where = np.nonzero(np.abs(z) > PRECISE_FROM)
    if len(where[0]) == 0:
        return p_values
    batch, which = where
    cells = pooled[batch].astype(np.float64)
    shares = cells / cells.sum(axis=1, keepdims=True)
    own = scores[batch, which]
    own = own - (own * shares).sum(axis=1, keepdims=True)
    own *= (np.sign(z[where]) / np.sqrt((own**2 * shares).sum(axis=1)))[:, None]
    observed = (own * current[batch]).sum(axis=1) - _half_gap(own, cells)
    p_values[where] = np.minimum(1.0, 2 * _upper_tail(observed, own, cells, current[batch].sum(axis=1)))
    return p_values


def _half_gap(scores: Array, cells: Array) -> Array:
    ordered = np.sort(np.where(cells > 0, scores, np.nan), axis=1)
    return np.asarray(np.nan_to_num(np.diff(ordered, axis=1)).max(axis=1) / 2)


def _upper_tail(observed: Array, scores: Array, cells: Array, drawn: Array) -> Array:
    """Chance that `drawn` rows out of `cells` have a sum of scores of at least `observed`; all of shape (batch, ...).

    The rows of a cell are drawn binomially, given their total: K(s, u) = sum of cells * log(1 + exp(u + s * score))
    (Booth & Butler, Randomization distributions and saddlepoint approximations in generalized linear models,
    Biometrika 77, 1990). Newton's steps find s and u.
    """
    total = cells.sum(axis=1)
    start = np.log(drawn / (total - drawn))
    s, u = np.zeros_like(start), start.copy()
    spread = drawn * (total - drawn) / total

    def derivatives(s: Array, u: Array) -> tuple[Array, ...]:
        share = 1 / (1 + np.exp(-np.clip(u[:, None] + s[:, None] * scores, -500, 500)))
        mean, variance = cells * share, cells * share * (1 - share)
        return (
            (mean * scores).sum(axis=1) - observed, mean.sum(axis=1) - drawn,
            (variance * scores**2).sum(axis=1), (variance * scores).sum(axis=1), variance.sum(axis=1),
        )  # fmt: skip

    def height(s: Array, u: Array) -> Array:
        inside = np.logaddexp(0, u[:, None] + s[:, None] * scores)
        return np.asarray(s * observed + u * drawn - (cells * inside).sum(axis=1))

    now = lowest = height(s, u)
    for _ in range(NEWTON_STEPS):
        first_s, first_u, ss, su, uu = derivatives(s, u)
        det = np.maximum(ss * uu - su**2, 1e-300)
        step_s, step_u = -(uu * first_s - su * first_u) / det, -(ss * first_u - su * first_s) / det
        size = np.minimum(1.0, 2.0 / np.maximum(np.abs(step_s), 1e-12))
        for _ in range(6):  # uphill, or shorter
            then = height(s + size * step_s, u + size * step_u)
            size = np.where(then >= now - 1e-9, size, size / 4)
        s, u = s + size * step_s, u + size * step_u
        now = height(s, u)
        if np.all(np.abs(size * step_s) < 1e-8 * (1 + np.abs(s))):
            break
    _, _, ss, su, uu = derivatives(s, u)
    gain = np.maximum(now - lowest, 0.0)
    root = np.sqrt(2 * gain)
    wald = s * np.sqrt(np.maximum(ss * uu - su**2, 0.0) / spread)
    tail = lugannani_rice(root, np.where(wald > 0, wald, np.nan))
    bound = np.exp(-gain) * np.maximum(1.0, np.sqrt(2 * np.pi * spread))  # Chernoff's, where there is no saddle
    return np.where(np.isfinite(tail) & (tail > 0), tail, np.minimum(1.0, bound))


def joint_tail(first: Array, second: Array, correlation: Array) -> Array:
    """Chance that both of two correlated standard normals are further out than `first` and `second`, on any side.

    Gauss-Legendre over the first, the second given it. Shapes broadcast.

    >>> joint_tail(np.array([2.0]), np.array([2.0]), np.array([0.0])).round(6)
    array([0.00207])
    """
    first, second, correlation = np.broadcast_arrays(first, second, np.abs(correlation))
    reach = 12 / (first + 2)
    points = first[..., None] + reach[..., None] * (NODES + 1) / 2
    density = np.exp(-0.5 * points**2) / np.sqrt(2 * np.pi) * NODE_WEIGHTS * reach[..., None] / 2
    slope = np.minimum(correlation, 1 - 1e-6)[..., None]
    left = np.sqrt(1 - slope**2)
    inner = ndtr((slope * points - second[..., None]) / left) + ndtr((-slope * points - second[..., None]) / left)
    found = 2 * (density * inner).sum(axis=-1)
    return np.asarray(np.minimum(found, np.minimum(two_sided(first), two_sided(second))))


def chi_square_tail(squares: Array, degrees: Array) -> Array:
    """Upper tail of the chi-square distribution, without scipy's care for arguments that cannot be."""
    return np.asarray(gammaincc(np.maximum(degrees, 1) / 2, np.maximum(squares, 0) / 2))
