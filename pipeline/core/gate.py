"""The gate: may this candidate become champion? First form: floors, and not worse than the champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.core.estimators import Task
from pipeline.core.metric_names import higher_is_better
from pipeline.core.metrics import evaluate, over_resamples
from pipeline.core.verdict import Interval, Verdict


@dataclass(frozen=True)
class GateRules:
    """What the model file asks of a candidate."""

    primary: str
    floors: Mapping[str, float]
    margin: float
    confidence: float
    resamples: int
    seed: int


@dataclass(frozen=True)
class Comparison:
    """Candidate and champion on the same rows, each metric with its bootstrap interval."""

    candidate: dict[str, Interval]
    champion: dict[str, Interval]
    difference: Interval | None
    """Candidate less champion in the primary metric, paired, turned so that positive is better."""


def compare(
    task: Task, actual: np.ndarray, candidate: np.ndarray, champion: np.ndarray | None, rules: GateRules
) -> Comparison:
    """Measure both on the same rows and the same resamples. Shapes as in `metrics.evaluate`."""
    ones = np.ones((1, len(actual)))

    def both(weights: np.ndarray) -> dict[str, np.ndarray]:
        values = {f"candidate {k}": v for k, v in evaluate(task, actual, candidate, weights).items()}
        if champion is not None:
            values |= {f"champion {k}": v for k, v in evaluate(task, actual, champion, weights).items()}
            sign = 1 if higher_is_better(rules.primary) else -1
            values["difference"] = sign * (values[f"candidate {rules.primary}"] - values[f"champion {rules.primary}"])
        return values

    point = both(ones)
    spread = over_resamples(len(actual), rules.resamples, np.random.default_rng(rules.seed), both)
    intervals = {name: _interval(float(point[name][0]), spread[name], rules.confidence) for name in point}
    return Comparison(
        {k.removeprefix("candidate "): v for k, v in intervals.items() if k.startswith("candidate ")},
        {k.removeprefix("champion "): v for k, v in intervals.items() if k.startswith("champion ")},
        intervals.get("difference"),
    )


def judge(comparison: Comparison, rules: GateRules) -> Verdict:
    """REJECT below a floor or worse than the champion beyond the margin, else PROMOTE; with every reason.

    >>> rules = GateRules("roc_auc", {"roc_auc": 0.7}, 0.0, 0.95, 500, 7)
    >>> judge(Comparison({"roc_auc": Interval(0.61, 0.58, 0.64)}, {}, None), rules).reasons
    ('roc_auc 0.6100 is worse than its floor 0.7000',)
    """
    broken = [
        f"{name} {comparison.candidate[name].value:.4f} is worse than its floor {floor:.4f}"
        for name, floor in rules.floors.items()
        if not _reaches(name, comparison.candidate[name].value, floor)
    ]
    if broken:
        return Verdict("REJECT", tuple(broken))
    kept = [
        f"{name} {comparison.candidate[name].value:.4f} reaches its floor {floor:.4f}"
        for name, floor in rules.floors.items()
    ]
    if comparison.difference is None:
        return Verdict("PROMOTE", (*kept, "there is no champion yet"))
    gain = comparison.difference
    told = (
        f"{rules.primary} {comparison.candidate[rules.primary].value:.4f} against the champion's "
        f"{comparison.champion[rules.primary].value:.4f}: better by {gain.value:+.4f} "
        f"({rules.confidence:.0%} interval {gain.low:+.4f} to {gain.high:+.4f})"
    )
    if gain.value < -rules.margin:
        return Verdict("REJECT", (*kept, f"{told}, worse than the margin {-rules.margin:g} allows"))
    return Verdict("PROMOTE", (*kept, told))


def _reaches(name: str, value: float, floor: float) -> bool:
    return value >= floor if higher_is_better(name) else value <= floor


def _interval(value: float, spread: np.ndarray, confidence: float) -> Interval:
    """Percentile bootstrap (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13)."""
    known = spread[np.isfinite(spread)]
    if len(known) == 0:
        return Interval(value, value, value)
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))
