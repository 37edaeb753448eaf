"""Metrics by scikit-learn's names, each also on many weightings of the rows at once, for the bootstrap.

Every function takes the rows and `weights` of shape (b, n) and gives shape (b,); a row of ones is the plain
metric, equal to scikit-learn's. One sort and a few matrix products serve all b resamples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.core.decision import Payoff
from pipeline.core.estimators import Task
from pipeline.core.metric_names import MONEY

Array = np.ndarray
CALIBRATION_BINS = 15
PROBABILITY_FLOOR = float(np.finfo(np.float64).eps)
"""Where scikit-learn's log_loss clips."""


def evaluate(
    task: Task, actual: Array, scores: Array, weights: Array, threshold: float = 0.5, payoff: Payoff | None = None
) -> dict[str, Array]:
    """All metrics of the task: name -> shape (b,).

    `actual`: binary and multiclass: class index, shape (n,), -1 for a class the model never saw;
    regression: float, shape (n,). `scores`: probabilities, shape (n, classes); regression: shape (n,).
    Binary: `threshold` is the probability from which the answer is yes; with `payoff` there is also the money
    that a thousand rows make.
    """
    if task == "regression":
        return _regression(actual, scores, weights)
    if task == "binary":
        found = _binary(actual == 1, scores[:, 1], weights, threshold)
        if payoff is not None:
            found[MONEY] = 1000 * _mean(payoff.of(actual == 1, scores[:, 1] >= threshold), weights)
        return found
    return _multiclass(actual, scores, weights)


def _mean(values: Array, weights: Array) -> Array:
    return np.asarray(weights @ values / weights.sum(axis=1))


def _ratio(part: Array, whole: Array) -> Array:
    """Part / whole, 0 where whole is 0, as scikit-learn has it with zero_division=0."""
    return np.asarray(np.divide(part, whole, out=np.zeros_like(part, dtype=np.float64), where=whole > 0))


def _regression(actual: Array, predicted: Array, weights: Array) -> dict[str, Array]:
    errors = actual - predicted
    squared = _mean(errors**2, weights)
    mean = _mean(actual, weights)
    variance = _mean(actual**2, weights) - mean**2
    return {
        "r2": 1 - np.divide(squared, variance, out=np.full_like(squared, np.inf), where=variance > 0),
        "mean_absolute_error": _mean(np.abs(errors), weights),
        "root_mean_squared_error": np.sqrt(squared),
        "mean_squared_error": squared,
    }


