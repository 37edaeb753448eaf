"""Tests that hold however often one looks: of counts, of shares and of means.

Each is a betting game: a capital that begins at 1 and, if nothing is wrong, is not expected to grow, whatever the
moment of looking. By Ville's inequality it ever reaches 1 / level with a chance of at most `level`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special

SRM_CONCENTRATION = 100.0
"""Prior weight of the share that was asked for, in units; small differences are found late, large ones early."""


@dataclass(frozen=True)
class Sample:
    """Values of independent units, as their number, mean and variance."""

    units: int
    mean: float
    variance: float
    """With units - 1 in the denominator; 0 of fewer than two."""


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of means, with an interval that holds at all looks together."""

    value: float
    low: float
    high: float
    variance: float
    """Square of the standard error."""


def mismatch(challenger: int, champion: int, share: float, concentration: float = SRM_CONCENTRATION) -> float:
    """Sample-ratio mismatch: always-valid p-value of "units come to the challenger with this share".

    Lindon & Malek, Sequential Testing of Multinomial Hypotheses with Applications to Detecting Implementation Errors
    and Missing Data in Randomized Experiments, 2020 (arXiv 2011.03567): a Dirichlet mixture of multinomial
    likelihoods over the one that was asked for. The arguments are all units so far; exact at any number of looks.

    >>> mismatch(1_000, 1_000, 0.5), mismatch(2_750, 2_250, 0.5) < 1e-6
    (1.0, True)
    """
    a, b = concentration * share, concentration * (1 - share)
    gained = special.betaln(a + challenger, b + champion) - special.betaln(a, b)
    asked = challenger * math.log(share) + champion * math.log1p(-share)
    return math.exp(min(0.0, asked - float(gained)))


def more_often(challenger: int, champion: int, share: float, ratio: float) -> float:
    """Always-valid p-value of "what went wrong went wrong at most `ratio` times as often with the challenger".

    `challenger`, `champion`: units with the event so far; `share`: of all units that are the challenger's. Of the
    units with the event the challenger then has at most ratio * share / (ratio * share + 1 - share); the bet is on
    every larger share alike: a mixture as in `mismatch`, with a uniform prior cut off there. Rare events only need
    their own number, not that of all units.

    >>> more_often(12, 10, 0.5, 2.0), more_often(40, 5, 0.5, 2.0) < 0.01
    (1.0, True)
    """
    bound = ratio * share / (ratio * share + 1 - share)
    tail = float(special.betaincc(1 + challenger, 1 + champion, bound))
    if tail <= 0:
        return 1.0
    gained = float(special.betaln(1 + challenger, 1 + champion)) + math.log(tail) - math.log1p(-bound)
    return math.exp(min(0.0, challenger * math.log(bound) + champion * math.log1p(-bound) - gained))


def reach(variance: float, scale: float, level: float) -> float:
    """Half the width of an interval that holds at all looks with a chance of 1 - level.

    The normal mixture of Robbins (Annals of Mathematical Statistics 41, 1970), in the form of the always-valid
    intervals of Johari, Koomen, Pekelis & Walsh (Operations Research 70, 2022); asymptotic as in Waudby-Smith, Arbour,
    Sinha, Kennedy & Ramdas (Annals of Statistics 52, 2024):
    sqrt(V (V + s^2) / s^2 * log((V + s^2) / (V level^2))), V the squared standard error. It is tightest for effects
    of about `scale`, s, and somewhat wider for all others.

    >>> round(reach(0.01**2, 0.05, 0.05), 4)
    0.031
    >>> round(reach(0.01**2, 0.05, 0.05) / (1.96 * 0.01), 2)
    1.58
    """
    if variance <= 0:
        return 0.0
    wide = variance + scale**2
    return math.sqrt(variance * wide / scale**2 * (math.log(wide / variance) - 2 * math.log(level)))


def difference(challenger: Sample, champion: Sample, scale: float, level: float) -> Estimate:
    """Challenger less champion, of different units.

    The variance of few is drawn towards that of many: both models answer the same people, and an arm of fifty units
    in which nothing has gone wrong yet does not vary by 0.
    """
    ours, theirs = _steadied(challenger, champion), _steadied(champion, challenger)
    return _around(challenger.mean - champion.mean, ours / challenger.units + theirs / champion.units, scale, level)


def mean(sample: Sample, scale: float, level: float, usual: Sample | None = None) -> Estimate:
    """The mean of one sample; `usual` steadies its variance."""
    variance = sample.variance if usual is None else _steadied(sample, usual)
    return _around(sample.mean, variance / sample.units, scale, level)


def units_needed(estimate: Estimate, distance: float, units: int, scale: float, level: float) -> int | None:
    """Further units after which the interval would be narrower than `distance`; None: more than anyone waits for.

    The squared standard error falls with the number of units, which all arms gain alike.

    >>> units_needed(Estimate(0.02, 0, 0, 0.01**2), 0.02, 1_000, 0.05, 0.05)
    1584
    """
    if distance <= 0 or reach(estimate.variance * 1e-4, scale, level) > distance:
        return None
    low, high = 1e-4, 1.0  # shares of the present variance: narrow enough, too wide
    if reach(estimate.variance, scale, level) <= distance:
        return 0
    while high / low > 1.0005:
        middle = math.sqrt(low * high)
        if reach(estimate.variance * middle, scale, level) <= distance:
            low = middle
        else:
            high = middle
    return math.ceil(units * (1 / low - 1))


STEADY_UNITS = 50
"""An arm of so many units has half of its own variance, half of the other's."""


def _steadied(own: Sample, other: Sample) -> float:
    if other.units <= own.units:
        return own.variance
    weight = own.units / (own.units + STEADY_UNITS)
    return weight * own.variance + (1 - weight) * other.variance


def _around(value: float, variance: float, scale: float, level: float) -> Estimate:
    half = reach(variance, scale, level)
    return Estimate(value, value - half, value + half, variance)
