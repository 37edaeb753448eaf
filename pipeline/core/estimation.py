"""Performance before labels come: what the metrics of a window should be, if labels come as at registration.

Blind to a change of concept by construction: it asks what the labels would be if their relation to the features
were still the one of the reference. Where that has changed the estimate goes on saying what it would have been. What
it can see is that the rows have become easier or harder. Its own error is shown later by `estimate_error`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.core.expectation import (
    ABSOLUTE,
    ERROR,
    SQUARED,
    Expectation,
    Reference,
    apply_maps,
    expectation,
    refit_maps,
    sound,
)
from pipeline.core.metrics import evaluate
from pipeline.core.paired import mean_and_error
from pipeline.core.reweighting import Reweighting, encode

Array = np.ndarray
HALF_TRUSTED = 200
"""Effective rows at which the weighted and the plain answer count alike."""
MOST_CELLS = 10_000
"""Rows times classes whose labels are drawn for the band; its width is scaled to all rows."""
MOST_COLUMNS = 20
"""Columns along which the reference is cut to see how wrong the estimate is on rows of one kind."""
LEAST_BLOCK = 60
BLOCK_MOVED = 2 / 3
"""How far a third of the reference, cut along a column, is from all of it, as `Reweighting.moved` counts."""
SHARES = ("roc_auc", "average_precision", "accuracy", "balanced_accuracy", "f1", "precision", "recall", "f1_macro",
          "brier_score_loss")  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """A metric of a window, estimated without its labels."""

    metric: str
    value: float
    low: float
    high: float
    """Between these the metric is expected once the labels are there."""
    method: str
    effective_rows: float
    """Reference rows that speak for this window, see `Reweighting.effective_rows`."""


@dataclass(frozen=True)
class Estimator:
    """Fitted on the reference once; not to be stored: keep the reference's rows and fit again."""

    reference: Reference
    expected: Expectation
    model_error: dict[str, float]
    """Root mean square of estimate less truth on thirds of the reference, beyond what chance does."""
    optimism: dict[str, float]
    """Estimate less truth on the whole reference: what was learned from few rows claims to know them too well."""
    clustering: float
    """Variance of a mean over entities' rows, in that over as many independent rows."""

    def expect(self, frame: pd.DataFrame, scores: Array, reweighting: Reweighting) -> Array:
        """What labels to expect of these rows, see `Expectation`, the reference weighted to look like them.

        Classes: calibrated again with the weights. Numbers: the weighted mean of the reference's residuals is added
        (doubly robust: right where either the weights or the models of the error are). Either is blended with the
        plain answer by its effective rows.
        """
        plain = self.expected.of(frame, scores)
        if not reweighting.shifted:
            return plain
        trust = reweighting.effective_rows / (reweighting.effective_rows + HALF_TRUSTED)
        weights, wanted = reweighting.weights, self.reference.targets()
        if self.reference.task == "regression":
            left = weights @ (wanted - self.expected.reference_rows) / weights.sum()
            return sound(plain + trust * left)
        maps = refit_maps(self.expected.reference_rows, wanted, weights)
        return np.asarray((1 - trust) * plain + trust * apply_maps(maps, plain))

    def estimate(
        self,
        frame: pd.DataFrame,
        scores: Array,
        reweighting: Reweighting,
        rng: np.random.Generator,
        *,
        confidence: float = 0.95,
        draws: int = 100,
    ) -> dict[str, Estimate]:
        """Every metric of the task but `calibration_error`, which this takes for granted.

        Classes: confusion matrix, ranking and losses as expected under calibrated probabilities. Numbers: direct
        loss estimation, a model of the error. The band adds up the chance in labels to come, the finite reference,
        and the error that the method showed on thirds of the reference, by how far the window has moved.

        `frame`, shape (n, columns) and `scores`: the window; `reweighting` of the reference to it.
        """
        ref = self.reference
        expected = self.expect(frame, scores, reweighting)
        values = metrics_expected(ref, expected, scores, np.ones((1, len(scores))))
        spread = self._spread(expected, scores, rng, draws)
        finite = 1 + len(scores) / reweighting.effective_rows
        method = "direct loss estimation" if ref.task == "regression" else "confidence-based"
        method += ", importance-weighted" if reweighting.shifted else ""
        reach = float(stats.norm.isf((1 - confidence) / 2))
        found = {}
        for name, value in values.items():
            centre = float(value[0]) - self.optimism.get(name, 0.0)
            if not math.isfinite(centre):
                continue
            blunder = self.model_error.get(name, 0.0) * reweighting.moved / BLOCK_MOVED
            half = reach * math.sqrt(self.clustering * finite * spread[name] ** 2 + blunder**2)
            low, high = centre - half, centre + half
            if name in SHARES:
                low, high = max(0.0, low), min(1.0, high)
            found[name] = Estimate(name, centre, low, high, method, reweighting.effective_rows)
        return found

    def _spread(self, expected: Array, scores: Array, rng: np.random.Generator, draws: int) -> dict[str, float]:
        """Standard deviation of each metric of all rows over draws of their labels."""
        ref, rows = self.reference, len(scores)
        most = MOST_CELLS // (1 if ref.task == "regression" else expected.shape[1])
        if rows > most:
            some = rng.choice(rows, most, replace=False)
            expected, scores = expected[some], scores[some]
        drawn = []
        ones = np.ones((1, len(scores)))
        standard = self._standard_errors if ref.task == "regression" else ones
        for _ in range(draws):
            if ref.task == "regression":
                luck = _deviation(expected) * rng.choice(standard, len(scores))
                actual = scores + expected[:, ERROR] + luck
            else:
                actual = (rng.random((len(scores), 1)) > expected.cumsum(axis=1)[:, :-1]).sum(axis=1)
            drawn.append(evaluate(ref.task, actual, scores, ones, ref.threshold, ref.payoff))
        shrink = math.sqrt(len(scores) / rows)
        return {name: shrink * _std([float(one[name][0]) for one in drawn]) for name in drawn[0]}

    @property
    def _standard_errors(self) -> Array:
        """The reference's errors less what was expected, in standard deviations."""
        known = self.expected.reference_rows
        left, deviation = self.reference.targets()[:, ERROR] - known[:, ERROR], _deviation(known)
        standard = np.divide(left, deviation, out=np.zeros_like(left), where=deviation > 0)
        return np.asarray(standard / (float(np.sqrt((standard**2).mean())) or 1.0))


