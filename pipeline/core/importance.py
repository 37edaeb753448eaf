"""Which features a model leans on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from pipeline.core.estimators import Task
from pipeline.core.metric_names import higher_is_better
from pipeline.core.metrics import evaluate


def permutation_importance(
    predict: Callable[[pd.DataFrame], np.ndarray],
    frame: pd.DataFrame,
    target: np.ndarray,
    task: Task,
    metric: str,
    rng: np.random.Generator,
    repeats: int = 3,
) -> dict[str, float]:
    """Mean loss in the metric when a column is shuffled (Breiman, Random Forests, 2001, section 10).

    `predict` gives scores as `metrics.evaluate` takes them; positive means that the model needs the column.
    """
    ones = np.ones((1, len(target)))
    sign = 1 if higher_is_better(metric) else -1

    def value(scores: np.ndarray) -> float:
        return sign * float(evaluate(task, target, scores, ones)[metric][0])

    losses = {}
    with threadpool_limits(limits=1):  # many small predictions: threads would cost more than they save
        whole = value(predict(frame))
        copies = pd.concat([frame] * repeats, ignore_index=True)
        for name in frame.columns:
            mixed = np.concatenate([rng.permutation(frame[name].to_numpy()) for _ in range(repeats)])
            parts = np.split(predict(copies.assign(**{name: mixed})), repeats)
            losses[str(name)] = whole - float(np.mean([value(scores) for scores in parts]))
    return losses
