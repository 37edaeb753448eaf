"""Why a model has become worse: other rows, another concept, or broken data.

A drop is taken apart into what the window's rows explain (the estimated drop, that is P(x)) and the rest, which the
labels show on top of it (P(y|x)). A column that broke comes before both: whatever it did to scores and labels, the
remedy is to mend it and not to learn from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.core.column_facts import ColumnFacts, moved
from pipeline.core.faults import Fault, faults
from pipeline.core.loss_test import ConceptTest
from pipeline.core.realised import Drop

Cause = Literal["covariates", "concept", "data fault", "unclear"]
ENOUGH = 0.25
"""A fault explains a drop where shuffling the column costs at least this share of it: a broken column seldom does
less than a shuffled one, and a quarter leaves room for what both are blurred by."""
NOISE = 0.001
"""Importance, in the primary metric, below which a model does not use a column."""
UNUSED = 0.05
"""Share of the largest importance that every column has in the search for what moved: a column can make rows harder
to tell though no score leans on it."""
MOST = 0.5
"""Share of the drop that a cause has to explain to be called its cause."""


@dataclass(frozen=True)
class Shares:
    """A drop in the primary metric, taken apart; the parts add up to it. Negative: has made it better."""

    covariates: float
    concept: float
    data_fault: float


@dataclass(frozen=True)
class Explanation:
    """What a drop comes from."""

    cause: Cause
    column: str | None
    """The broken column, or the one that moved most of those that the model leans on; None for a concept."""
    shares: Shares
    faults: tuple[Fault, ...]
    """Everything broken, whether or not it explains the drop."""
    told: str


def explain(
    facts: Sequence[ColumnFacts],
    drop: Drop | None,
    estimated: float | None,
    concept: ConceptTest | None,
    level: float = 0.05,
) -> Explanation:
    """Name the cause of a drop.

    `facts`: of every column. `drop`: realised, where labels have come. `estimated`: the drop that was estimated
    without labels, in the same unit, positive is worse. `concept`: test of the labels, where they have come. `level`:
    p-value of the concept test from which the concept counts as changed; not a small one, as that something has
    changed is known already and the question is only what.

    Without labels only a fault or covariates can be named. With them: the concept where the test says so and it has
    the larger part of the drop; the covariates where the estimate explains at least half of it; else unclear.

    >>> fact = ColumnFacts("age", "number", 1000, 900, (1.0,) * 11, (1.0,) * 11, 0.0, 0.4, {}, {}, 0.1)
    >>> explain([fact], None, None, None).told
    'data fault in age: missing in 40.0% of the rows, 0.0% at registration'
    """
    total = drop.value if drop is not None else estimated or 0.0
    broken = faults(facts)
    importance = {fact.name: fact.importance for fact in facts}
    guilty = [f for f in broken if _costs(importance[f.column], total)]
    if guilty:
        worst = max(guilty, key=lambda fault: importance[fault.column] or 0.0)
        told = f"data fault in {worst.column}: {worst.told}"
        return Explanation("data fault", worst.column, Shares(0.0, 0.0, total), broken, told)
    covariates = estimated or 0.0
    shares = Shares(covariates, total - covariates, 0.0)
    changed = concept is not None and concept.p_value <= level
    if drop is None or concept is None:
        shares = Shares(total, 0.0, 0.0)
        if total <= 0:
            return Explanation("unclear", None, shares, broken, "no drop is estimated, and no labels tell of one")
        return _by_covariates(facts, shares, broken, "by estimate, without labels")
    if changed and shares.concept >= shares.covariates:
        told = (
            f"the concept has changed: {shares.concept:+.4f} of the drop of {total:+.4f} in {drop.metric} is more than "
            f"these rows explain; {concept.told}"
        )
        return Explanation("concept", None, shares, broken, told)
    if total > 0 and covariates >= MOST * total:
        return _by_covariates(facts, shares, broken, f"the concept holds (p = {concept.p_value:.2g})" if not changed
                              else f"though the concept has changed too (p = {concept.p_value:.2g})")  # fmt: skip
    told = (
        f"unclear: the rows explain {covariates:+.4f} of the drop of {total:+.4f} in {drop.metric}, and the labels "
        f"{'show another concept' if changed else f'do not show another concept (p = {concept.p_value:.2g})'}"
    )
    return Explanation("unclear", None, shares, broken, told)


def _costs(importance: float | None, total: float) -> bool:
    """Whether a fault in a column of this importance can be what the drop comes from; unknown importance: yes."""
    return importance is None or importance >= max(NOISE, ENOUGH * total)


def _by_covariates(facts: Sequence[ColumnFacts], shares: Shares, broken: tuple[Fault, ...], why: str) -> Explanation:
    column = _most_moved(facts)
    most = f", most of all by {column}" if column else ""
    told = f"other rows than at registration{most}: they explain {shares.covariates:+.4f} of the drop; {why}"
    return Explanation("covariates", column, shares, broken, told)


def _most_moved(facts: Sequence[ColumnFacts]) -> str | None:
    """The column that has moved most beyond chance, by how much the model leans on it."""
    most = max((fact.importance or 0.0 for fact in facts), default=0.0)
    least = UNUSED * most if most > 0 else 1.0
    felt = {fact.name: moved(fact) * max(least, fact.importance or 0.0) for fact in facts}
    return max(felt, key=lambda name: felt[name]) if any(felt.values()) else None
