"""Which features a model leans on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits


def permutation_importance(
    predict: Callable[[pd.DataFrame], np.ndarray],
    frame: pd.DataFrame,
    value: Callable[[np.ndarray], float],
    rng: np.random.Generator,
    repeats: int = 3,
) -> dict[str, float]:
    """Mean loss in value when a column is shuffled (Breiman, Random Forests, 2001, section 10).

    `value` turns scores into what is lost, more being better; positive means that the model needs the column.
    """
    losses = {}
    with threadpool_limits(limits=1):  # many small predictions: threads would cost more than they save
        whole = value(predict(frame))
        copies = pd.concat([frame] * repeats, ignore_index=True)
        for name in frame.columns:
            mixed = np.concatenate([rng.permutation(frame[name].to_numpy()) for _ in range(repeats)])
            parts = np.split(predict(copies.assign(**{name: mixed})), repeats)
            losses[str(name)] = whole - float(np.mean([value(scores) for scores in parts]))
    return losses
