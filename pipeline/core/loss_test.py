"""Has the concept changed? A test of the labels that came, against those that were to be expected of these rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.core.estimation import Estimator
from pipeline.core.expectation import ABSOLUTE, ERROR, log_odds, targets
from pipeline.core.reweighting import Reweighting

Array = np.ndarray
BINS = 6
MOST_CLASSES = 10
SMALLEST = 1e-4
"""Probability below which a class is as good as ruled out: one such row must not outweigh all others."""
LEAST_ROWS = 50
"""Labelled rows that have their like at registration, below which nothing can be told."""


@dataclass(frozen=True)
class ConceptTest:
    """Whether labels still relate to the features as they did at registration."""

    p_value: float
    """Chance of labels as far from the expected ones or farther, if the concept had not changed; of this one look."""
    mean_excess_loss: float
    """Mean loss of a row above the expected one: Brier score, or absolute error in the target's unit."""
    excess_error: float
    """Its standard error."""
    rows: int
    told: str


@dataclass(frozen=True)
class _Mean:
    """Weighted means of several columns, with the covariance of their error."""

    value: Array
    covariance: Array
    independent: float


def concept_test(
    estimator: Estimator,
    frame: pd.DataFrame,
    actual: Array,
    scores: Array,
    reweighting: Reweighting,
    clusters: Array | None = None,
    row_weights: Array | None = None,
) -> ConceptTest:
    """Test of "given its features, a row's label comes as at registration", whatever the features now are.

    A row's residual is its label less what was expected of it. If the concept holds, the mean of any function of
    the score times the residual is the same over the window as over the reference, weighted to look like the window:
    that takes out what the expectation gets wrong, as long as either the expectation or the weights are right
    (Robins, Rotnitzky & Zhao, Journal of the American Statistical Association 89, 1994), and its variance holds the
    finite size of both. Three questions are put, each a Wald test by the F distribution:

    - loss: is the mean loss as expected;
    - level and slope: is the mean residual 0, and does it not rise with the score (Cox, Biometrika 45, 1958);
    - bins: is it 0 in every sixth of the scores (Hosmer & Lemeshow, Communications in Statistics A9, 1980, on frozen
      probabilities), which sees changes that leave the mean loss alone.

    Their p-values make one by the Cauchy combination, which holds far into the tail whatever their dependence
    (Liu & Xie, Journal of the American Statistical Association 115, 2020).

    `frame`, `actual`, `scores`: labelled rows of the window. `clusters`, shape (n,): entity of each row.
    `row_weights`, shape (n,): what each label stands for where others are still to come (`maturity.standing_for`).
    Only rows that have their like in the reference are asked; a p-value of 1 where those are too few, as `told` says.
    """
    ref = estimator.reference
    ours, theirs = reweighting.window_common, reweighting.reference_common
    rows = int(ours.sum())
    if min(rows, theirs.sum()) < LEAST_ROWS:
        told = f"{rows} of {len(actual)} labels are of rows that have their like at registration, too few to test"
        return ConceptTest(1.0, 0.0, math.inf, rows, told)
    expected, known = estimator.expected.of(frame, scores), estimator.expected.reference_rows
    now, then = targets(ref.task, actual, scores) - expected, ref.targets() - known
    place, before = _place(ref.task, scores, expected), _place(ref.task, ref.scores, known)
    edges = np.unique(np.quantile(place[ours], np.linspace(0, 1, BINS + 1)[1:-1]))
    centre, scale = float(place[ours].mean()), float(place[ours].std()) or 1.0
    asked_now = _questions(ref.task, scores, now, place, edges, centre, scale)
    asked_then = _questions(ref.task, ref.scores, then, before, edges, centre, scale)
    standing = np.ones(len(actual)) if row_weights is None else row_weights
    p_values = []
    excess = error = 0.0
    for number, (columns, past_columns) in enumerate(zip(asked_now, asked_then, strict=True)):
        window = _mean(columns, standing * ours, clusters)
        past = _mean(past_columns, reweighting.weights * theirs, ref.clusters)
        gap, covariance = window.value - past.value, window.covariance + past.covariance
        if number == 0:
            excess, error = float(gap[0]), math.sqrt(float(covariance[0, 0]))
        least = min(window.independent * _rarity(ref.task, expected[ours]), past.independent * _rarity(ref.task, known))
        p_values.append(_wald(gap, covariance, least))
    p_value = cauchy(np.array(p_values))
    without = "" if rows == len(actual) else f" of {len(actual):,}, the others having none like them at registration"
    told = (
        f"mean loss {excess:+.4f} beyond what these rows make expected (standard error {error:.4f}); "
        f"p = {p_value:.2g} over loss, level and slope, and bins of the score, {rows:,} labels{without}"
    )
    return ConceptTest(p_value, excess, error, rows, told)


