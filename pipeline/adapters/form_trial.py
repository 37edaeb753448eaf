"""The trial at registration: which form of an estimator serves.

First right, then fast. A form is right when, read back from its bytes, it gives scikit-learn's scores to the
tolerance on every row of the sample, on the golden rows, and on rows planted at the model's own thresholds and
one float32 or float64 beside them. Of those that are right the first in the order of `fast_form.READ` serves.

That order was learned from measurements, once, and a clock of today does not change it: the form is part of the
package's digest, and the same model registered twice must be the same package. Today's times are taken and kept
beside the package (`trial.json`, which no digest covers and no server reads), for the model card and for MLflow.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.core.fast_form import NO_FORM, FastForm, Kind, forms, load
from pipeline.core.fast_form_trees import thresholds_of
from pipeline.core.package import Form
from pipeline.core.preparation import NotRepresentable

TRIAL = "trial.json"
TOLERANCE = 1e-6
PLANTED_THRESHOLDS = 200
"""Comparisons that rows are planted at, evenly over all of them: each costs seven rows."""
BATCH = 32
SECONDS_A_TIMING, CALLS_A_TIMING = 0.06, 200
"""A timing ends with the first of the two: four forms, one row and a batch, stay below a second."""


@dataclass(frozen=True)
class Tried:
    """What the trial found about one form."""

    form: Form
    outcome: Literal["serves", "right", "refused"]
    reason: str = ""
    """Why it was refused."""
    difference: float | None = None
    """Largest difference from scikit-learn's scores."""
    one_row_us: float | None = None
    """Microseconds of a call with one prepared row, median."""
    batch_us: float | None = None
    """Microseconds of a call with 32 prepared rows, median."""


@dataclass(frozen=True)
class Trial:
    """The form that serves, None where it is scikit-learn itself, and all that were tried."""

    form: FastForm | None
    tried: tuple[Tried, ...]

    def to_json(self) -> str:
        """The entries, in the order of preference."""
        return json.dumps([asdict(entry) for entry in self.tried])


def read_trial(folder: Path) -> tuple[Tried, ...]:
    """What was tried for the package in this folder; nothing where it was written without a trial."""
    path = folder / TRIAL
    return tuple(Tried(**entry) for entry in json.loads(path.read_bytes())) if path.is_file() else ()


def try_forms(
    estimator: Any, matrix: np.ndarray, same: Callable[[FastForm], float], limit: float, unprepared: str = ""
) -> Trial:
    """Try every form of a fitted estimator.

    `matrix`, shape (n, k): prepared rows of the sample. `same` gives the largest difference in scores between a
    form and the whole scikit-learn pipeline on rows as they are asked; above `limit` a form is refused.
    `unprepared`: why no form can serve, where the preparation has no plain form.
    """
    tried: list[Tried] = []
    chosen: FastForm | None = None
    planted = planted_rows(estimator, matrix)
    wanted = sklearn_scores(estimator, planted) if len(planted) else None
    for kind, form in forms(estimator):
        if unprepared or isinstance(form, NotRepresentable):
            tried.append(Tried(kind, "refused", unprepared or str(form)))
            continue
        form = load(kind, form.to_bytes())
        worst = same(form)
        if wanted is not None:
            worst = max(worst, largest_difference(form.scores(planted), wanted))
        entry = _judged(kind, form.scores, matrix, worst, limit, first=chosen is None)
        chosen = form if entry.outcome == "serves" else chosen
        tried.append(entry)
    one, batch = _times(lambda rows: sklearn_scores(estimator, rows), matrix)
    why = NO_FORM.get(type(estimator).__name__, "") if not tried else ""
    tried.append(Tried("skops", "right" if chosen is not None else "serves", why, 0.0, one, batch))
    return Trial(chosen, tuple(tried))


def planted_rows(estimator: Any, matrix: np.ndarray) -> np.ndarray:
    """Rows of the matrix with one column each at a threshold of the model, and on both sides of it."""
    columns, limits = _spread(*thresholds_of(estimator), PLANTED_THRESHOLDS)
    values = np.stack(beside(limits), axis=1)
    rows = matrix[np.arange(len(limits)) % len(matrix)]
    planted = np.repeat(rows, values.shape[1], axis=0)
    planted[np.arange(len(planted)), np.repeat(columns, values.shape[1])] = values.ravel()
    return planted