def _std(drawn: Sequence[float]) -> float:
    """Standard deviation of those draws in which the metric was defined; 0 where it never was."""
    known = [value for value in drawn if math.isfinite(value)]
    return float(np.std(known)) if known else 0.0


def _deviation(expected: Array) -> Array:
    """Standard deviation of the error of each row, shape (n,)."""
    return np.asarray(np.sqrt(np.maximum(expected[:, SQUARED] - expected[:, ERROR] ** 2, 0)))


def fit_estimator(reference: Reference, rng: np.random.Generator) -> Estimator:
    """Learn from the reference how the model does on which rows. Raises ValueError below 40 rows."""
    expected = expectation(reference, rng)
    left = reference.targets() - expected.reference_rows
    channel = left[:, SQUARED] if reference.task == "regression" else left[:, 1]
    clustering = 1.0
    if reference.clusters is not None:
        alone = mean_and_error(channel, None)[1]
        clustering = max(1.0, (mean_and_error(channel, reference.clusters)[1] / alone) ** 2) if alone > 0 else 1.0
    every = np.ones((1, len(reference.actual)))
    optimism = {name: float(gap[0]) for name, gap in _gaps(reference, expected.reference_rows, every).items()}
    blunders = _model_error(reference, expected.reference_rows, rng)
    return Estimator(reference, expected, blunders, optimism, clustering)


def _gaps(reference: Reference, expected: Array, weights: Array) -> dict[str, Array]:
    """Estimate less truth on weightings of the reference's rows, shape (b,), where both are defined in all."""
    said = metrics_expected(reference, expected, reference.scores, weights)
    true = evaluate(reference.task, reference.actual, reference.scores, weights, reference.threshold,
                    reference.payoff)  # fmt: skip
    gaps = {name: said[name] - true[name] for name in said}
    return {name: gap for name, gap in gaps.items() if np.isfinite(gap).all()}


def metrics_expected(reference: Reference, expected: Array, scores: Array, weights: Array) -> dict[str, Array]:
    """Metrics of rows whose labels are as expected: name -> shape (b,). `weights`, shape (b, n).

    Classes: every row is there once for each class, weighted by its probability, so all of `metrics.evaluate` holds
    (for the confusion matrix: NannyML's CBPE; Guillory et al., ICCV 2021).
    """
    if reference.task == "regression":
        return _expected_errors(expected, scores, weights)
    rows, classes = expected.shape
    found = evaluate(
        reference.task, np.repeat(np.arange(classes), rows), np.tile(scores, (classes, 1)),
        np.concatenate([weights * expected[:, c] for c in range(classes)], axis=1),
        reference.threshold, reference.payoff,
    )  # fmt: skip
    found.pop("calibration_error", None)
    return found


def _expected_errors(expected: Array, scores: Array, weights: Array) -> dict[str, Array]:
    def mean(values: Array) -> Array:
        return np.asarray(weights @ values / weights.sum(axis=1))

    squared = mean(expected[:, SQUARED])
    first = mean(scores + expected[:, ERROR])
    second = mean(scores**2 + 2 * scores * expected[:, ERROR] + expected[:, SQUARED])
    variance = second - first**2
    return {
        "r2": 1 - np.divide(squared, variance, out=np.full_like(squared, np.inf), where=variance > 0),
        "mean_absolute_error": mean(expected[:, ABSOLUTE]),
        "root_mean_squared_error": np.sqrt(squared),
        "mean_squared_error": squared,
    }


def _model_error(reference: Reference, expected: Array, rng: np.random.Generator) -> dict[str, float]:
    """How wrong the estimate is on rows of one kind: the lowest and highest third of every column."""
    squares: dict[str, list[float]] = {}
    for column in encode(reference.frame, reference.frame).T[:MOST_COLUMNS]:
        low, high = np.nanquantile(column, [1 / 3, 2 / 3]) if np.isfinite(column).any() else (0.0, 0.0)
        for block in (column <= low, column >= high):
            rows = int(block.sum())
            if rows < LEAST_BLOCK or rows == len(column):
                continue
            weights = np.concatenate([np.ones((1, rows)), rng.multinomial(rows, np.full(rows, 1 / rows), size=8)])
            part = replace(reference, actual=reference.actual[block], scores=reference.scores[block])
            for name, gap in _gaps(part, expected[block], weights).items():
                squares.setdefault(name, []).append(float(gap[0] ** 2 - gap[1:].var()))
    return {name: math.sqrt(max(0.0, float(np.mean(found)))) for name, found in squares.items()}


def estimate_error(estimates: Sequence[float], realised: Sequence[float]) -> float:
    """Mean absolute error of past estimates, by what came true of the same windows.

    Raises ValueError where there are none, or not as many of one as of the other.

    >>> round(estimate_error([0.80, 0.78], [0.79, 0.80]), 3)
    0.015
    """
    if not estimates or len(estimates) != len(realised):
        raise ValueError(f"{len(estimates)} estimates and {len(realised)} realised values make no error")
    return float(np.mean(np.abs(np.asarray(estimates) - np.asarray(realised))))
