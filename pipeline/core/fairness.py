"""Fairness between groups: the ratio of the rates at which they get the positive answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.core.metrics import over_resamples
from pipeline.core.verdict import Interval

Measure = Literal["selection_rate", "true_positive_rate", "false_positive_rate"]


@dataclass(frozen=True)
class GroupRates:
    """The rate of each group, and the smallest over the largest."""

    rates: dict[str, float]
    ratio: Interval
    left_out: dict[str, int]
    """Groups with too few rows to tell, and their rows."""


def group_rates(
    groups: np.ndarray,
    positive: np.ndarray,
    called: np.ndarray,
    measure: Measure,
    *,
    min_rows: int,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
    clusters: np.ndarray | None,
) -> GroupRates | None:
    """Rates by group with a bootstrap interval of their ratio; None where fewer than two groups have enough rows.

    `selection_rate`: the four-fifths rule of the US Uniform Guidelines on Employee Selection Procedures, 1978,
    asks for a ratio of .8. `true_positive_rate`, `false_positive_rate`: Hardt, Price & Srebro, Equality of
    Opportunity in Supervised Learning, 2016. Arrays have shape (n,), `groups` holds texts.
    """
    counted = {"selection_rate": np.ones(len(groups), dtype=bool), "true_positive_rate": positive,
               "false_positive_rate": ~positive}[measure]  # fmt: skip
    names, sizes = np.unique(groups[counted], return_counts=True)
    large = [str(name) for name, size in zip(names, sizes, strict=True) if size >= min_rows]
    if len(large) < 2:
        return None
    hits = np.stack([(groups == name) & counted & called for name in large], axis=1).astype(np.float64)
    members = np.stack([(groups == name) & counted for name in large], axis=1).astype(np.float64)

    def ratio(weights: np.ndarray) -> dict[str, np.ndarray]:
        of_each = weights @ hits / np.maximum(weights @ members, 1e-12)
        top = of_each.max(axis=1)
        return {"ratio": np.where(top > 0, of_each.min(axis=1) / np.where(top > 0, top, 1), 1.0)}

    ones = np.ones((1, len(groups)))
    spread = over_resamples(len(groups), resamples, rng, ratio, clusters)["ratio"]
    low, high = np.quantile(spread, [(1 - confidence) / 2, (1 + confidence) / 2])
    rates = (ones @ hits / (ones @ members))[0]
    return GroupRates(
        dict(zip(large, rates.tolist(), strict=True)),
        Interval(float(ratio(ones)["ratio"][0]), float(low), float(high)),
        {str(n): int(s) for n, s in zip(names, sizes, strict=True) if s < min_rows},
    )
