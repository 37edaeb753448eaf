"""What the gate is given: the rows that judge, the rules of the model file, and the checks beside the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from pipeline.adapters.training_rows import Rows
from pipeline.config import ModelConfig
from pipeline.core.behaviour import Behaviour, Direction, Invariance, Minimum
from pipeline.core.behaviour import check as check_behaviour
from pipeline.core.decision import Payoff
from pipeline.core.fairness import group_rates
from pipeline.core.gate_rules import DeclaredSlice, GateRules
from pipeline.core.paired import Judged
from pipeline.core.predictor import Predictor
from pipeline.core.verdict import Check
from pipeline.errors import BadConfiguration
from pipeline.sections import DirectionTest, Fairness, InvarianceTest, MinimumTest
from pipeline.settings import Settings

BEHAVIOUR_ROWS = 1_000
Rates = dict[str, dict[str, float]]


def gate_rules(model: ModelConfig) -> GateRules:
    """The model file's rules."""
    gate = model.gate
    return GateRules(
        primary=model.primary_metric, floors=model.metrics.floors, require=gate.require, min_gain=gate.min_gain,
        margin=gate.margin,
        confidence=gate.confidence, resamples=gate.resamples, seed=model.training.seed, mode=gate.mode,
        declared=tuple(DeclaredSlice(s.name, s.where, s.floors) for s in gate.slices),
        search_slices=gate.search_slices, slice_margin=gate.slice_margin, slice_min_rows=gate.slice_min_rows,
    )  # fmt: skip


def judged_rows(rows: Rows, test: Path, model: ModelConfig) -> Judged:
    """The labels, with the entity of each row where entities repeat."""
    clusters = None
    if model.entity:
        keys = pq.read_table(test, columns=list(model.entity)).to_pandas()
        codes = keys.groupby(list(model.entity), sort=False, dropna=False).ngroup().to_numpy()
        clusters = codes if int(codes.max()) + 1 < len(codes) else None
    payoff = Payoff(**model.payoff.model_dump()) if model.payoff else None
    return Judged(model.task, rows.target, clusters, payoff, model.threshold, model.threshold)


def judged_table(rows: Rows, test: Path, model: ModelConfig) -> pd.DataFrame:
    """Features, and what else the gate groups rows by."""
    more = [c for c in model.judged_columns if c not in rows.frame.columns]
    if not more:
        return rows.frame
    found: pd.DataFrame = pd.concat([rows.frame, pq.read_table(test, columns=more).to_pandas()], axis=1)
    return found


def predict(predictor: Predictor, frame: pd.DataFrame) -> np.ndarray:
    """Scores of a frame, shape (n, classes) or (n,)."""
    return predictor.scores({str(name): frame[name].to_numpy() for name in frame.columns})


def behaviour_checks(predictor: Predictor, rows: Rows, model: ModelConfig) -> list[Check]:
    """The behavioural tests of the model file, on a sample of the rows that judge.

    Raises BadConfiguration for a test of a column that is no feature.
    """
    size = min(BEHAVIOUR_ROWS, len(rows.frame))
    chosen = np.sort(np.random.default_rng(model.training.seed).choice(len(rows.frame), size, replace=False))
    sample = rows.frame.iloc[chosen].reset_index(drop=True)
    return [
        check_behaviour(_behaviour(test, sample), lambda frame: predict(predictor, frame), sample)
        for test in model.behaviour
    ]


def _behaviour(test: InvarianceTest | DirectionTest | MinimumTest, sample: pd.DataFrame) -> Behaviour:
    named = set(test.row) if isinstance(test, MinimumTest) else {test.column}
    foreign, missing = sorted(named - set(sample.columns)), sorted(set(sample.columns) - named)
    if foreign:
        raise BadConfiguration(
            f"behaviour {test.name}: {foreign[0]!r} is no feature; features: {', '.join(map(str, sample))}"
        )
    if isinstance(test, MinimumTest):
        if missing:
            raise BadConfiguration(f"behaviour {test.name}: the row lacks {missing[0]!r}; null where it is not known")
        return Minimum(test.name, test.row, test.at_least, test.at_most)
    if isinstance(test, InvarianceTest):
        return Invariance(test.name, test.column, test.values, test.tolerance, test.max_failing_share)
    if sample[test.column].dtype == object:
        raise BadConfiguration(f"behaviour {test.name}: {test.column!r} is a category; direction needs a number")
    return Direction(test.name, test.column, test.add, test.expect, test.tolerance, test.max_failing_share)


def fairness_checks(
    judged: Judged, table: pd.DataFrame, scores: np.ndarray, model: ModelConfig
) -> tuple[list[Check], Rates]:
    """Whether declared groups get the positive answer at like rates, and the rates."""
    checks, rates = [], {}
    for asked in model.gate.fairness:
        name = f"{asked.measure} by {asked.column}"
        check, found = _fair(asked, name, judged, table, scores, model)
        checks.append(check)
        rates[name] = found
    return checks, rates


def _fair(
    asked: Fairness, name: str, judged: Judged, table: pd.DataFrame, scores: np.ndarray, model: ModelConfig
) -> tuple[Check, dict[str, float]]:
    groups = table[asked.column].astype(object).where(table[asked.column].notna(), "(missing)").map(_name)
    found = group_rates(
        groups.to_numpy(dtype=str), judged.actual == 1, scores[:, 1] >= judged.threshold, asked.measure,
        min_rows=asked.min_rows, confidence=model.gate.confidence, resamples=model.gate.resamples,
        rng=np.random.default_rng(model.training.seed), clusters=judged.clusters,
    )  # fmt: skip
    if found is None:
        told = f"fairness, {name}: fewer than two groups have {asked.min_rows} rows to tell by"
        return Check("fairness", name, "unclear", told), {}
    ratio = found.ratio
    shown = ", ".join(f"{group} {rate:.1%}" for group, rate in found.rates.items())
    told = (
        f"fairness, {name}: {shown}; ratio {ratio.value:.3f} (interval {ratio.low:.3f} to {ratio.high:.3f}), "
        f"asked is {asked.min_ratio:g}"
    )
    if found.left_out:
        told += f"; too few rows to tell: {', '.join(found.left_out)}"
    if ratio.value >= asked.min_ratio:
        return Check("fairness", name, "pass", told), found.rates
    if ratio.high < asked.min_ratio:
        return Check("fairness", name, "fail", told), found.rates
    return Check("fairness", name, "unclear", f"{told}; perhaps by chance"), found.rates


def _name(group: object) -> str:
    return f"{group:g}" if isinstance(group, float) else str(group)


def latency_check(
    package: str, digest: str, model: ModelConfig, settings: Settings
) -> tuple[list[Check], float | None]:
    """Whether the package answers in time in a real server; nothing where no cap is set."""
    cap = model.gate.max_latency_ms
    if cap is None:
        return [], None
    from pipeline.adapters.latency import measure_latency

    found = measure_latency(package, digest, model.name, settings)
    for _ in range(2):  # a busy machine is no slow model: what is slow is slow every time
        if found.p99_ms <= cap:
            break
        again = measure_latency(package, digest, model.name, settings)
        found = min(found, again, key=lambda one: one.p99_ms)
    told = f"latency in the server: {found.p50_ms:.1f} ms at the median, {found.p99_ms:.1f} ms at the 99th percentile"
    outcome: Any = "pass" if found.p99_ms <= cap else "fail"
    return [Check("latency", "p99", outcome, f"{told}, cap {cap:g} ms")], found.p99_ms
