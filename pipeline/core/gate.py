"""The gate: may this candidate become champion? Every question gets an answer with its uncertainty.

`examine` asks the questions and keeps the figures; `judge` turns the answers into a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from pipeline.core.comparison import comparison, goal_of, labels_needed
from pipeline.core.gate_rules import DeclaredSlice, GateRules
from pipeline.core.metric_names import higher_is_better
from pipeline.core.metrics import over_resamples
from pipeline.core.paired import Judged, difference, row_losses
from pipeline.core.slices import Harm, Slice, declared_slice, find_slices, harms
from pipeline.core.verdict import Check, Difference, Evidence, Interval, SliceResult, Verdict, Wear

MOST_TOLD = 5
"""Slices found by search that stand in the record: the broken ones, and the worst of the others."""


@dataclass(frozen=True)
class Examined:
    """The figures of one candidate, and of the champion on the same rows."""

    candidate: dict[str, Interval]
    champion: dict[str, Interval]
    difference: Difference | None
    evidence: Evidence


def examine(
    judged: Judged,
    table: pd.DataFrame,
    candidate: np.ndarray,
    champion: np.ndarray | None,
    unseen: np.ndarray | None,
    rules: GateRules,
    wear: Wear | None,
) -> Examined:
    """Measure the candidate, and compare it with the champion where there is one.

    `table`, shape (n, columns): what slices are made of. `candidate`, `champion`: scores as `metrics.evaluate`
    takes them. `unseen`, mask of shape (n,): rows that the champion did not learn from; only these compare.
    """
    rng = np.random.default_rng(rules.seed)
    own = _intervals(judged, candidate, rules, rng)
    checks = [_floor(name, own[name], limit, "floor", "") for name, limit in rules.floors.items()]
    slices: list[SliceResult] = []
    gap, other, searched, compared, needed = None, {}, 0, 0, None
    declared = [declared_slice(d.name, d.where, table) for d in rules.declared]
    if champion is None:
        slices = [_alone(judged, candidate, one, rules) for one in declared]
    for one, asked in zip(declared, rules.declared, strict=True):
        checks += _slice_floors(judged, candidate, one, asked, rules, rng)
    if champion is not None and unseen is not None and wear is not None:
        fresh = judged.only(unseen)
        compared = len(fresh.actual)
        mine, theirs, rows = candidate[unseen], champion[unseen], table[unseen].reset_index(drop=True)
        gap = difference(fresh, rules.primary, mine, theirs,
                         confidence=rules.confidence, resamples=rules.resamples, rng=rng)  # fmt: skip
        other = _intervals(fresh.by_champion, theirs, rules, rng)
        needed = labels_needed(gap, goal_of(rules, other[rules.primary].value), compared, rules, wear)
        slices, searched = _slices(fresh, rows, mine, theirs, [Slice(d.name, d.rows[unseen]) for d in declared], rules)
        checks += [Check("slice", s.name, s.outcome, s.told) for s in slices if s.outcome != "pass"]
    evidence = Evidence(
        rows=len(judged.actual), entities=judged.entities, compared_rows=compared, checks=tuple(checks),
        slices=tuple(slices), slices_searched=searched, wear=wear,
        labels_needed=needed,
    )  # fmt: skip
    return Examined(own, other, gap, evidence)


def judge(examined: Examined, rules: GateRules, more: Sequence[Check] = ()) -> Verdict:
    """REJECT where anything asked has failed, HOLD where anything is unclear, else PROMOTE; with every reason.

    `more`: checks from outside of the figures, such as latency.

    >>> evidence = Evidence(900, 900, 0, (Check("floor", "f1", "fail", "f1 is below its floor"),), (), 0, None, None)
    >>> judge(Examined({}, {}, None, evidence), GateRules("f1", {"f1": 0.7})).reasons
    ('f1 is below its floor',)
    """
    if rules.mode == "disabled":
        return Verdict("PROMOTE", ("the gate is disabled in the model file",), "disabled")
    checks = [*more, *examined.evidence.checks]
    if examined.difference is not None:
        mine, theirs = (found[rules.primary].value for found in (examined.candidate, examined.champion))
        checks.insert(0, comparison(examined.difference, mine, theirs, examined.evidence, rules))
    elif not any(c.kind == "law" for c in checks):
        checks.insert(0, Check("comparison", rules.primary, "pass", "there is no champion yet"))
    decision: Literal["PROMOTE", "HOLD", "REJECT"] = "PROMOTE"
    if any(c.outcome == "fail" for c in checks):
        decision = "REJECT"
    elif any(c.outcome == "unclear" for c in checks):
        decision = "HOLD"
    order = {"fail": 0, "unclear": 1, "pass": 2}
    deciding = {"REJECT": ("fail",), "HOLD": ("unclear",), "PROMOTE": ("pass",)}[decision]
    reasons = tuple(c.told for c in sorted(checks, key=lambda c: order[c.outcome]) if c.outcome in deciding)
    if rules.mode == "dry_run":
        told = f"the gate only looks on (dry_run); it would have said {decision}"
        return Verdict("PROMOTE", (told, *reasons), "dry_run", decision)
    return Verdict(decision, reasons)


def _intervals(judged: Judged, scores: np.ndarray, rules: GateRules, rng: np.random.Generator) -> dict[str, Interval]:
    """Percentile bootstrap over entities (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13)."""

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        return judged.metrics(scores, weights)

    rows = len(judged.actual)
    point = measure(np.ones((1, rows)))
    spread = over_resamples(rows, rules.resamples, rng, measure, judged.clusters)
    return {name: _interval(float(point[name][0]), spread[name], rules.confidence) for name in point}


def _interval(value: float, spread: np.ndarray, confidence: float) -> Interval:
    known = spread[np.isfinite(spread)]
    if len(known) == 0:
        return Interval(value, value, value)
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))


def _floor(name: str, found: Interval, limit: float, kind: Literal["floor", "slice"], where: str) -> Check:
    """Below with certainty fails, below by chance is unclear."""
    up = higher_is_better(name)
    told = f"{name} {found.value:.4f}{where} (interval {found.low:.4f} to {found.high:.4f})"
    word = "floor" if up else "cap"
    if found.value >= limit if up else found.value <= limit:
        return Check(kind, name + where, "pass", f"{told} reaches its {word} {limit:.4f}")
    if found.high < limit if up else found.low > limit:
        return Check(kind, name + where, "fail", f"{told} is worse than its {word} {limit:.4f}")
    return Check(kind, name + where, "unclear", f"{told} is worse than its {word} {limit:.4f}, perhaps by chance")


def _slice_floors(
    judged: Judged, scores: np.ndarray, one: Slice, asked: DeclaredSlice, rules: GateRules, rng: np.random.Generator
) -> list[Check]:
    if not asked.floors:
        return []
    rows = int(one.rows.sum())
    part = judged.only(one.rows) if rows else judged
    alone = rows < 2 or (judged.task == "binary" and len(np.unique(part.actual)) < 2)
    if rows < rules.slice_min_rows or alone:
        told = f"slice {one.name}: {rows} rows are too few to hold it to its floors"
        return [Check("slice", one.name, "unclear", told)]
    found = _intervals(part, scores[one.rows], rules, rng)
    return [_floor(n, found[n], limit, "slice", f" on slice {one.name}") for n, limit in asked.floors.items()]


def _slices(
    fresh: Judged,
    rows: pd.DataFrame,
    candidate: np.ndarray,
    champion: np.ndarray,
    declared: Sequence[Slice],
    rules: GateRules,
) -> tuple[list[SliceResult], int]:
    """Declared slices, then those found by search: two families, each with its own budget of false alarms."""
    mine, theirs = row_losses(fresh, candidate, rules.primary), row_losses(fresh, champion, rules.primary)

    def of(slices: Sequence[Slice]) -> list[Harm]:
        return harms(slices, mine, theirs, fresh.clusters, margin=rules.slice_margin, confidence=rules.confidence)

    large = [s for s in declared if s.rows.sum() >= rules.slice_min_rows]
    results = [_result(harm, True, rules) for harm in of(large)]
    for small in declared:
        if small.rows.sum() < rules.slice_min_rows:
            told = f"slice {small.name}: {int(small.rows.sum())} rows are too few to tell"
            results.append(SliceResult(small.name, True, int(small.rows.sum()), 0.0, None, None, "pass", told))
    if not rules.search_slices:
        return results, 0
    found = of(find_slices(rows, rules.slice_min_rows))
    broken = [harm for harm in found if harm.broken]
    simple = [h for h in broken if " & " not in h.slice.name] or broken
    others = [harm for harm in found if not harm.broken]
    return results + [_result(harm, False, rules) for harm in (simple + others)[:MOST_TOLD]], len(found)


def _alone(judged: Judged, scores: np.ndarray, one: Slice, rules: GateRules) -> SliceResult:
    """A declared slice without a champion to compare with."""
    rows = int(one.rows.sum())
    loss = float(row_losses(judged, scores, rules.primary)[one.rows].mean()) if rows else 0.0
    told = f"slice {one.name}: mean loss {loss:.4f} on {rows:,} rows"
    return SliceResult(one.name, True, rows, loss, None, None, "pass", told)


def _result(harm: Harm, declared: bool, rules: GateRules) -> SliceResult:
    one = harm.slice
    told = (
        f"slice {one.name}{'' if declared else ' (found by search)'}: mean loss {harm.candidate_loss:.4f} "
        f"against the champion's {harm.champion_loss:.4f} on {int(one.rows.sum()):,} rows"
    )
    if harm.broken:
        told += f", worse than the {rules.slice_margin:.0%} allowed (p = {harm.p_value:.2g})"
    return SliceResult(
        one.name, declared, int(one.rows.sum()), harm.candidate_loss, harm.champion_loss, harm.p_value,
        "fail" if harm.broken else "pass", told,
    )  # fmt: skip


def with_checks(evidence: Evidence, more: Sequence[Check]) -> Evidence:
    """The evidence with what was checked outside of the figures."""
    return replace(evidence, checks=(*more, *evidence.checks))
