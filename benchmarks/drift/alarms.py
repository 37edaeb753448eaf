"""How often a window without change is called changed, and how often a change is seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from scipy import stats

from benchmarks.drift.worlds import CHANGES, KINDS, Change, normal, shifted, table
from pipeline.core.drift import jensen_shannon
from pipeline.core.drift_bins import Kind, make_bins
from pipeline.core.drift_budget import window_level
from pipeline.core.drift_count import sketch
from pipeline.core.drift_test import PAIR_SHARE, compare

COLUMNS, PAIRS = 25, 190
SHARE = 0.01
"""Windows without change that may be called changed."""
USUAL = 0.1
REFERENCE = 12_000
"""The size at which KS alone sees a mean shift of .05 sigma in .89 of the windows of 10,000 rows at .05 a column, and
in .53 corrected over 25 columns: nearest to the .88 and .55 of the figures that these are held against. Those do not
name their reference, so this was fitted to them, after 11,000 rows had given .465 for that shift where .47 was hoped
for: a difference of that size says nothing."""


def false_alarm(reference_rows: int, rows: int, seed: int) -> bool:
    """Whether anything of a table of 25 columns is called changed, where nothing is."""
    rng = np.random.default_rng([rows, reference_rows, seed])
    reference = table(rng, reference_rows)
    bins = make_bins(reference, KINDS)
    first, second = (sketch(bins, one.to_batches(), 1) for one in (reference, table(rng, rows)))
    return bool(compare(first, second, days=1, level=window_level(SHARE, COLUMNS)).changed)


@dataclass(frozen=True)
class Seen:
    """Who sees a change in a window."""

    ours: bool
    peer: bool
    """KS for numbers, chi-square for names, at the same share of false alarms: SHARE over 25 columns."""
    usual: bool
    """The rule of the best-known library above 1,000 rows: a distance above .1, whatever chance does."""


def seen(change: Change, rows: int, seed: int) -> Seen:
    """Draw a reference and a window with the change, and ask.

    The changed column is drawn and tested alone, with the level and the part for pairs that it has among 25.
    """
    rng = np.random.default_rng([rows, seed, *map(ord, change.name)])
    reference, current = change.before(rng, REFERENCE), change.after(rng, rows)
    kinds: dict[str, Kind] = {
        name: "category" if pa.types.is_dictionary(reference[name].type) else "number"
        for name in reference.column_names
    }
    bins = make_bins(reference, kinds)
    first, second = (sketch(bins, one.to_batches(), 1) for one in (reference, current))
    level = window_level(SHARE, COLUMNS)
    found = compare(first, second, days=1, level=level, min_rows=1).columns
    if len(kinds) == 1:  # compare leaves a part for pairs only where there are any
        ours = found[0].p_value <= level * (1 - PAIR_SHARE)
    else:  # two columns have one pair, 25 have 190
        one = next(one for one in found if one.kind == "pair")
        ours = one.p_value * (PAIRS / COLUMNS) / (1 / len(kinds)) <= level
    peers = [_peers(reference[name], current[name]) for name in kinds]
    return Seen(ours, min(p for p, _ in peers) <= level, max(far for _, far in peers) > USUAL)


def _peers(reference: pa.ChunkedArray, current: pa.ChunkedArray) -> tuple[float, float]:
    """p-value, and the distance that evidently takes above 1,000 rows: normed Wasserstein, or Jensen-Shannon."""
    if pa.types.is_dictionary(reference.type):
        counts = [
            dict(zip(*(part.to_pylist() for part in one.combine_chunks().value_counts().flatten()), strict=True))
            for one in (reference, current)
        ]
        names = sorted({*counts[0], *counts[1]})
        cells = np.array([[one.get(name, 0) for name in names] for one in counts])
        return float(stats.chi2_contingency(cells, correction=False).pvalue), jensen_shannon(*cells)
    first, second = (one.to_numpy() for one in (reference, current))
    first, second = first[~np.isnan(first)], second[~np.isnan(second)]
    far = stats.wasserstein_distance(first, second) / first.std()
    return float(stats.ks_2samp(first, second, method="asymp").pvalue), float(far)


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


def _seen(place: int, rows: int, seed: int) -> Seen:
    return seen(CHANGES[place], rows, seed)


def power(rows: int, windows: int, processes: int) -> Iterator[tuple[Change, float, float, float]]:
    """For each change: the share of the windows in which we, the peer and the usual rule see it."""
    with ProcessPoolExecutor(processes) as pool:
        for place, change in enumerate(CHANGES):
            found = list(pool.map(partial(_seen, place, rows), range(windows), chunksize=20))
            ours, peer, usual = (sum(getattr(one, who) for one in found) for who in ("ours", "peer", "usual"))
            yield change, ours / windows, peer / windows, usual / windows


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
