"""Worlds in which the truth is known: scores of two models whose real quality was chosen."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.core.gate import Examined, examine, judge
from pipeline.core.gate_rules import GateRules
from pipeline.core.paired import Judged
from pipeline.core.verdict import Verdict
from pipeline.core.wear import wear

RULES = GateRules("roc_auc", {}, resamples=4)
"""DeLong needs no resamples; those of the other metrics are not looked at here."""


def separation(area: float) -> float:
    """Distance of two unit normals whose ROC AUC is `area`."""
    return float(np.sqrt(2) * stats.norm.ppf(area))


class TwoModels:
    """Labels, and two correlated scores with the ROC AUC that was asked for, as probabilities.

    Score j of a row is separation_j * label + noise, the noises correlated by `shared`.
    """

    def __init__(self, rows: int, champion: float, candidate: float, rng: np.random.Generator, shared: float = 0.8):
        self.actual = (rng.random(rows) < 0.3).astype(int)
        common, own = rng.normal(size=rows), rng.normal(size=(2, rows))
        noise = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
        distances = np.array([[separation(champion)], [separation(candidate)]])
        raw = distances * self.actual + noise
        odds = distances * raw - distances**2 / 2 + np.log(0.3 / 0.7)
        chance = 1 / (1 + np.exp(-odds))
        self.champion, self.candidate = (np.column_stack([1 - c, c]) for c in chance)
        self.table = pd.DataFrame(
            {
                "plan": rng.choice(["basic", "family", "plus"], rows),
                "contract": rng.choice(["month", "year", "two_year"], rows),
                "tenure": rng.normal(30, 10, rows),
            }
        )

    def examine(self, rules: GateRules = RULES, judged_before: int = 0, clusters: np.ndarray | None = None) -> Examined:
        """The figures by which the gate decides; `clusters`: entity of each row, shape (n,)."""
        everything = np.ones(len(self.actual), dtype=bool)
        return examine(
            Judged("binary", self.actual, clusters), self.table, self.candidate, self.champion, everything, rules,
            wear([1.0] * judged_before, rules.confidence),
        )  # fmt: skip

    def verdict(self, rules: GateRules = RULES, judged_before: int = 0) -> Verdict:
        """What the gate says, on rows that have judged so many candidates before."""
        return judge(self.examine(rules, judged_before), rules)
