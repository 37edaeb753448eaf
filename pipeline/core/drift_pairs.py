"""Pairs of numbers: whether their correlation has changed, whatever their own distributions do.

By normal scores, so that a heavy tail cannot decide; a shift or a stretch of a column alone moves no correlation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

Array = np.ndarray
MOST_CORRELATED = 0.999
"""Two columns that are one and the same have no finite index."""


def pair_psi(before: float, after: float) -> float:
    """The population stability index of a changed correlation: Jeffreys' divergence of two bivariate normals with it.

    J = (1 - r s) / (1 - r^2) + (1 - r s) / (1 - s^2) - 2 (Kullback, Information Theory and Statistics, 1959,
    chapter 9); the index of a shift by d standard deviations is d^2 on the same scale.

    >>> round(pair_psi(0.6, 0.3), 3), pair_psi(0.5, 0.5)
    (0.182, 0.0)
    """
    r, s = (min(max(one, -MOST_CORRELATED), MOST_CORRELATED) for one in (before, after))
    return max(0.0, (1 - r * s) / (1 - r * r) + (1 - r * s) / (1 - s * s) - 2)


def moved_by(psi: float) -> float:
    """Share of the rows that a normal's index of stability stands for: total variation of a shift by sqrt(psi).

    >>> round(moved_by(0.25), 3)
    0.197
    """
    return math.erf(math.sqrt(max(0.0, psi)) / 2 / math.sqrt(2))


@dataclass(frozen=True)
class PairMoments:
    """Sums over the rows of a sample, or of a batch of them."""

    products: Array
    """As `Sketch.products`, shape (..., 4, pairs, pairs)."""
    means: Array
    """Mean score of each column, shape (..., pairs)."""
    fourths: Array
    """Mean fourth power of each score, shape (..., pairs)."""

    @classmethod
    def of(cls, products: Array, counts: Sequence[Array], scores: Sequence[Array]) -> PairMoments:
        """From the rows in each bin of every column, shape (..., bins), and the scores of its bins."""
        powers = []
        for power in (1, 4):
            sums = [rows @ own.astype(np.float64) ** power for rows, own in zip(counts, scores, strict=True)]
            rows = [np.maximum(one.sum(axis=-1), 1) for one in counts]
            shape = (*products.shape[:-3], products.shape[-1])
            stacked = [total / number for total, number in zip(sums, rows, strict=True)]
            powers.append(np.stack(stacked, axis=-1) if stacked else np.zeros(shape))
        return cls(products, powers[0], powers[1])

    def correlations(self) -> Array:
        """Of the scores, shape (..., pairs, pairs); 0 where a score does not vary."""
        moments = self.products[..., 1, :, :] / np.maximum(self.products[..., 0, :, :], 1)
        moments = moments - self.means[..., :, None] * self.means[..., None, :]
        spread = np.sqrt(np.maximum(np.diagonal(moments, axis1=-2, axis2=-1), 0))
        scale = spread[..., :, None] * spread[..., None, :]
        return np.asarray(np.clip(np.where(scale > 0, moments / np.where(scale > 0, scale, 1.0), 0.0), -1, 1))


def pair_p_values(
    reference: PairMoments, current: PairMoments, inflation: Array | None = None
) -> tuple[Array, Array, Array]:
    """Two-sided p-values of equal correlations, and both correlations; each of shape (..., pairs, pairs).

    Fisher's z, its variance from the moments of the scores themselves, as normal margins do not make the pair normal
    (Hawkins, American Statistician 43, 1989). Student's t with as many degrees as rows that carry information: few,
    where scores are mostly one value and rarely a large one.
    """
    one, other = reference.correlations(), current.correlations()
    n, m = current.products[..., 0, :, :].astype(np.float64), reference.products[..., 0, :, :].astype(np.float64)
    pooled = reference.products + current.products
    both = np.maximum(pooled[..., 0, :, :], 1)
    rho = (m * one + n * other) / np.maximum(n + m, 1)
    unit = np.sqrt(np.maximum(np.diagonal(pooled[..., 1, :, :] / both, axis1=-2, axis2=-1), 1e-12))
    scale = unit[..., :, None] * unit[..., None, :]
    squares = pooled[..., 2, :, :] / both / scale**2
    cubes = pooled[..., 3, :, :] / both / (unit**3)[..., :, None] / unit[..., None, :]
    own = np.diagonal(n, axis1=-2, axis2=-1), np.diagonal(m, axis1=-2, axis2=-1)
    tails = (own[0] * current.fourths + own[1] * reference.fourths) / np.maximum(own[0] + own[1], 1) / unit**4
    variance = (
        squares - rho * (cubes + np.swapaxes(cubes, -1, -2))
        + rho**2 / 4 * (tails[..., :, None] + tails[..., None, :] + 2 * squares)
    )  # fmt: skip
    variance = np.maximum(variance, 1e-3) / np.maximum(1 - rho**2, 1e-3) ** 2
    error = np.sqrt(variance * (1 / np.maximum(n - 3, 1) + 1 / np.maximum(m - 3, 1)))
    far = np.abs(np.arctanh(np.clip(other, -0.999, 0.999)) - np.arctanh(np.clip(one, -0.999, 0.999))) / error
    if inflation is not None:
        far = far / np.sqrt(inflation)
    weight = np.maximum(tails[..., :, None] * tails[..., None, :] / 9, 1.0)
    degrees = np.maximum(np.minimum(n, m) / weight - 3, 1.0)
    return np.asarray(2 * stdtr(degrees, -far)), one, other
