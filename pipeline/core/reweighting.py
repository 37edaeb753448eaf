"""Importance weights: the reference rows, weighted so that they look like the rows of a window."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.core.metrics import roc_auc

Array = np.ndarray
FOLDS = 2
MOST_WEIGHT = 10.0
"""A reference row stands for at most this many: rarer kinds of rows are too few to speak for what they became."""
MOST_ROWS = 20_000
"""Rows of a window that the classifier learns from; more change its weights no longer."""
Rows = np.ndarray
"""Mask of rows."""
SURELY = 0.001
"""Chance that two samples of one population are told apart. Weights that mend nothing only add noise."""


@dataclass(frozen=True)
class Reweighting:
    """What the reference rows count when they are to stand for the window's."""

    weights: Array
    """Shape (reference rows,), mean 1; all 1 where the two cannot be told apart."""
    effective_rows: float
    """Rows without weights that would tell as much (Kish, Survey Sampling, 1965): sum(w)**2 / sum(w**2)."""
    separation: float
    """ROC AUC by which a classifier tells window from reference, out of fold; 0.5 where it cannot."""
    reference_common: Rows
    """Rows of the reference, shape (reference rows,), that are no rarer than MOST_WEIGHT times in the window."""
    window_common: Rows
    """The same of the window's rows: those that have enough like them in the reference, shape (rows,).

    Where rows hardly overlap, weights tell nothing (Crump, Hotz, Imbens & Mitnik, Biometrika 96, 2009).
    """

    @property
    def shifted(self) -> bool:
        """Whether the two can be told apart."""
        return self.separation > 0.5

    @property
    def moved(self) -> float:
        """How far the window has gone: 0 the same rows, 1 no overlap (the Gini coefficient, 2 AUC - 1)."""
        return 2 * self.separation - 1


def reweight(reference: pd.DataFrame, current: pd.DataFrame, rng: np.random.Generator) -> Reweighting:
    """Weights by a domain classifier: odds of belonging to the window rather than to the reference.

    Bickel, Brückner & Scheffer, Discriminative Learning under Covariate Shift, Journal of Machine Learning Research
    10, 2009. Gradient-boosted trees, each row scored by those that did not learn from it.

    `reference`, `current`: the model's features, same columns; neither empty.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    both = np.concatenate([encode(reference, reference), encode(reference, current)])
    ours = np.arange(len(both)) >= len(reference)
    fold = rng.permutation(len(both)) % FOLDS
    learned = np.ones(len(both), dtype=bool)
    if len(current) > MOST_ROWS:
        learned[len(reference) + rng.choice(len(current), len(current) - MOST_ROWS, replace=False)] = False
    chance = np.empty(len(both))
    with threadpool_limits(limits=1):  # small trees: threads would cost more than they save
        for number in range(FOLDS):
            learner = HistGradientBoostingClassifier(
                max_iter=30, max_leaf_nodes=8, learning_rate=0.2, min_samples_leaf=30, early_stopping=False,
                random_state=int(rng.integers(2**31)),
            )  # fmt: skip
            others = learned & (fold != number)
            learner.fit(both[others], ours[others])
            chance[fold == number] = learner.predict_proba(both[fold == number])[:, 1]
    separation = float(roc_auc(ours, chance, np.ones((1, len(both))))[0])
    old, new = len(reference), int(learned.sum()) - len(reference)
    by_luck = math.sqrt((old + new + 1) / (12 * old * new))  # Mann & Whitney 1947, no difference
    if stats.norm.sf((separation - 0.5) / by_luck) > SURELY:
        return alike(old, len(current))
    odds = np.clip(chance, 1e-6, 1 - 1e-6)
    ratio = odds / (1 - odds) * old / new
    weights = np.minimum(ratio[:old], MOST_WEIGHT)
    weights /= weights.mean()
    common = ratio <= MOST_WEIGHT
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    return Reweighting(weights, effective, separation, common[:old], common[old:])


def alike(reference_rows: int, rows: int) -> Reweighting:
    """A window of the same kind of rows as the reference."""
    every = np.ones(reference_rows, dtype=bool)
    return Reweighting(np.ones(reference_rows), float(reference_rows), 0.5, every, np.ones(rows, dtype=bool))


def encode(reference: pd.DataFrame, frame: pd.DataFrame) -> Array:
    """Columns as numbers for trees, shape (n, columns): categories by their rank in the reference, missing as NaN.

    A category that the reference does not have is -1; infinite values are the largest finite ones.

    >>> reference = pd.DataFrame({"plan": ["a", "b", "b"], "age": [1, 2, 3]})
    >>> encode(reference, pd.DataFrame({"plan": ["b", None, "c"], "age": [5, 6, np.inf]})).tolist()
    [[0.0, 5.0], [nan, 6.0], [-1.0, 1.7976931348623157e+308]]
    """
    columns = []
    for name in reference.columns:
        own, values = reference[name], frame[name]
        if pd.api.types.is_numeric_dtype(own.dtype):
            numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
            columns.append(np.nan_to_num(numbers, nan=np.nan))
        else:
            ranks = {str(value): float(rank) for rank, value in enumerate(own.value_counts().index)}
            codes, different = pd.factorize(values.astype(object))  # missing: code -1, the last of the list
            columns.append(np.array([*(ranks.get(str(value), -1.0) for value in different), np.nan])[codes])
    return np.column_stack(columns) if columns else np.zeros((len(frame), 0))
