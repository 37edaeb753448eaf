"""From labelled answers to one value for each independent unit."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.core.estimators import Task
from pipeline.core.experiment_tests import Sample
from pipeline.core.paired import Judged, row_values

Array = np.ndarray
LEAST_PROBABILITY = 1e-3
"""In the log loss: an answer that was sure and wrong loses 6.9 and not 36, so that one row decides nothing alone."""


def metric_values(judged: Judged, metric: str, scores: Array) -> Array:
    """The metric of each row, shape (n,). Raises ValueError for a metric that is no mean over rows."""
    bounded = scores.clip(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY) if metric == "log_loss" else scores
    found = row_values(judged, metric, bounded)
    if found is None:
        raise ValueError(f"{metric} is no mean over rows")
    return found


def residuals(task: Task, actual: Array, scores: Array) -> Array | None:
    """What came true less the probability that was said of it, shape (n,); None: the task says no probability.

    Binary: of the positive class. Multiclass: of the class that was answered.
    """
    if task == "regression":
        return None
    if task == "binary":
        return np.asarray((actual == 1) - scores[:, 1])
    called = scores.argmax(axis=1)
    return np.asarray((called == actual) - scores[np.arange(len(scores)), called])


def sample_of(values: Array, units: Array) -> Sample:
    """The means of the units, as a sample. `values`, `units`: shape (n,), of the rows.

    >>> sample_of(np.array([1.0, 0.0, 1.0]), np.array(["a", "a", "b"]))
    Sample(units=2, mean=0.75, variance=0.125)
    """
    means = pd.Series(values).groupby(units).mean().to_numpy()
    if not len(means):
        return Sample(0, 0.0, 0.0)
    return Sample(len(means), float(means.mean()), float(means.var(ddof=1)) if len(means) > 1 else 0.0)
