"""Years of days without change, checked every day over windows of 1, 7 and 30 days; and days until a change is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from benchmarks.drift.worlds import Draw, normal, shifted
from pipeline.core.drift_bins import Bins, make_bins
from pipeline.core.drift_budget import levels
from pipeline.core.drift_columns import number_tests
from pipeline.core.drift_count import sketch
from pipeline.core.drift_pairs import PairMoments, pair_p_values
from pipeline.core.drift_test import PAIR_SHARE
from pipeline.core.sketch import Sketch

Array = np.ndarray
WINDOWS = (1, 7, 30)
COLUMNS = 20
ROWS_A_DAY = 1_000
DAYS = 365
MOST_DAYS = 60
NAMES = tuple(f"x{place}" for place in range(COLUMNS))
BATCH = 256


@dataclass(frozen=True)
class Days:
    """The counts of some days in a row."""

    counts: Array
    """Shape (days, columns, bins)."""
    products: Array
    """Shape (days, 4, pairs, pairs)."""

    @classmethod
    def of(cls, sketches: list[Sketch]) -> Days:
        """From one sketch a day."""
        counts = np.array([[one.numbers[name].counts for name in NAMES] for one in sketches])
        return cls(counts, np.array([one.products for one in sketches]))

    def windows(self, length: int, first: int) -> Days:
        """Sums over the last `length` days, from day `first` on."""
        found = []
        for one in (self.counts, self.products):
            sums = np.concatenate([np.zeros_like(one[:1]), np.cumsum(one, axis=0)])
            found.append(sums[first + 1 :] - sums[first + 1 - length : len(sums) - length])
        return Days(*found)


def draw_days(bins: Bins, rng: np.random.Generator, draws: Mapping[str, Draw], days: int) -> Days:
    """Days of ROWS_A_DAY rows each."""
    found = []
    for _ in range(days):
        columns = {name: draws.get(name, normal)(rng, ROWS_A_DAY) for name in NAMES}
        found.append(sketch(bins, pa.table(columns).to_batches(), 1))
    return Days.of(found)


def least_p_values(bins: Bins, reference: Days, windows: Days) -> Array:
    """The smallest p-value over columns and pairs of every window, as `compare` weighs them."""
    scores = [np.array(bins.numbers[name].scores) for name in NAMES]
    current = windows.counts.reshape(-1, windows.counts.shape[-1])
    before = np.tile(reference.counts[0], (len(windows.counts), 1))
    found = []
    for start in range(0, len(current), BATCH):
        part = slice(start, start + BATCH)
        none = np.zeros(len(current[part]))
        found.append(number_tests(before[part], current[part], none, none).p_value)
    columns = np.concatenate(found).reshape(len(windows.counts), COLUMNS).min(axis=1) / (1 - PAIR_SHARE)
    one, other = (
        PairMoments.of(days.products, list(days.counts.transpose(1, 0, 2)), scores) for days in (reference, windows)
    )
    p_values = pair_p_values(one, other)[0]
    upper = np.triu_indices(COLUMNS, 1)
    pairs = p_values[:, upper[0], upper[1]].min(axis=1) * len(upper[0]) / COLUMNS / PAIR_SHARE
    return np.asarray(np.minimum(columns, pairs))


def quiet_year(reference_rows: int, seed: int) -> tuple[float, ...]:
    """For a year without change the smallest p-value of each length of window; the reference is common to all days."""
    rng = np.random.default_rng([reference_rows, 365, seed])
    table = pa.table({name: normal(rng, reference_rows) for name in NAMES})
    bins = make_bins(table, dict.fromkeys(NAMES, "number"))
    reference = Days.of([sketch(bins, table.to_batches(), 1)])
    days = draw_days(bins, rng, {}, DAYS + max(WINDOWS) - 1)
    return tuple(
        float(least_p_values(bins, reference, days.windows(length, max(WINDOWS) - 1)).min()) for length in WINDOWS
    )


def quiet_years(reference_rows: int, years: int, processes: int) -> Array:
    """Shape (years, windows)."""
    with ProcessPoolExecutor(processes) as pool:
        return np.array(list(pool.map(partial(quiet_year, reference_rows), range(years), chunksize=2)))


def alarmed_share(smallest: Array, budget: float) -> int:
    """Years in which anything would have been called changed."""
    allowed = levels(budget, COLUMNS, WINDOWS)
    return int((smallest <= [allowed[length] for length in WINDOWS]).any(axis=1).sum())


def after_change(draw: Draw, reference_rows: int, seed: int) -> Array:
    """Smallest p-values of the days after one column has changed, shape (windows, MOST_DAYS)."""
    rng = np.random.default_rng([reference_rows, 7, seed])
    table = pa.table({name: normal(rng, reference_rows) for name in NAMES})
    bins = make_bins(table, dict.fromkeys(NAMES, "number"))
    reference = Days.of([sketch(bins, table.to_batches(), 1)])
    quiet, changed = (draw_days(bins, rng, {"x3": one}, days) for one, days in ((normal, 30), (draw, MOST_DAYS)))
    days = Days(*(np.concatenate([getattr(one, f) for one in (quiet, changed)]) for f in ("counts", "products")))
    return np.array([least_p_values(bins, reference, days.windows(length, len(quiet.counts))) for length in WINDOWS])


SLOW: Mapping[str, Draw] = {
    "mean .05 sigma": shifted(normal, 0.05),
    "mean .1 sigma": shifted(normal, 0.1),
    "scale 1.1": lambda rng, rows: 1.1 * rng.normal(size=rows),
}


def _after_change(name: str, reference_rows: int, seed: int) -> Array:
    return after_change(SLOW[name], reference_rows, seed)


def median_days(name: str, reference_rows: int, budgets: Sequence[float], runs: int, processes: int) -> list[float]:
    """For each budget: half of the changes are called changed by this day; infinity where fewer ever are."""
    with ProcessPoolExecutor(processes) as pool:
        found = np.array(list(pool.map(partial(_after_change, name, reference_rows), range(runs))))
    medians = []
    for budget in budgets:
        allowed = levels(budget, COLUMNS, WINDOWS)
        limits = np.array([[allowed[length]] for length in WINDOWS])
        seen = np.any(found <= limits, axis=1)
        first = np.where(seen.any(axis=1), seen.argmax(axis=1) + 1, np.inf)
        medians.append(float(np.median(first)))
    return medians
