"""Has a window drifted from its reference? Every column and every pair, with one level that keeps the budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.core.drift import debiased_psi, debiased_variation
from pipeline.core.drift_calibration import Calibration, WindowCalibration
from pipeline.core.drift_columns import QUESTIONS, Question
from pipeline.core.drift_pairs import moved_by, pair_psi
from pipeline.core.drift_questions import column_tests, name_rows, pair_tests
from pipeline.core.drift_tails import cell_p_values
from pipeline.core.drift_told import told_of, told_of_pair
from pipeline.core.sketch import Sketch

COARSE_CELLS = 10
MOVED_LEVEL = 1e-3
"""Chance, over all names of a category, that one is set apart for its move where nothing moved: rare enough that the
effect of no change stays near 0."""
PAIR_SHARE = 0.03
"""Part of a window's chance of a false alarm that all pairs together may spend."""


@dataclass(frozen=True)
class ColumnDrift:
    """What a window shows of a column, or of a pair of numeric columns."""

    column: str
    """For a pair both names: "a × b"."""
    kind: Literal["number", "category", "pair"]
    p_value: float
    """Over all questions asked of the column, and weighed so that the level of the window serves columns and pairs."""
    psi: float
    """Population stability index over some ten cells and missing, less what chance gives; of a pair, see `pair_psi`."""
    total_variation: float
    """Share of the rows that moved to another of these cells, less what chance gives; of a pair, see `moved_by`."""
    shift: float | None
    """Change of the mean in standard deviations of the reference; None for a category, a pair, or without values."""
    missing_reference: float
    missing_current: float
    """Shares of the rows."""
    unseen_share: float
    """Share of the rows whose category the reference did not have."""
    told: str
    """What changed, from what to what."""


@dataclass(frozen=True)
class WindowDrift:
    """What a window of some days shows against its reference."""

    days: int
    rows: int
    rows_reference: int
    status: Literal["ok", "insufficient", "not calibrated"]
    level: float
    """p-value up to which a column has changed."""
    columns: tuple[ColumnDrift, ...]
    """The most unlikely first; of the pairs only the most unlikely one of each column."""

    @property
    def changed(self) -> tuple[ColumnDrift, ...]:
        """Columns and pairs beyond the level; none where the window cannot be judged."""
        return tuple(c for c in self.columns if c.p_value <= self.level) if self.status == "ok" else ()


def compare(
    reference: Sketch,
    current: Sketch,
    *,
    days: int,
    level: float,
    calibration: Calibration | None = None,
    min_rows: int = 100,
) -> WindowDrift:
    """Test a window against its reference.

    `level`: from `drift_budget`, for as many columns as `Bins.columns`. `calibration`: None where the rows are
    independent; a window length that it does not hold is measured, but not judged. Fewer than `min_rows` rows on a side
    are insufficient. Raises ValueError where the bins differ.
    """
    bins = reference.bins
    if current.bins is not bins and current.bins.digest != bins.digest:
        raise ValueError(f"sketches of different bins: {bins.digest} and {current.bins.digest}")
    status: Literal["ok", "insufficient", "not calibrated"] = "ok"
    tamed: WindowCalibration | None = None
    if calibration is not None:
        tamed = calibration.windows.get(days)
        status = "ok" if tamed else "not calibrated"
    if min(reference.rows, current.rows) < max(min_rows, 2):
        return WindowDrift(days, current.rows, reference.rows, "insufficient", level, ())
    inflation = np.array([tamed.columns[name] for name in bins.columns]) if tamed else None
    tests = column_tests(reference, current, inflation)
    paired = len(bins.pairs) > 1
    found = [
        _column(name, float(p) / (1 - PAIR_SHARE * paired), QUESTIONS[question], reference, current)
        for name, p, question in zip(bins.columns, tests.p_value, tests.question, strict=True)
    ]
    if paired:
        found += _pairs(reference, current, np.array(tamed.pairs) if tamed else None)
    found.sort(key=lambda one: one.p_value)
    return WindowDrift(days, current.rows, reference.rows, status, level, tuple(found))