def _place(task: str, scores: Array, expected: Array) -> Array:
    """Where a row stands on the scale of scores: log-odds of class 1, chance of the class called, or prediction."""
    if task == "regression":
        return scores
    if task == "binary":
        return log_odds(scores[:, 1])
    return np.asarray(expected[np.arange(len(scores)), scores.argmax(axis=1)])


def _rarity(task: str, expected: Array) -> float:
    """Share of the rows that tell: twice the rarer class's, as a few hits among many rows vary as few rows do."""
    if task != "binary":
        return 1.0
    share = float(expected[:, 1].mean())
    return 2 * min(share, 1 - share)


def _questions(
    task: str, scores: Array, left: Array, place: Array, edges: Array, centre: float, scale: float
) -> tuple[Array, Array, Array]:
    """Columns whose means are asked for, shapes (n, k): of loss, of level and slope, of bins."""
    height = ((place - centre) / scale).clip(-4, 4)[:, None]
    inside = (np.searchsorted(edges, place, side="right")[:, None] == np.arange(len(edges) + 1)).astype(np.float64)
    if task == "regression":
        error, size = left[:, [ERROR]], left[:, [ABSOLUTE]]
        return size, np.column_stack([error, error * height]), np.column_stack([inside * error, inside * size])
    # Of the Brier score, half of sum((score - one-hot)**2), this is what the residual decides.
    loss = ((1 - 2 * scores) * left).sum(axis=1, keepdims=True) / 2
    if task == "binary":
        hit = left[:, [1]]
        return loss, np.column_stack([hit, hit * height]), inside * hit
    hit = left[np.arange(len(left)), scores.argmax(axis=1)][:, None]
    slope = (np.log(np.maximum(scores, SMALLEST)) * left).sum(axis=1)  # Cox's, of all classes at once
    return loss, np.column_stack([left[:, 1 : MOST_CLASSES + 1], slope]), inside * hit


def _mean(columns: Array, weights: Array, clusters: Array | None) -> _Mean:
    """Hájek means with the sandwich covariance, the rows of an entity summed first."""
    total = weights.sum()
    value = weights @ columns / total
    parts = weights[:, None] * (columns - value) / total
    if clusters is not None:
        parts = np.column_stack([np.bincount(clusters, column) for column in parts.T])
        weights = np.bincount(clusters, weights)
    independent = float(weights.sum() ** 2 / (weights**2).sum())
    return _Mean(value, parts.T @ parts * independent / max(independent - 1, 1), independent)


def _wald(gap: Array, covariance: Array, independent: float) -> float:
    """Chance of so large a gap; directions in which nothing varies are left out."""
    scale = np.sqrt(np.diag(covariance))
    used = scale > 1e-12
    if not used.any():
        return 1.0
    correlation = covariance[np.ix_(used, used)] / np.outer(scale[used], scale[used])
    values, vectors = np.linalg.eigh(correlation)
    kept = values > 1e-8 * values.max()
    turned = vectors[:, kept].T @ (gap[used] / scale[used])
    degrees = int(kept.sum())
    rest = max(1.0, independent - degrees)
    statistic = float((turned**2 / values[kept]).sum())
    return float(stats.f.sf(statistic * rest / (degrees * max(independent - 1, 1)), degrees, rest))


def cauchy(p_values: Array) -> float:
    """One p-value of several, by the mean of their Cauchy quantiles.

    >>> round(cauchy(np.array([0.001, 0.4, 0.8])), 4)
    0.003
    """
    bounded = np.clip(p_values, 1e-300, 1 - 1e-9)
    # tan((1/2 - p) pi) is cot(p pi), which holds for tiny p as well.
    return float(stats.cauchy.sf(np.mean(1 / np.tan(bounded * math.pi))))