def planted_values(estimator: Any, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the matrix and values at some of the model's thresholds and one float64 beside."""
    columns, limits = _spread(*thresholds_of(estimator), most)
    around = [limits, np.nextafter(limits, -np.inf), np.nextafter(limits, np.inf)]
    return np.tile(columns, len(around)), np.concatenate(around)


def beside(limits: np.ndarray) -> list[np.ndarray]:
    """Thresholds, their neighbours in float64, what float32 makes of them, and the neighbours of that.

    >>> [len(set(column)) for column in zip(*beside(np.array([0.1, 0.5])))]
    [6, 5]
    """
    single = limits.astype(np.float32)
    low, high = np.float32(-np.inf), np.float32(np.inf)
    return [
        limits, np.nextafter(limits, -np.inf), np.nextafter(limits, np.inf), single.astype(np.float64),
        np.nextafter(single, low).astype(np.float64), np.nextafter(single, high).astype(np.float64),
    ]  # fmt: skip


def sklearn_scores(estimator: Any, matrix: np.ndarray) -> np.ndarray:
    """Probabilities where the estimator has them, else predictions."""
    found = estimator.predict_proba(matrix) if hasattr(estimator, "predict_proba") else estimator.predict(matrix)
    return np.asarray(found, dtype=np.float64)


def largest_difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """Infinite where shapes differ or a score is not a number.

    >>> largest_difference(np.array([1.0, np.nan]), np.array([1.0, 2.0]))
    inf
    """
    if found.shape != wanted.shape:
        return np.inf
    worst = np.abs(found - wanted).max(initial=0.0)
    return float(worst) if np.isfinite(worst) else np.inf


def limit_of(scores: np.ndarray) -> float:
    """How far scores may be apart: 1e-6, and where all predictions are small, 1e-6 of the largest.

    >>> limit_of(np.array([[0.4, 0.6]])), limit_of(np.array([0.0, -3e9])), limit_of(np.array([0.25])) == 0.25e-6
    (1e-06, 1e-06, True)
    """
    largest = float(np.abs(scores).max(initial=0.0))
    return TOLERANCE if scores.ndim == 2 or largest == 0 else TOLERANCE * min(1.0, largest)


def _judged(
    kind: Kind, scores: Callable[[np.ndarray], np.ndarray], matrix: np.ndarray, worst: float, limit: float, first: bool
) -> Tried:
    shown = worst if np.isfinite(worst) else None
    if worst > limit:
        told = f"differs from scikit-learn by {worst:.1e}" if shown is not None else "gives no number for some rows"
        return Tried(kind, "refused", told, shown)
    one, batch = _times(scores, matrix)
    return Tried(kind, "serves" if first else "right", "", shown, one, batch)


def _times(scores: Callable[[np.ndarray], np.ndarray], matrix: np.ndarray) -> tuple[float, float]:
    ones = [matrix[i : i + 1] for i in range(min(len(matrix), CALLS_A_TIMING))]
    repeated = np.resize(matrix, (max(len(matrix), BATCH), matrix.shape[1]))
    batches = [repeated[i : i + BATCH] for i in range(0, len(repeated) - BATCH + 1, BATCH)]
    return _median_us(scores, ones), _median_us(scores, batches)


def _median_us(scores: Callable[[np.ndarray], np.ndarray], asked: Sequence[np.ndarray]) -> float:
    """Median time of a call in microseconds, over different rows, as a server meets them."""
    scores(asked[0])
    taken: list[int] = []
    end = time.perf_counter_ns() + int(SECONDS_A_TIMING * 1e9)
    while len(taken) < CALLS_A_TIMING and (not taken or time.perf_counter_ns() < end):
        rows = asked[len(taken) % len(asked)]
        start = time.perf_counter_ns()
        scores(rows)
        taken.append(time.perf_counter_ns() - start)
    return round(float(np.median(taken)) / 1e3, 1)


def _spread(columns: np.ndarray, limits: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most so many of them, evenly over all."""
    if len(limits) <= most:
        return columns, limits
    chosen = np.linspace(0, len(limits) - 1, most).astype(np.intp)
    return columns[chosen], limits[chosen]
