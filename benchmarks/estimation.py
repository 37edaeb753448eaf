"""How far estimates without labels are off, and how often the cause of a drop is named right.

In a world whose truth is known: a model is fitted, measured at registration, and then the world changes in one of
several planted ways. Beside the estimates the rule that needs nothing: "as at registration".
`python -m benchmarks.estimation [--seeds N]`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from pipeline.core.causes import Explanation, explain
from pipeline.core.column_facts import facts_of
from pipeline.core.estimation import Estimate, Estimator, estimate_error, fit_estimator
from pipeline.core.expectation import Reference
from pipeline.core.importance import permutation_importance
from pipeline.core.loss_test import concept_test
from pipeline.core.maturity import fixed_maturity
from pipeline.core.metrics import evaluate
from pipeline.core.paired import Judged
from pipeline.core.realised import Realised, RealisedRules, realise
from pipeline.core.reweighting import reweight
from pipeline.core.verdict import Interval

Change = Literal["none", "covariates", "concept", "missing", "unit", "renamed", "stuck"]
FAULTS: tuple[Change, ...] = ("missing", "unit", "renamed", "stuck")
CATEGORIES, NUMBERS = ["plan", "region"], ["tenure", "distance", "spend", "visits"]
METRICS = ("roc_auc", "accuracy", "log_loss")
RULES = RealisedRules("roc_auc", resamples=10)
"""Only the values are looked at here."""


def rows_of(count: int, rng: np.random.Generator, change: Change) -> tuple[pd.DataFrame, np.ndarray]:
    """Features and labels, shape (count,). Labels of customers with a short tenure are the harder to tell."""
    pool = count * 6 if change == "covariates" else count
    frame = pd.DataFrame(
        {
            "plan": rng.choice(["basic", "family", "plus", "student"], pool, p=[0.4, 0.3, 0.2, 0.1]),
            "region": rng.choice(["north", "south", "east", "west"], pool),
            "tenure": rng.gamma(4.0, 8.0, pool),
            "distance": rng.gamma(6.0, 5.0, pool),
            "spend": np.exp(rng.normal(4, 0.5, pool)),
            "visits": rng.normal(10, 3, pool),
        }
    )
    if change == "covariates":
        weight = np.exp(-frame["tenure"] / 9)
        frame = frame.iloc[rng.choice(pool, count, replace=False, p=weight / weight.sum())].reset_index(drop=True)
    plan = frame["plan"].map({"basic": 1.3, "family": -0.8, "plus": -1.6, "student": 0.9}).to_numpy(dtype=float)
    way, spend = (frame["distance"].to_numpy() - 30) / 12, np.log(frame["spend"].to_numpy()) - 4
    clear = np.clip(frame["tenure"].to_numpy() / 32, 0.05, 1.6)
    logit = clear * (1.3 * plan + 1.4 * way + (-1.2 if change == "concept" else 1.2) * spend)
    labels = (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(int)
    return _broken(frame, change, rng), labels


def _broken(frame: pd.DataFrame, change: Change, rng: np.random.Generator) -> pd.DataFrame:
    way = frame["distance"]
    if change == "missing":
        return frame.assign(distance=way.where(rng.random(len(frame)) > 0.6))
    if change == "unit":
        return frame.assign(distance=way * rng.choice([1.609344, 1 / 1.609344, 100.0, 0.001]))
    if change == "stuck":
        return frame.assign(distance=float(way.iloc[0]))
    if change == "renamed":
        return frame.assign(plan=frame["plan"].replace({"basic": "Basic 2.0"}))
    return frame


def model(linear: bool) -> Pipeline:
    """A logistic regression, or gradient-boosted trees, as people build them."""
    if linear:
        numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
        return make_pipeline(
            make_column_transformer((OneHotEncoder(handle_unknown="ignore"), CATEGORIES), (numbers, NUMBERS)),
            LogisticRegression(),
        )
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    return make_pipeline(
        make_column_transformer((codes, CATEGORIES), ("passthrough", NUMBERS)),
        HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=8, random_state=0),
    )


@dataclass(frozen=True)
class Window:
    """What is known of a window once its labels are there."""

    estimates: dict[str, Estimate]
    realised: Realised
    explanation: Explanation


class Registered:
    """A model as it was registered."""

    def __init__(self, seed: int, rows: int = 4000) -> None:
        rng = np.random.default_rng([1, seed])
        self.model = model(linear=seed % 2 == 0)
        self.model.fit(*rows_of(rows, rng, "none"))
        frame, labels = rows_of(rows, rng, "none")
        self.reference = Reference("binary", frame, labels, self.model.predict_proba(frame))
        self.estimator: Estimator = fit_estimator(self.reference, rng)
        judged, everything = Judged("binary", labels, None), np.ones(rows, dtype=bool)
        self.measured: dict[str, Interval] = realise(
            judged, self.reference.scores, everything, np.ones(rows), fixed_maturity(0), {}, RULES, rng
        ).metrics

        def area(scores: np.ndarray) -> float:
            return float(evaluate("binary", labels, scores, np.ones((1, rows)))["roc_auc"][0])

        self.importance = permutation_importance(self.model.predict_proba, frame, area, rng, repeats=1)

    def watch(self, change: Change, rng: np.random.Generator, rows: int = 3000, draws: int = 30) -> Window:
        """A window after a change, estimated, measured and explained."""
        frame, labels = rows_of(rows, rng, change)
        scores, everything = self.model.predict_proba(frame), np.ones(rows, dtype=bool)
        weights = reweight(self.reference.frame, frame, rng)
        estimates = self.estimator.estimate(frame, scores, weights, rng, draws=draws)
        found = realise(
            Judged("binary", labels, None), scores, everything, np.ones(rows), fixed_maturity(0), self.measured,
            RULES, rng,
        )  # fmt: skip
        tested = concept_test(self.estimator, frame, labels, scores, weights)
        dropped = self.measured["roc_auc"].value - estimates["roc_auc"].value
        facts = facts_of(self.reference.frame, frame, self.importance)
        return Window(estimates, found, explain(facts, found.drop, dropped, tested))


def named(seeds: int, models: int, rows: int = 4000) -> dict[str, Counter[str]]:
    """Causes that were named for each planted one; faults take turns."""
    known = [Registered(number, rows) for number in range(models)]
    found: dict[str, Counter[str]] = {"covariates": Counter(), "concept": Counter(), "data fault": Counter()}
    for seed in range(seeds):
        planted_now: dict[str, Change] = {
            "covariates": "covariates", "concept": "concept", "data fault": FAULTS[seed % len(FAULTS)],
        }  # fmt: skip
        for planted, change in planted_now.items():
            window = known[seed % models].watch(change, np.random.default_rng([2, seed]), rows, draws=2)
            found[planted][window.explanation.cause] += 1
    return found


@dataclass(frozen=True)
class Off:
    """How far a metric's estimates are off."""

    ours: float
    """Mean absolute error of the estimates."""
    as_registered: float
    """The same of the value at registration."""
    inside: float
    """Share of the true values inside the band."""


