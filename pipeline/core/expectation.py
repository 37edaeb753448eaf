"""What labels to expect of rows, if labels still came as they did at registration.

Learned on reference rows: labelled ones that the model did not learn from. Classes: the model's own probabilities,
calibrated. Numbers: how large the model's errors are on rows like these. Each reference row is told its expectation
by a model that did not see it, so what is left of its label is an honest residual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.core.decision import Payoff
from pipeline.core.estimators import Task
from pipeline.core.reweighting import encode

Array = np.ndarray
FOLDS = 4
ISOTONIC_FROM = 1_000
"""Rows from which isotonic calibration beats Platt's (Niculescu-Mizil & Caruana, ICML 2005, figure 7)."""
ISOTONIC_CLASS = 100
"""Rows that the rarer side needs for it as well."""
ERROR, ABSOLUTE, SQUARED = 0, 1, 2
"""Regression: columns of what is expected: the error (actual less predicted), its size, its square."""


@dataclass(frozen=True)
class Reference:
    """Labelled rows on which the model was measured at registration, and what it said of them."""

    task: Task
    frame: pd.DataFrame
    """The model's features, shape (n, columns)."""
    actual: Array
    """Class index or float, shape (n,)."""
    scores: Array
    """As `metrics.evaluate` takes them."""
    threshold: float = 0.5
    payoff: Payoff | None = None
    clusters: Array | None = None
    """Number of the entity of each row, from 0 without a gap, shape (n,); None: every row is its own."""

    def targets(self) -> Array:
        """What is expected of a row and what came true, see `targets`."""
        return targets(self.task, self.actual, self.scores)


@dataclass(frozen=True)
class ScoreMap:
    """A score's probability: linear in the log-odds of the score between these knots."""

    at: Array
    probability: Array

    def of(self, score: Array) -> Array:
        """Probability for each score, shape (n,)."""
        return np.asarray(np.interp(log_odds(score), self.at, self.probability))


@dataclass(frozen=True)
class Expectation:
    """What labels to expect."""

    task: Task
    reference_rows: Array
    """For the reference rows, each by models that did not see it: probabilities, shape (n, classes); regression:
    error, its size, its square, shape (n, 3)."""
    maps: tuple[tuple[ScoreMap, ...], ...]
    """For each fold a map for each class; binary: of class 1."""
    regressors: tuple[tuple[object, ...], ...]
    """For each fold the three models of the error."""
    like: pd.DataFrame

    def of(self, frame: pd.DataFrame, scores: Array) -> Array:
        """For any rows, by the mean of the folds' models; shapes as in `reference_rows`."""
        if self.task != "regression":
            return np.asarray(np.mean([apply_maps(fold, scores) for fold in self.maps], axis=0))
        inputs = np.column_stack([encode(self.like, frame), scores])
        return sound(np.mean([_predict(fold, inputs) for fold in self.regressors], axis=0))


def targets(task: Task, actual: Array, scores: Array) -> Array:
    """What came true, in the form in which it is expected.

    One-hot classes, all 0 for a class the model never saw, shape (n, classes); regression: the error, its size and
    its square, shape (n, 3).

    >>> targets("regression", np.array([1.0]), np.array([3.0])).tolist()
    [[-2.0, 2.0, 4.0]]
    """
    if task == "regression":
        error = actual - scores
        return np.column_stack([error, np.abs(error), error**2])
    return np.asarray(actual[:, None] == np.arange(scores.shape[1]), dtype=np.float64)


def sound(expected: Array) -> Array:
    """Expected errors that can be: sizes not below 0, squares not below the square of the size."""
    size = np.maximum(expected[:, ABSOLUTE], np.abs(expected[:, ERROR]))
    return np.column_stack([expected[:, ERROR], size, np.maximum(expected[:, SQUARED], size**2)])


def log_odds(score: Array) -> Array:
    """Of a probability, bounded at 1e-9 from either end."""
    clipped = np.clip(score, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(clipped / (1 - clipped)))


