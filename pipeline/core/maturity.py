"""Label maturity: what share of the labels has come by what age, and how to weigh those that have.

A label that comes late is not missing at random: those that came first are of other rows than those that come last.
So a young window's plain metric is about the early labels, and each of them has to stand for the late ones too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
LEAST_SHARE = 0.1
"""Rows of an age by which fewer labels of some class have come are left out: a weight above 10 is a guess."""
FEW_LABELS = 50
"""A class with fewer labels than this takes the curve of all."""


@dataclass(frozen=True)
class Steps:
    """A distribution function of delays: `share` of the labels have come by the age `days`, both ascending."""

    days: Array
    share: Array

    def at(self, ages_days: Array) -> Array:
        """Share at each age, shape (n,); 0 before the first step."""
        reached = np.searchsorted(self.days, ages_days, side="right")
        return np.asarray(np.concatenate([[0.0], self.share])[reached])


@dataclass(frozen=True)
class MaturityCurve:
    """How labels come, with age."""

    horizon_days: float
    """No label that comes later than this is waited for."""
    share_ever: float
    """Share of the rows whose label comes at all."""
    overall: Steps
    """Of the labels that come at all, the share known by an age; 1 from the horizon on."""
    by_class: dict[int, Steps]
    """The same for the labels of one class, where there are enough of them."""

    def share_known(self, ages_days: Array) -> Array:
        """Expected share of the labels known at each age, of those that come at all, shape (n,)."""
        return self.overall.at(ages_days)

    def of_class(self, ages_days: Array, classes: Array | None) -> Array:
        """Chance that the label of a row of this class is known at its age, shape (n,).

        `classes`, shape (n,): class index, or None where labels have none, as in regression.
        """
        known = self.overall.at(ages_days)
        if classes is not None:
            for label, steps in self.by_class.items():
                own = classes == label
                known[own] = steps.at(ages_days[own])
        return known

    def lag_days(self, share: float) -> float:
        """Age by which this share of the labels has come; infinite where it never does."""
        reached = np.flatnonzero(self.overall.share >= share - 1e-12)
        return float(self.overall.days[reached[0]]) if len(reached) else math.inf

    @property
    def usable_from_days(self) -> float:
        """Age from which on every class has at least `LEAST_SHARE` of its labels."""
        starts = []
        for steps in (self.overall, *self.by_class.values()):
            reached = np.flatnonzero(steps.share >= LEAST_SHARE)
            starts.append(float(steps.days[reached[0]]) if len(reached) else math.inf)
        return max(starts)


def fixed_maturity(known_after_days: float) -> MaturityCurve:
    """Labels that are all final at one age, and none before.

    >>> fixed_maturity(30).share_known(np.array([29.9, 30.0]))
    array([0., 1.])
    """
    return MaturityCurve(known_after_days, 1.0, Steps(np.array([known_after_days]), np.ones(1)), {})


def maturity_curve(
    delays_days: Array, ages_days: Array, classes: Array | None = None, *, horizon_days: float
) -> MaturityCurve:
    """The curve that these rows show.

    `delays_days`, shape (n,): age at which the label came, NaN where it has not. `ages_days`, shape (n,): age of the
    row now; a row without a label is censored there. `classes`, shape (n,): class index, read only where the label
    is known. `horizon_days`: see `MaturityCurve`; labels that came later count as never come.

    Over all rows: Kaplan & Meier, Journal of the American Statistical Association 53, 1958, divided by its value at
    the horizon. Of one class: whose rows have it is known only after the label came, so delays are truncated at the
    age of the row instead of censored, and the product runs backwards from the horizon (Lynden-Bell, Monthly Notices
    of the Royal Astronomical Society 155, 1971; for late reports Kalbfleisch & Lawless, Journal of the American
    Statistical Association 84, 1989). Rows as old as the horizon are needed for the end of the curve.

    Raises ValueError where there is no label, or no row as old as the horizon: the curve's end would be a guess.

    >>> curve = maturity_curve(np.array([1., 2., 3., np.nan]), np.array([9., 9., 9., 2.5]), horizon_days=5)
    >>> curve.share_ever, curve.share_known(np.array([0., 1., 2., 3.])).round(2).tolist()
    (1.0, [0.0, 0.25, 0.5, 1.0])
    """
    came = np.isfinite(delays_days) & (delays_days <= np.minimum(ages_days, horizon_days))
    if not came.any() or (ages_days < horizon_days).all():
        raise ValueError(
            f"{int(came.sum())} labels and {int((ages_days >= horizon_days).sum())} rows as old as {horizon_days:g} "
            "days; a maturity curve needs some of both: state known_after_days until there are"
        )
    last = np.where(came, delays_days, np.minimum(ages_days, horizon_days))
    days = np.unique(delays_days[came])
    events = np.searchsorted(np.sort(delays_days[came]), days, "right")
    events = np.diff(np.concatenate([[0], events]))
    waiting = len(last) - np.searchsorted(np.sort(last), days, "left")
    share = 1 - np.cumprod(1 - events / waiting)
    by_class = {}
    if classes is not None:
        for label in np.unique(classes[came]):
            own = came & (classes == label)
            if own.sum() >= FEW_LABELS:
                by_class[int(label)] = _truncated(delays_days[own], np.minimum(ages_days[own], horizon_days))
    return MaturityCurve(horizon_days, float(share[-1]), Steps(days, share / share[-1]), by_class)


def _truncated(delays_days: Array, ages_days: Array) -> Steps:
    """Distribution of delays of which only those up to the age of their row can be seen."""
    days = np.unique(delays_days)
    at_most = np.searchsorted(np.sort(delays_days), days, "right")
    events = np.diff(np.concatenate([[0], at_most]))
    # Seen by this delay, in rows old enough to have shown it: delay <= day <= age.
    at_risk = at_most - np.searchsorted(np.sort(ages_days), days, "left")
    stays = 1 - events / np.maximum(at_risk, events)
    share = np.concatenate([np.cumprod(stays[::-1])[::-1][1:], [1.0]])
    return Steps(days, share)


def standing_for(curve: MaturityCurve, ages_days: Array, classes: Array | None) -> Array:
    """How many rows each known label stands for, shape (n,): one over the chance that it is known by now.

    Horvitz & Thompson, Journal of the American Statistical Association 47, 1952; a weighted mean with these is
    Hájek's. 0 for rows younger than `usable_from_days`.

    >>> curve = MaturityCurve(30, 1.0, Steps(np.array([1., 30.]), np.array([.5, 1.])), {})
    >>> standing_for(curve, np.array([0., 5., 40.]), None).tolist()
    [0.0, 2.0, 1.0]
    """
    known = curve.of_class(ages_days, classes)
    usable = (ages_days >= curve.usable_from_days) & (known > 0)
    return np.where(usable, 1 / np.where(known > 0, known, 1.0), 0.0)
