"""How often a window without change is called changed, and how often a change is seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import pyarrow as pa
from scipy import stats

from benchmarks.drift.worlds import CHANGES, KINDS, Change, normal, shifted, table
from pipeline.core.drift_bins import Kind, make_bins
from pipeline.core.drift_budget import window_level
from pipeline.core.drift_count import sketch
from pipeline.core.drift_test import PAIR_SHARE, compare

COLUMNS, PAIRS = 25, 190
SHARE = 0.01
"""Windows without change that may be called changed."""
REFERENCE = 11_000
"""The size at which KS alone, at .05 a column, sees a mean shift of .05 sigma in .88 of the windows of 10,000 rows, as
in the figures that these are held against."""


def false_alarm(reference_rows: int, rows: int, seed: int) -> bool:
    """Whether anything of a table of 25 columns is called changed, where nothing is."""
    rng = np.random.default_rng([rows, reference_rows, seed])
    reference = table(rng, reference_rows)
    bins = make_bins(reference, KINDS)
    first, second = (sketch(bins, one.to_batches(), 1) for one in (reference, table(rng, rows)))
    return bool(compare(first, second, days=1, level=window_level(SHARE, COLUMNS)).changed)


def seen(change: Change, rows: int, seed: int, *, null: bool = False) -> tuple[bool, bool]:
    """Whether we see the change, and whether KS does (chi-square for names); both corrected to SHARE over 25 columns.

    The changed column is drawn and tested alone, with the level and the part for pairs that it has among 25.
    """
    rng = np.random.default_rng([rows, seed, *map(ord, change.name)])
    reference = change.before(rng, REFERENCE)
    current = (change.before if null else change.after)(rng, rows)
    kinds: dict[str, Kind] = {
        name: "category" if pa.types.is_dictionary(reference[name].type) else "number"
        for name in reference.column_names
    }
    bins = make_bins(reference, kinds)
    first, second = (sketch(bins, one.to_batches(), 1) for one in (reference, current))
    level = window_level(SHARE, COLUMNS)
    found = compare(first, second, days=1, level=level, min_rows=1).columns
    ours = False
    for one in found:
        alone = len(bins.pairs) < 2  # compare leaves a part for pairs only where there are any
        part = PAIRS / COLUMNS if one.kind == "pair" else 1.0
        held = one.p_value * (2.0 if one.kind == "pair" else 1.0) * part
        ours |= held <= (level * (1 - PAIR_SHARE) if alone else level)
    return ours, min(_peer(reference[name], current[name]) for name in reference.column_names) <= level


def _peer(reference: pa.ChunkedArray, current: pa.ChunkedArray) -> float:
    if pa.types.is_dictionary(reference.type):
        counts = [dict(zip(*(c.to_pylist() for c in one.value_counts().flatten()), strict=True)) for one in
                  (reference.combine_chunks(), current.combine_chunks())]  # fmt: skip
        names = sorted({*counts[0], *counts[1]})
        cells = np.array([[one.get(name, 0) for name in names] for one in counts])
        return float(stats.chi2_contingency(cells, correction=False).pvalue)
    first, second = (one.to_numpy() for one in (reference, current))
    first, second = first[~np.isnan(first)], second[~np.isnan(second)]
    return float(stats.ks_2samp(first, second, method="asymp").pvalue)


def interval(hits: int, trials: int) -> tuple[float, float]:
    """Exact 95 % interval (Clopper & Pearson, Biometrika 26, 1934)."""
    found = stats.binomtest(hits, trials).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def false_alarms(sizes: Sequence[tuple[int, int]], windows: int, processes: int) -> Iterator[tuple[int, int, int]]:
    """For each size of reference and window: how many of the windows were called changed."""
    with ProcessPoolExecutor(processes) as pool:
        for reference_rows, rows in sizes:
            work = partial(false_alarm, reference_rows, rows)
            yield reference_rows, rows, sum(pool.map(work, range(windows), chunksize=10))


def _seen(place: int, rows: int, seed: int) -> tuple[bool, bool]:
    return seen(CHANGES[place], rows, seed)


def power(rows: int, windows: int, processes: int) -> Iterator[tuple[Change, float, float]]:
    """For each change: the share of the windows in which we and the peer see it."""
    with ProcessPoolExecutor(processes) as pool:
        for place, change in enumerate(CHANGES):
            found = np.array(list(pool.map(partial(_seen, place, rows), range(windows), chunksize=20)))
            yield change, float(found[:, 0].mean()), float(found[:, 1].mean())


def half_sigma(seed: int) -> bool:
    """Whether a mean shift of half a sigma in 1 of 20 columns is seen at 500 rows."""
    rng = np.random.default_rng([500, seed])
    names = [f"x{place}" for place in range(20)]
    reference = pa.table({name: normal(rng, REFERENCE) for name in names})
    current = pa.table({name: shifted(normal, 0.5 * (name == "x7"))(rng, 500) for name in names})
    bins = make_bins(reference, dict.fromkeys(names, "number"))
    first, second = (sketch(bins, one.to_batches(), 1) for one in (reference, current))
    found = compare(first, second, days=1, level=window_level(SHARE, len(names))).changed
    return any(one.column == "x7" for one in found)
