"""Fitting with progress: forests and boosting grow in steps, to the same model as in one go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from pipeline.errors import BadConfiguration

STEPS = 10
MANY_ROWS = 50_000
"""Below it, boosting on several threads waits longer for them than it gains, ten times so on a busy machine."""
Report = Callable[[int, int, Pipeline], None]
"""Called with trees (or iterations) so far, their total, and the model as it is."""


def fit(pipeline: Pipeline, frame: pd.DataFrame, target: np.ndarray, threads: int, report: Report) -> Pipeline:
    """A fitted copy of the pipeline; the same bytes whatever `threads` is.

    Linear algebra runs on one thread, since its sums would depend on their number; trees do not.
    `frame` has shape (n, features), `target` shape (n,).

    Raises BadConfiguration where scikit-learn refuses a parameter's value.
    """
    fitted = clone(pipeline)
    estimator = fitted.named_steps["model"]
    parallel = {"n_jobs", "n_estimators"} <= set(estimator.get_params())
    if parallel:
        estimator.set_params(n_jobs=threads)
    size = _growing(estimator, len(target))
    try:
        openmp = threads if len(target) >= MANY_ROWS else 1
        with threadpool_limits(limits={"blas": 1, "openmp": openmp}):
            prepared = fitted.named_steps["prepare"].fit_transform(frame)
            if size is None:
                estimator.fit(prepared, target)
            else:
                _grow(fitted, estimator, size, prepared, target, report)
    except ValueError as error:
        if "parameter of" in str(error):
            raise BadConfiguration(f"training.parameters: {error}") from error
        raise
    if parallel:
        estimator.set_params(n_jobs=pipeline.named_steps["model"].n_jobs)
    return fitted


def _growing(estimator: Any, rows: int) -> str | None:
    """The parameter by which the estimator grows to the very model that one fit gives; None: it does not."""
    known = estimator.get_params()
    if "warm_start" not in known or known["warm_start"]:
        return None
    if "n_estimators" in known:
        stops_early = known.get("n_iter_no_change") is not None
        return None if stops_early else "n_estimators"
    if "early_stopping" in known and "max_leaf_nodes" in known:
        stops_early = known["early_stopping"] is True or (known["early_stopping"] == "auto" and rows > 10_000)
        return None if stops_early else "max_iter"
    return None


def _grow(
    fitted: Pipeline, estimator: Any, size: str, prepared: np.ndarray, target: np.ndarray, report: Report
) -> None:
    total = estimator.get_params()[size]
    estimator.set_params(warm_start=True)
    for step in range(1, STEPS + 1):
        so_far = max(1, total * step // STEPS)
        estimator.set_params(**{size: so_far}).fit(prepared, target)
        report(so_far, total, fitted)
    estimator.set_params(warm_start=False)
