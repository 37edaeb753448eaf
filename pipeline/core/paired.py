"""Two models on the same rows: how much better is one, and how sure is that."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from pipeline.core.decision import Payoff
from pipeline.core.estimators import Task
from pipeline.core.metric_names import MONEY, higher_is_better
from pipeline.core.metrics import PROBABILITY_FLOOR, evaluate, over_resamples
from pipeline.core.verdict import Difference

Array = np.ndarray


@dataclass(frozen=True)
class Judged:
    """Rows that judge, and what was made of them."""

    task: Task
    actual: Array
    """Class index or float, shape (n,)."""
    clusters: Array | None
    """Number of the entity of each row, from 0 without a gap, shape (n,); None: every row is its own."""
    payoff: Payoff | None = None
    threshold: float = 0.5
    champion_threshold: float = 0.5
    """Each model says yes from a probability of its own."""

    def only(self, rows: Array) -> Judged:
        """Some of the rows; `rows` is a mask of shape (n,)."""
        clusters = None if self.clusters is None else np.unique(self.clusters[rows], return_inverse=True)[1]
        return replace(self, actual=self.actual[rows], clusters=clusters)

    @property
    def entities(self) -> int:
        """Rows that are independent of each other."""
        return len(self.actual) if self.clusters is None else int(self.clusters.max()) + 1

    def against(self, threshold: float) -> Judged:
        """The same rows, the champion saying yes from this probability."""
        return replace(self, champion_threshold=threshold)

    @property
    def by_champion(self) -> Judged:
        """The same rows, as the champion answers."""
        return replace(self, threshold=self.champion_threshold)

    def metrics(self, scores: Array, weights: Array) -> dict[str, Array]:
        """See `metrics.evaluate`."""
        return evaluate(self.task, self.actual, scores, weights, self.threshold, self.payoff)


def difference(
    judged: Judged,
    metric: str,
    candidate: Array,
    champion: Array,
    *,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> Difference:
    """Candidate less champion in a metric, positive where the candidate is better, with a paired interval.

    ROC AUC: DeLong, DeLong & Clarke-Pearson, Biometrics 44, 1988; with several rows of an entity their
    contributions are added up first (Obuchowski, Biometrics 53, 1997). Accuracy: McNemar's variance of a
    difference of correlated proportions (Psychometrika 12, 1947). Other means over rows: paired t. Everything
    else: standard error over paired bootstrap resamples of the entities (Efron & Tibshirani 1993, chapter 6).

    `candidate`, `champion`: scores as `metrics.evaluate` takes them.
    """
    sign = 1 if higher_is_better(metric) else -1
    clustered = "" if judged.clusters is None or judged.entities == len(judged.actual) else ", clustered by entity"
    if metric == "roc_auc":
        value, error = auc_difference(judged.actual == 1, candidate[:, 1], champion[:, 1], judged.clusters)
        method = "DeLong"
    elif (rows := _row_values(judged, metric, candidate, champion)) is not None:
        value, error = mean_and_error(rows, judged.clusters)
        method = "McNemar" if metric == "accuracy" else "paired t"
    else:
        ones = np.ones((1, len(judged.actual)))

        def gap(weights: Array) -> dict[str, Array]:
            return {
                "": judged.metrics(candidate, weights)[metric] - judged.by_champion.metrics(champion, weights)[metric]
            }

        value = float(gap(ones)[""][0])
        spread = over_resamples(len(judged.actual), resamples, rng, gap, judged.clusters)[""]
        error = float(np.nanstd(spread, ddof=1))
        method = "paired bootstrap"
    degrees = max(1, judged.entities - 1)
    reach = quantile(confidence, degrees) * error
    value *= sign
    return Difference(value, value - reach, value + reach, error, method + clustered, degrees)


def quantile(confidence: float, degrees: int) -> float:
    """Half the width of a two-sided interval in standard errors (Student's t).

    >>> round(quantile(0.95, 4999), 3)
    1.96
    """
    return float(stats.t.isf((1 - confidence) / 2, degrees))


def auc_difference(positive: Array, candidate: Array, champion: Array, clusters: Array | None) -> tuple[float, float]:
    """Difference of two areas under the ROC curve and its standard error.

    >>> positive = np.array([0, 0, 0, 1, 1, 1]) == 1
    >>> found, error = auc_difference(positive, np.array([1, 2, 3, 4, 5, 6.]), np.array([1, 2, 4, 3, 5, 6.]), None)
    >>> round(found, 4), round(error, 4)
    (0.1111, 0.1571)
    """
    up, down = int(positive.sum()), int((~positive).sum())
    shares = np.zeros(len(positive))
    total = 0.0
    for scores, sign in ((candidate, 1), (champion, -1)):
        own = np.empty(len(positive))
        own[positive] = _share_below(scores[~positive], scores[positive])
        own[~positive] = 1 - _share_below(scores[positive], scores[~positive])
        area = float(own[positive].mean())
        total += sign * area
        shares += sign * (own - area)
    weight = np.where(positive, 1 / math.sqrt(up * max(up - 1, 1)), 1 / math.sqrt(down * max(down - 1, 1)))
    return total, _error_of_sum(shares * weight, clusters)


def _share_below(others: Array, scores: Array) -> Array:
    """Share of `others` below each score, ties half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")
    return np.asarray(below / (2 * len(ordered)))


def mean_and_error(values: Array, clusters: Array | None) -> tuple[float, float]:
    """Mean of the rows and its standard error, the rows of an entity taken together.

    >>> mean_and_error(np.array([1.0, 1.0, 0.0, 0.0]), np.array([0, 0, 1, 1]))
    (0.5, 0.5000000000000001)
    """
    rows = len(values)
    mean = float(values.mean())
    if clusters is None:
        return mean, float(values.std(ddof=1)) / math.sqrt(rows) if rows > 1 else math.inf
    entities = int(clusters.max()) + 1
    if entities < 2:
        return mean, math.inf
    return mean, _error_of_sum((values - mean) / rows, clusters) * math.sqrt(entities / (entities - 1))


def _error_of_sum(parts: Array, clusters: Array | None) -> float:
    sums = parts if clusters is None else np.bincount(clusters, parts)
    return math.sqrt(float((sums**2).sum()))


def row_losses(judged: Judged, scores: Array, metric: str) -> Array:
    """A loss for every row, by which slices are compared: Brier score, or the kind of error that decides."""
    if judged.task == "regression":
        errors = np.abs(judged.actual - scores)
        return np.asarray(errors if metric == "mean_absolute_error" else errors**2)
    return np.asarray(((scores - _onehot(judged.actual, scores.shape[1])) ** 2).sum(axis=1)) / 2


def _onehot(actual: Array, classes: int) -> Array:
    """Shape (n, classes); all zero for a class the model never saw."""
    return np.asarray(actual[:, None] == np.arange(classes), dtype=np.float64)


def _row_values(judged: Judged, metric: str, candidate: Array, champion: Array) -> Array | None:
    """Differences of rows whose mean is the difference in the metric; None where it is no mean."""
    values = [row_values(judged, metric, candidate), row_values(judged.by_champion, metric, champion)]
    if values[0] is None or values[1] is None:
        return None
    return np.asarray(values[0] - values[1])


def row_values(judged: Judged, metric: str, scores: Array) -> Array | None:
    """A value for each row whose mean is the metric, shape (n,); None where the metric is no mean."""
    actual = judged.actual
    if judged.task == "regression":
        errors = actual - scores
        if metric == "mean_absolute_error":
            return np.asarray(np.abs(errors))
        return np.asarray(errors**2) if metric == "mean_squared_error" else None
    binary = judged.task == "binary"
    if metric == "accuracy":
        called = (scores[:, 1] >= judged.threshold).astype(int) if binary else scores.argmax(axis=1)
        return np.asarray(called == actual, dtype=np.float64)
    if metric == "log_loss":
        upper = 1 - PROBABILITY_FLOOR if binary else 1.0
        own = np.clip(scores[np.arange(len(actual)), np.maximum(actual, 0)], PROBABILITY_FLOOR, upper)
        return np.asarray(-np.log(np.where(actual >= 0, own, PROBABILITY_FLOOR)))
    if metric == "brier_score_loss":
        return np.asarray(((actual == 1) - scores[:, 1]) ** 2)
    if metric == MONEY and judged.payoff is not None:
        return np.asarray(1000 * judged.payoff.of(actual == 1, scores[:, 1] >= judged.threshold))
    return None
