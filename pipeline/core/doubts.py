"""What should make a person look twice before a column becomes a feature."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.estimators import Task
from pipeline.core.profile import Column, single_column_power

DETERMINES = 0.98
"""Power from which a column nearly determines the target: AUC .99, or R squared .98."""
STANDS_OUT = 1.25
"""A column this many times as strong as the next one is asked whether it is known in time."""
STRONG = 0.3
"""Below this power (AUC .65) no column is suspicious, however far it leads."""
SUSPICIOUS = 0.6
"""From this power (AUC .80) a single column is asked about, even where others are strong too."""
EXACT = 1e-6


@dataclass(frozen=True)
class Doubt:
    """A column, what is odd about it, and whether it was left out for it."""

    column: str
    kind: str
    reason: str
    excluded: bool


def find_doubts(columns: Sequence[Column], target: Column, task: Task, max_categories: int) -> list[Doubt]:
    """All doubts about the columns that could become features, the excluding ones first."""
    doubts: list[Doubt] = []
    for column in columns:
        doubts += _about(column, max_categories)
    out = {doubt.column for doubt in doubts if doubt.excluded}
    left = [column for column in columns if column.name not in out]
    sums = _sums([c for c in left if c.type == "number"], target) if task == "regression" else []
    parts = {doubt.column for doubt in sums}
    doubts += sums + _leaks([c for c in left if c.name not in parts], target, task)
    return sorted(doubts, key=lambda doubt: not doubt.excluded)


def _about(column: Column, max_categories: int) -> list[Doubt]:
    found = []
    name, rows = column.name, len(column.values)
    if column.type == "empty":
        return [Doubt(name, "empty", "it has no value in any row", True)]
    if column.distinct == 1:
        return [Doubt(name, "constant", "it has one value only", True)]
    if column.type == "time":
        return [
            Doubt(
                name, "time", "an instant is no feature; name it with --event-time if it says when a row happened", True
            )
        ]
    whole = column.type == "number" and bool((column.values.dropna() % 1 == 0).all())
    if column.distinct > 0.9 * rows and (column.type == "category" or (whole and column.unique)):
        return [
            Doubt(
                name,
                "identifier",
                f"{column.distinct} different values in {rows} rows: it names rows, it tells nothing of new ones",
                True,
            )
        ]
    if column.type == "category" and column.distinct > max_categories:
        return [
            Doubt(
                name,
                "many categories",
                f"{column.distinct} categories, more than features.max_categories={max_categories}",
                True,
            )
        ]
    if column.blanks:
        found.append(Doubt(name, "blanks", f"{column.blanks} cells of nothing but spaces are read as missing", False))
    if column.unreadable:
        found.append(
            Doubt(name, "no numbers", f"{column.unreadable} values are no numbers; such rows go to quarantine", False)
        )
    most = column.values.value_counts()
    if most.iloc[0] >= 0.999 * rows:
        found.append(Doubt(name, "nearly constant", f"{most.iloc[0]} of {rows} values are {most.index[0]!r}", False))
    if column.type == "number" and column.distinct > 10:
        found += _sentinel(column)
    if column.type == "category":
        words = [
            w for w in ("unknown", "n/a", "na", "none", "missing", "?") if w in {str(v).lower() for v in most.index}
        ]
        if words:
            found.append(
                Doubt(
                    name,
                    "word for missing",
                    f"{words[0]!r} stands for missing; it is kept as a category of its own",
                    False,
                )
            )
    return found


def _sentinel(column: Column) -> list[Doubt]:
    """A number that is repeated and far outside of all others."""
    values = column.values.dropna()
    common = values.value_counts().index[0]
    others = values[values != common]
    if (values == common).mean() < 0.2 or others.empty:
        return []
    low, high = others.min(), others.max()
    gap = max(common - high, low - common)
    if gap <= max(high - low, 1):
        return []
    share = (values == common).mean()
    return [
        Doubt(
            column.name,
            "sentinel",
            f"{common:g} in {share:.0%} of the rows lies far outside of {low:g} to {high:g}: does it mean missing?",
            False,
        )
    ]


def _leaks(columns: Sequence[Column], target: Column, task: Task) -> list[Doubt]:
    power = {column.name: single_column_power(column, target, task) for column in columns}
    ranked = sorted(power, key=lambda name: -power[name])
    found = [
        Doubt(name, "determines the target", f"it tells {power[name]:.1%} of the target: it knows the answer", True)
        for name in ranked if power[name] >= DETERMINES
    ]  # fmt: skip
    rest = [name for name in ranked if power[name] < DETERMINES]
    for name, follower in itertools.pairwise([*rest, ""]):
        lead = power[name] >= STRONG and power[name] >= STANDS_OUT * power.get(follower, 1.0)
        if power[name] < SUSPICIOUS and not (name == rest[0] and lead):
            break
        than = f", the next ({follower}) {power[follower]:.0%}" if follower else ""
        reason = (
            f"alone it tells {power[name]:.0%} of what can be told{than}; "
            "is it known at the time of the prediction? If not, move it to features.exclude"
        )
        found.append(Doubt(name, "stands out", reason, False))
    return found


def _sums(columns: Sequence[Column], target: Column) -> list[Doubt]:
    """Pairs of numbers whose sum or difference, weighted, is the target in every row."""
    wanted = target.values.to_numpy(dtype=float)
    for first, second in itertools.combinations(columns, 2):
        table = np.column_stack([first.values, second.values, np.ones(len(wanted))]).astype(float)
        known = np.isfinite(table).all(axis=1) & np.isfinite(wanted)
        few = np.flatnonzero(known)[:2000]
        if len(few) < 10:
            continue
        weights = np.linalg.lstsq(table[few], wanted[few], rcond=None)[0]
        spread = wanted[known].std()
        if spread > 0 and np.abs(table[known] @ weights - wanted[known]).max() <= EXACT * spread:
            formula = f"{target.name} = {weights[0]:g} x {first.name} + {weights[1]:g} x {second.name}"
            told = f"{formula}, in every row: they are parts of the answer"
            return [Doubt(column.name, "adds up to the target", told, True) for column in (first, second)]
    return []