def expectation(reference: Reference, rng: np.random.Generator) -> Expectation:
    """Learn what labels to expect; whole entities go to one fold.

    Raises ValueError below ten rows a fold.
    """
    rows = len(reference.actual)
    if rows < 10 * FOLDS:
        raise ValueError(f"{rows} reference rows; at least {10 * FOLDS} are needed to learn what labels to expect")
    groups = np.arange(rows) if reference.clusters is None else reference.clusters
    fold = (rng.permutation(int(groups.max()) + 1) % FOLDS)[groups]
    wanted = reference.targets()
    found = np.empty_like(wanted)
    maps: list[tuple[ScoreMap, ...]] = []
    regressors: list[tuple[object, ...]] = []
    regression = reference.task == "regression"
    inputs = np.column_stack([encode(reference.frame, reference.frame), reference.scores]) if regression else None
    for number in range(FOLDS):
        own, others = fold == number, fold != number
        if inputs is None:
            maps.append(fit_maps(reference.scores[others], wanted[others]))
            found[own] = apply_maps(maps[-1], reference.scores[own])
        else:
            regressors.append(_fit_regressors(inputs[others], wanted[others], rng))
            found[own] = sound(_predict(regressors[-1], inputs[own]))
    return Expectation(reference.task, found, tuple(maps), tuple(regressors), reference.frame)


def fit_maps(scores: Array, wanted: Array) -> tuple[ScoreMap, ...]:
    """Calibration of scores, each class against the rest: isotonic where there is enough to learn it from.

    Zadrozny & Elkan, Transforming Classifier Scores into Accurate Multiclass Probability Estimates, KDD 2002.
    """

    def of(score: Array, came: Array) -> ScoreMap:
        rarer = min(came.sum(), len(came) - came.sum())
        if len(came) >= ISOTONIC_FROM and rarer >= ISOTONIC_CLASS:
            return _isotonic(score, came)
        return _logistic(score, came, np.ones(len(came)))

    return tuple(of(scores[:, c], wanted[:, c]) for c in _told(scores))


def refit_maps(expected: Array, wanted: Array, weights: Array) -> tuple[ScoreMap, ...]:
    """A logistic curve on top of probabilities that are calibrated without these `weights`, shape (n,).

    Two numbers a class and no more: weights leave few effective rows, of which steps would learn the noise.
    """
    return tuple(_logistic(expected[:, c], wanted[:, c], weights) for c in _told(expected))


def _told(scores: Array) -> Sequence[int]:
    """Classes whose probability tells those of all."""
    return [1] if scores.shape[1] == 2 else range(scores.shape[1])


def apply_maps(maps: tuple[ScoreMap, ...], scores: Array) -> Array:
    """Calibrated probabilities, shape (n, classes), rows summing to 1."""
    if len(maps) == 1:
        chance = maps[0].of(scores[:, 1])
        return np.column_stack([1 - chance, chance])
    raw = np.column_stack([one.of(scores[:, c]) for c, one in enumerate(maps)])
    return np.asarray(raw / raw.sum(axis=1, keepdims=True))


def _isotonic(score: Array, came: Array) -> ScoreMap:
    from sklearn.isotonic import IsotonicRegression

    floor = 1 / (len(came) + 2)
    fitted = IsotonicRegression(out_of_bounds="clip").fit(log_odds(score), came)
    return ScoreMap(fitted.X_thresholds_, np.clip(fitted.y_thresholds_, floor, 1 - floor))


def _logistic(score: Array, came: Array, weights: Array) -> ScoreMap:
    """Platt, Advances in Large Margin Classifiers, 1999, with its smoothed targets."""
    from sklearn.linear_model import LogisticRegression

    odds, at = log_odds(score), np.linspace(-21, 21, 421)
    effective = weights.sum() ** 2 / (weights**2).sum()
    share = float(weights @ came / weights.sum())
    hits = share * effective
    if share in (0.0, 1.0) or np.ptp(odds) == 0:
        return ScoreMap(at, np.full(len(at), (hits + 1) / (effective + 2)))
    # A logistic curve wants classes: every row is there as both, weighted by its smoothed target.
    soft = np.where(came == 1, (hits + 1) / (hits + 2), 1 / (effective - hits + 2))
    curve = LogisticRegression(C=1e4).fit(
        np.concatenate([odds, odds])[:, None], np.repeat([1, 0], len(odds)),
        sample_weight=np.concatenate([weights * soft, weights * (1 - soft)]),
    )  # fmt: skip
    return ScoreMap(at, curve.predict_proba(at[:, None])[:, 1])


def _fit_regressors(inputs: Array, wanted: Array, rng: np.random.Generator) -> tuple[object, ...]:
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    seed = int(rng.integers(2**31))
    with threadpool_limits(limits=1):
        return tuple(
            HistGradientBoostingRegressor(
                max_iter=50, max_leaf_nodes=8, learning_rate=0.1, min_samples_leaf=30, early_stopping=False,
                random_state=seed,
            ).fit(inputs, wanted[:, column])
            for column in range(3)
        )  # fmt: skip


def _predict(regressors: tuple[object, ...], inputs: Array) -> Array:
    return np.column_stack([one.predict(inputs) for one in regressors])  # type: ignore[attr-defined]