def off(seeds: int, models: int, change: Change, rows: int = 4000) -> dict[str, Off]:
    """How far estimates are off after a change, for each of METRICS."""
    windows: list[Window] = []
    then: list[Registered] = []
    for seed in range(seeds):
        registered = Registered(100 + seed % models, rows) if seed < models else then[seed - models]
        then.append(registered)
        windows.append(registered.watch(change, np.random.default_rng([3, seed]), rows, draws=60))
    found = {}
    for name in METRICS:
        true = [w.realised.metrics[name].value for w in windows]
        bands = [(w.estimates[name].low, w.estimates[name].high) for w in windows]
        found[name] = Off(
            estimate_error([w.estimates[name].value for w in windows], true),
            estimate_error([r.measured[name].value for r in then], true),
            float(np.mean([low <= value <= high for (low, high), value in zip(bands, true, strict=True)])),
        )
    return found


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50, help="windows for each change (default %(default)s)")
    parser.add_argument("--models", type=int, default=10, help="models that take turns (default %(default)s)")
    parsed = parser.parse_args()
    changes: tuple[Change, ...] = ("none", "covariates", "concept")
    with threadpool_limits(limits=1):
        print(f"{'change':<12}{'metric':<12}{'estimate off by':>17}{'as registered':>15}{'inside the band':>17}")
        for change in changes:
            for name, one in off(parsed.seeds, parsed.models, change).items():
                print(
                    f"{change:<12}{name:<12}{one.ours:>17.4f}{one.as_registered:>15.4f}{one.inside:>17.0%}", flush=True
                )
        print(f"\n{'planted':<12}{'covariates':>12}{'concept':>12}{'data fault':>12}{'unclear':>12}")
        for planted, counts in named(parsed.seeds, parsed.models).items():
            shown = ("covariates", "concept", "data fault", "unclear")
            print(f"{planted:<12}" + "".join(f"{counts[name]:>12}" for name in shown))


if __name__ == "__main__":
    main()