def _column(name: str, p_value: float, question: Question, reference: Sketch, current: Sketch) -> ColumnDrift:
    kind: Literal["number", "category"] = "number" if name in reference.bins.numbers else "category"
    before, after = coarse(name, reference, current)
    shift, unseen = None, 0.0
    if kind == "number":
        (was, width), (now, _) = reference.moments(name), current.moments(name)
        if math.isfinite(was) and math.isfinite(now):
            shift = (now - was) / width if width > 0 else math.copysign(math.inf, now - was) if now != was else 0.0
    else:
        unseen = current.categories[name].unseen_rows / max(current.rows, 1)
    return ColumnDrift(
        name, kind, min(1.0, p_value), debiased_psi(before, after), debiased_variation(before, after), shift,
        reference.missing_share(name), current.missing_share(name), unseen,
        told_of(name, question, reference, current),
    )  # fmt: skip


def coarse(column: str, reference: Sketch, current: Sketch) -> tuple[np.ndarray, np.ndarray]:
    """Rows of both in about ten cells of equal share in the reference, and missing rows: where effects are measured.

    A category: see `coarse_names`.
    """
    if column in reference.bins.categories:
        cells = list(coarse_names(*name_rows(column, reference, current)))
        lost = reference.categories[column].missing, current.categories[column].missing
    else:
        one, other = reference.numbers[column], current.numbers[column]
        counts = np.array(one.counts)
        middle = (np.cumsum(counts) - counts / 2) / max(counts.sum(), 1)
        places = np.minimum((middle * COARSE_CELLS).astype(int), COARSE_CELLS - 1)
        cells = [np.bincount(places, rows, minlength=COARSE_CELLS) for rows in (one.counts, other.counts)]
        lost = one.missing, other.missing
    return np.append(cells[0], lost[0]), np.append(cells[1], lost[1])


def coarse_names(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of names, shape (names,), the last the sum of names not told apart, in the cells of a category's effect.

    The nine most frequent names of both sides together stand alone, as a choice by the sum favours no side. Of the
    others those that grew, and those that fell, more than chance could explain are a cell each: else a rare name that
    takes half of the rows would be lost among the rest. Then the other known names, and those new to the reference.
    Some names are new without any change: as many rows of the reference as were the only ones of their name (Good,
    Biometrika 40, 1953), so up to that share the new names are set against such rows.

    >>> rare = np.array([10] * 100 + [0, 0])
    >>> before, after = coarse_names(rare, np.array([5] * 100 + [500, 0]))
    >>> debiased_variation(before, after).__round__(2)
    0.5
    """
    before, after = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    m, n = before.sum(), after.sum()
    names = np.arange(len(before) - 1)
    first = names[np.argsort(-(before + after)[:-1], kind="stable")][: COARSE_CELLS - 1]
    rest = np.ones(len(before), dtype=bool)
    rest[first] = False
    told_apart = rest & (before + after > 0)
    told_apart[-1] = False
    chance = cell_p_values(after, before, n, m) * max(int(told_apart.sum()), 1)
    moved = told_apart & (chance < MOVED_LEVEL)
    rises = after * m > before * n
    left = rest & ~moved
    new = float(after[left & (before == 0)].sum())
    alone = min(float((left & (before == 1)).sum()), new * m / n if n else 0.0)
    lumps = [
        [rows[moved & rises].sum(), rows[moved & ~rises].sum(), rows[left].sum() - own, own]
        for rows, own in ((before, alone), (after, new))
    ]
    return np.append(before[first], lumps[0]), np.append(after[first], lumps[1])


def _pairs(reference: Sketch, current: Sketch, inflation: np.ndarray | None) -> list[ColumnDrift]:
    """The most unlikely pair of each column, once."""
    names = reference.bins.pairs
    p_values, before, after = pair_tests(reference, current, inflation)
    number = len(names) * (len(names) - 1) / 2
    weighed = p_values * number / len(reference.bins.columns) / PAIR_SHARE
    np.fill_diagonal(weighed, np.inf)
    chosen = {tuple(sorted((row, int(weighed[row].argmin())))) for row in range(len(names))}
    found = []
    for a, b in sorted(chosen):
        was, now = float(before[a, b]), float(after[a, b])
        psi = pair_psi(was, now)
        found.append(ColumnDrift(f"{names[a]} × {names[b]}", "pair", min(1.0, float(weighed[a, b])), psi, moved_by(psi),
                                 None, 0.0, 0.0, 0.0, told_of_pair(was, now)))  # fmt: skip
    return found
