"""What the reference's own days say of chance: days are neither independent nor alike, and the tests must know.

Contiguous blocks of the reference, as long as a window, are tested against the rest of it, and against what came
before them. Where rows were independent, squared test statistics have mean one; what is above that is the inflation
by which later tests are tamed. With too few blocks there is none: the window is not calibrated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pipeline.core.drift_columns import GROUPS
from pipeline.core.drift_questions import question_p_values
from pipeline.core.drift_tails import normal_of
from pipeline.core.sketch import Sketch

MIN_BLOCKS = 8
DOUBT = 0.05
"""An inflation this likely by chance alone is none."""
CAUTION = 0.10
"""The inflation that is used is the upper end of an interval that misses the true one with this chance."""


@dataclass(frozen=True)
class WindowCalibration:
    """Variances of the test statistics beyond those of independent rows, for one length of window; 1 is none."""

    blocks: int
    columns: Mapping[str, tuple[float, ...]]
    """For each column: location, scale, cells, missing."""
    pairs: tuple[tuple[float, ...], ...]
    """In the order of `Bins.pairs`."""


@dataclass(frozen=True)
class Calibration:
    """By length of window in days; a length that is not there is not calibrated."""

    windows: Mapping[int, WindowCalibration]

    def to_json(self) -> str:
        """As text."""
        return json.dumps(
            {
                str(days): {"blocks": one.blocks, "columns": one.columns, "pairs": one.pairs}
                for days, one in self.windows.items()
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """The inverse of `to_json`."""
        return cls(
            {
                int(days): WindowCalibration(
                    one["blocks"], {name: tuple(found) for name, found in one["columns"].items()},
                    tuple(tuple(row) for row in one["pairs"]),
                )
                for days, one in json.loads(text).items()
            }
        )  # fmt: skip


def calibrate(
    reference_days: Sequence[Sketch], windows: Sequence[int] = (1, 7, 30), min_blocks: int = MIN_BLOCKS
) -> Calibration:
    """Measure how much the blocks of a reference vary. `reference_days`: one sketch a day, in order, empty ones too.

    A window that the reference holds fewer than `min_blocks` times is left out. Raises ValueError without days.
    """
    if not reference_days:
        raise ValueError("no days to calibrate on")
    found = {}
    for days in windows:
        blocks = len(reference_days) // days
        if blocks >= min_blocks:
            found[days] = _of_window(reference_days[len(reference_days) - blocks * days :], days)
    return Calibration(found)


def _of_window(days: Sequence[Sketch], length: int) -> WindowCalibration:
    bins = days[0].bins
    blocks = [Sketch.sum(bins, days[start : start + length]) for start in range(0, len(days), length)]
    blocks = [block for block in blocks if block.rows]
    whole, before = Sketch.sum(bins, blocks), Sketch.empty(bins)
    aside, onward = [], []
    for block in blocks:
        aside.append(_squares(whole - block, block))
        if before.rows > whole.rows / 2:
            onward.append(_squares(before, block))
        before += block
    columns, pairs = (
        np.maximum(_inflation([one[part] for one in aside]), _inflation([one[part] for one in onward]))
        for part in (0, 1)
    )
    return WindowCalibration(
        len(blocks),
        {name: tuple(row) for name, row in zip(bins.columns, columns.round(4).tolist(), strict=True)},
        tuple(tuple(row) for row in pairs.round(4).tolist()),
    )


def _squares(reference: Sketch, block: Sketch) -> tuple[np.ndarray, np.ndarray]:
    """Squared normal deviates of every group of questions, shape (columns, 4), and of every pair."""
    each, pairs = question_p_values(reference, block)
    squares = np.where(each < 1, normal_of(each) ** 2, np.nan)
    groups = np.array(GROUPS)
    grouped = np.stack(
        [_mean(squares[:, groups == place]) for place in range(groups.max() + 1)], axis=1
    )  # fmt: skip
    return grouped, normal_of(pairs) ** 2


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the questions that could be asked; 0 for none."""
    asked = ~np.isnan(values)
    return np.asarray(np.where(asked, values, 0).sum(axis=1) / np.maximum(asked.sum(axis=1), 1))


def _inflation(squares: Sequence[np.ndarray]) -> np.ndarray:
    blocks = len(squares)
    if blocks == 0:
        return np.ones(1)
    mean = np.mean(squares, axis=0)
    by_chance = stats.chi2.isf(DOUBT, blocks) / blocks
    upper = mean * blocks / stats.chi2.ppf(CAUTION, blocks)
    return np.asarray(np.where(mean > by_chance, np.maximum(upper, 1.0), 1.0))