def _binary(positive: Array, score: Array, weights: Array, threshold: float) -> dict[str, Array]:
    called = score >= threshold
    hits, misses = _mean(positive & called, weights), _mean(positive & ~called, weights)
    alarms, rests = _mean(~positive & called, weights), _mean(~positive & ~called, weights)
    recall = _ratio(hits, hits + misses)
    clipped = np.clip(score, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return {
        "roc_auc": roc_auc(positive, score, weights),
        "average_precision": average_precision(positive, score, weights),
        "accuracy": hits + rests,
        "balanced_accuracy": (recall + _ratio(rests, rests + alarms)) / 2,
        "f1": _ratio(2 * hits, 2 * hits + alarms + misses),
        "precision": _ratio(hits, hits + alarms),
        "recall": recall,
        "log_loss": _mean(-np.where(positive, np.log(clipped), np.log1p(-clipped)), weights),
        "brier_score_loss": _mean((positive - score) ** 2, weights),
        "calibration_error": calibration_error(positive, score, weights),
    }


def _multiclass(actual: Array, scores: Array, weights: Array) -> dict[str, Array]:
    called = scores.argmax(axis=1)
    clipped = np.clip(scores, PROBABILITY_FLOOR, 1)
    own = np.where(actual >= 0, clipped[np.arange(len(actual)), np.maximum(actual, 0)], PROBABILITY_FLOOR)
    f1, recalls = [], []
    for label in np.unique(np.concatenate([actual, called])):
        hits = _mean((actual == label) & (called == label), weights)
        real, said = _mean(actual == label, weights), _mean(called == label, weights)
        f1.append(_ratio(2 * hits, real + said))
        if (actual == label).any():
            recalls.append(_ratio(hits, real))
    return {
        "accuracy": _mean(actual == called, weights),
        "balanced_accuracy": np.mean(recalls, axis=0),
        "f1_macro": np.mean(f1, axis=0),
        "log_loss": _mean(-np.log(own), weights),
    }


def calibration_error(positive: Array, score: Array, weights: Array) -> Array:
    """How far probabilities are from the shares that come true: root mean square over equally filled bins.

    What a finite bin shows by chance alone is taken off, so a calibrated model comes to about 0 whatever the
    number of rows (the debiased estimator of Kumar, Liang & Ma, Verified Uncertainty Calibration, 2019).

    >>> score, positive = np.repeat([.2, .8], 50), np.r_[np.arange(50) < 10, np.arange(50) < 40]
    >>> float(calibration_error(positive, score, np.ones((1, 100)))[0])
    0.0
    >>> round(float(calibration_error(positive, score / 2, np.ones((1, 100)))[0]), 2)
    0.29
    """
    edges = np.unique(np.quantile(score, np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, score, side="right")
    members = (bins[:, None] == np.arange(len(edges) + 1)).astype(np.float64)
    size = weights @ members
    came = _ratio(weights @ (members * positive[:, None]), size)
    said = _ratio(weights @ (members * score[:, None]), size)
    chance = came * (1 - came) / np.maximum(size - 1, 1)
    return np.asarray(
        np.sqrt(np.maximum(0.0, (size * ((came - said) ** 2 - chance)).sum(axis=1) / weights.sum(axis=1)))
    )


def roc_auc(positive: Array, score: Array, weights: Array) -> Array:
    """Area under the ROC curve: the chance that a positive row scores higher than a negative one, ties half.

    >>> float(roc_auc(np.array([False, True, True]), np.array([.1, .1, .9]), np.ones((1, 3)))[0])
    0.75
    """
    tied_up, tied_down = _tied(positive, score, weights, descending=False)
    below = np.cumsum(tied_down, axis=1) - tied_down
    pairs = tied_up.sum(axis=1) * tied_down.sum(axis=1)
    won = (tied_up * (below + tied_down / 2)).sum(axis=1)
    return np.asarray(np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0))


def average_precision(positive: Array, score: Array, weights: Array) -> Array:
    """Mean precision over the steps of recall, as scikit-learn's average_precision_score."""
    tied_up, tied_down = _tied(positive, score, weights, descending=True)
    hits = np.cumsum(tied_up, axis=1)
    precision = _ratio(hits, hits + np.cumsum(tied_down, axis=1))
    total = hits[:, -1]
    gained = (tied_up * precision).sum(axis=1)
    return np.asarray(np.divide(gained, total, out=np.full(len(weights), np.nan), where=total > 0))


def _tied(positive: Array, score: Array, weights: Array, *, descending: bool) -> tuple[Array, Array]:
    """Weight of positive and of negative rows at each different score, shapes (b, distinct scores)."""
    order = np.argsort(-score if descending else score, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(score[order]) != 0]))
    sorted_weights = weights[:, order]
    up = np.add.reduceat(sorted_weights * positive[order], starts, axis=1)
    return up, np.add.reduceat(sorted_weights * ~positive[order], starts, axis=1)


def over_resamples(
    rows: int,
    resamples: int,
    rng: np.random.Generator,
    measure: Callable[[Array], dict[str, Array]],
    clusters: Array | None = None,
) -> dict[str, Array]:
    """`measure` on all resamples, a bounded number of weights at a time: name -> shape (resamples,).

    Whole entities are drawn where rows have them: `clusters` numbers them from 0, shape (rows,).
    """
    drawn = rows if clusters is None else int(clusters.max()) + 1
    at_once = max(1, 4_000_000 // rows)
    parts = []
    for done in range(0, resamples, at_once):
        size = min(at_once, resamples - done)
        weights = rng.multinomial(drawn, np.full(drawn, 1 / drawn), size=size).astype(np.float64)
        parts.append(measure(weights if clusters is None else weights[:, clusters]))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
