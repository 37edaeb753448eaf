"""Search for parameters by cross-validation, inside the training rows only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import KFold, ParameterGrid, ParameterSampler, StratifiedKFold, TimeSeriesSplit
from sklearn.pipeline import Pipeline

from pipeline.core.estimators import Task
from pipeline.core.fitting import fit
from pipeline.core.metric_names import higher_is_better
from pipeline.core.metrics import evaluate


@dataclass(frozen=True)
class Trial:
    """Parameters that were tried, and their mean value of the metric over the folds."""

    parameters: dict[str, Any]
    value: float


@dataclass(frozen=True)
class Folds:
    """What the trials learn from and are judged on."""

    frame: pd.DataFrame
    """Shape (n, features)."""
    target: np.ndarray
    """Shape (n,), as in `metrics.evaluate`."""
    task: Task
    metric: str
    count: int
    ordered: bool
    """Rows stand in order of time: a fold is judged on rows later than those it learned from."""

    def parts(self, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Positions of the rows to learn from and of those to judge on, for each fold."""
        if self.ordered:
            cuts: Any = TimeSeriesSplit(self.count)
        elif self.task == "regression":
            cuts = KFold(self.count, shuffle=True, random_state=seed)
        else:
            cuts = StratifiedKFold(self.count, shuffle=True, random_state=seed)
        return list(cuts.split(self.frame, self.target))


def search(
    pipeline_for: Callable[[dict[str, Any]], Pipeline],
    grid: Mapping[str, Sequence[Any]],
    candidates: int | None,
    folds: Folds,
    *,
    seed: int,
    threads: int,
) -> list[Trial]:
    """All trials, best first: every combination of the grid, or `candidates` of them drawn at random."""
    everything = list(ParameterGrid({name: list(values) for name, values in grid.items()}))
    if candidates is not None and candidates < len(everything):
        everything = list(ParameterSampler(dict(grid), candidates, random_state=seed))
    parts = folds.parts(seed)
    trials = []
    for chosen in everything:
        pipeline = pipeline_for(dict(chosen))
        values = []
        for learn, rest in parts:
            fitted = fit(pipeline, folds.frame.iloc[learn], folds.target[learn], threads, _quiet)
            values.append(_value(fitted, folds, rest))
        trials.append(Trial(dict(chosen), float(np.mean(values))))
    return sorted(trials, key=lambda trial: trial.value, reverse=higher_is_better(folds.metric))


def _value(fitted: Pipeline, folds: Folds, rest: np.ndarray) -> float:
    frame, target = folds.frame.iloc[rest], folds.target[rest]
    scores = fitted.predict(frame) if folds.task == "regression" else fitted.predict_proba(frame)
    return float(evaluate(folds.task, target, scores, np.ones((1, len(target))))[folds.metric][0])


def _quiet(so_far: int, total: int, growing: Pipeline) -> None:
    """Say nothing: progress inside a search would be noise."""
