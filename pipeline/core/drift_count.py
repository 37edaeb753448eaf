"""Rows into sketches: one pass, a few chunks in memory at a time, two threads.

A value finds its bin through a table of even cells between the outer edges and a compare or two with the edges
themselves, several times faster than a binary search and exactly as right: the cell is a monotone function of the
value, in floating point too, so an edge of another cell is surely on its own side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from threadpoolctl import ThreadpoolController

from pipeline.core.drift_bins import Bins, NumberBins, name_counts, read_numbers
from pipeline.core.sketch import CategoryCounts, NumberCounts, Sketch, most_frequent

CELLS = 4096
CHUNK_ROWS = 16_384
"""Rows counted at once: the arrays in use stay in the processor's second cache."""
PRODUCT_ROWS = 512
"""Rows whose products are summed at once: whole numbers up to 13^4 * 512 are exact in float32."""
MOST_SCALES = 1e6
"""One value of 1e300 would be the only one that the moments tell of."""


def sketch(bins: Bins, batches: Iterable[pa.RecordBatch], threads: int = 2) -> Sketch:
    """Count rows that come in batches; at most `threads` + 2 of them are in memory, if their source keeps none.

    A Parquet file does with `ParquetFile(path, pre_buffer=False).iter_batches()`; buffered, it keeps all that was read.

    Columns that are not in `bins` are ignored. Raises KeyError for a column of `bins` that is not there.

    >>> from pipeline.core.drift_bins import make_bins
    >>> table = pa.table({"age": [20.0, 30.0, 40.0, None]})
    >>> sketch(make_bins(table, {"age": "number"}), table.to_batches()).numbers["age"].counts
    (1, 1, 1)
    """
    cutters = {name: _Cutter.of(one) for name, one in bins.numbers.items()}
    work = (partial(_batch, bins, cutters, batch) for batch in batches if batch.num_rows)
    return Sketch.sum(bins, _in_threads(work, threads))


def sketch_frame(bins: Bins, frame: pd.DataFrame, threads: int = 2) -> Sketch:
    """Count the rows of a frame in memory, without a copy of its numbers."""
    cutters = {name: _Cutter.of(one) for name, one in bins.numbers.items()}
    columns = {name: _frame_numbers(frame[name]) for name in bins.numbers}
    half = -(-len(frame) // max(1, threads * 4)) or 1
    half += -half % CHUNK_ROWS

    def rows(start: int) -> Sketch:
        part = {name: (values[start : start + half], 0) for name, (values, _) in columns.items()}
        return _numbers(bins, cutters, part, len(frame.index[start : start + half]))

    def names(column: str) -> Sketch:
        return _categories(bins, {column: _frame_names(frame[column])})

    work: list[Callable[[], Sketch]] = [partial(names, column) for column in bins.categories]
    work += [partial(rows, start) for start in range(0, len(frame), half)]
    found = Sketch.sum(bins, _in_threads(work, threads))
    numbers = dict(found.numbers)
    for name, (_, unread) in columns.items():
        if unread:
            one = numbers[name]
            numbers[name] = NumberCounts(one.counts, one.missing, unread, *list(vars(one).values())[3:])
    return Sketch(bins, len(frame), numbers, found.categories, found.products)


def _in_threads(work: Iterable[Callable[[], Sketch]], threads: int) -> Iterator[Sketch]:
    """Results as they were given, a few under way at a time.

    The linear algebra is held to one thread: its own pool would fight with this one for the processors.
    """
    with _libraries().limit(limits=1, user_api="blas"):
        if threads < 2:
            yield from (one() for one in work)
            return
        yield from _pooled(work, threads)


@cache
def _libraries() -> ThreadpoolController:
    """Looked for once: it takes longer than to count a day of rows."""
    return ThreadpoolController()


def _pooled(work: Iterable[Callable[[], Sketch]], threads: int) -> Iterator[Sketch]:
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Sketch]] = deque()
        for one in work:
            waiting.append(pool.submit(one))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        yield from (one.result() for one in waiting)


def _batch(bins: Bins, cutters: Mapping[str, _Cutter], batch: pa.RecordBatch) -> Sketch:
    numbers = _numbers(bins, cutters, {n: read_numbers(batch.column(n)) for n in bins.numbers}, batch.num_rows)
    categories = _categories(bins, {name: batch.column(name) for name in bins.categories})
    return Sketch(bins, batch.num_rows, numbers.numbers, categories.categories, numbers.products)


def _frame_numbers(values: pd.Series) -> tuple[np.ndarray, int]:
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "fiub":
        return values.to_numpy(), 0
    read = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return read, int(np.isnan(read).sum() - values.isna().sum())


def _frame_names(values: pd.Series) -> Any:
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # a column of mixed types
        return pa.array(values.map(str, na_action="ignore"), from_pandas=True)


def _categories(bins: Bins, columns: Mapping[str, Any]) -> Sketch:
    """A sketch of these categories alone: other columns stay at zero."""
    empty = Sketch.empty(bins)
    found = dict(empty.categories)
    for column, values in columns.items():
        names, missing = name_counts(values)
        cut = bins.categories[column]
        counts, unseen = [0] * len(cut.known), {}
        for name, rows in names.items():
            place = cut.place(name)
            if place is None:
                unseen[name] = rows
            else:
                counts[place] += rows
        found[column] = CategoryCounts(tuple(counts), missing, *most_frequent(unseen))
    return Sketch(bins, 0, empty.numbers, found, empty.products)


def _numbers(
    bins: Bins, cutters: Mapping[str, _Cutter], columns: Mapping[str, tuple[np.ndarray, int]], rows: int
) -> Sketch:
    """A sketch of the numeric columns alone."""
    tallies = {name: _Tally(len(one.edges) + 2) for name, one in bins.numbers.items()}
    products = np.zeros((4, len(bins.pairs), len(bins.pairs)), dtype=np.int64)
    places = {name: place for place, name in enumerate(bins.pairs)}
    scores = np.zeros((len(places), CHUNK_ROWS), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, rows, CHUNK_ROWS):
            stop = min(start + CHUNK_ROWS, rows)
            gaps = False
            for name, (values, _) in columns.items():
                chunk = np.ascontiguousarray(values[start:stop], dtype=np.float64)
                found = cutters[name].count(chunk, tallies[name])
                if name in places:
                    np.take(cutters[name].scores, found, out=scores[places[name], : stop - start], mode="clip")
                    gaps |= tallies[name].last_missing > 0
            if places:
                products += _products(scores[:, : stop - start], gaps)
    empty = Sketch.empty(bins)
    numbers = {name: tally.counted(columns[name][1]) for name, tally in tallies.items()}
    return Sketch(bins, rows, numbers, empty.categories, products)


def _products(scores: np.ndarray, gaps: bool) -> np.ndarray:
    """Sums over rows of scores of shape (pairs, rows), exact. A missing score is NaN and adds nothing."""
    pairs, rows = scores.shape
    found = np.zeros((4, pairs, pairs), dtype=np.float64)
    found[0] = rows
    if gaps:
        there = (~np.isnan(scores)).astype(np.float32)
        found[0] = there @ there.T
        scores = np.nan_to_num(scores, nan=0.0)
    whole = rows - rows % PRODUCT_ROWS
    for part in (scores[:, :whole].reshape(pairs, -1, PRODUCT_ROWS), scores[:, None, whole:]):
        part = part.transpose(1, 0, 2)
        squares = part * part
        turned = part.transpose(0, 2, 1)
        found[1] += (part @ turned).sum(axis=0, dtype=np.float64)
        found[2] += (squares @ squares.transpose(0, 2, 1)).sum(axis=0, dtype=np.float64)
        found[3] += ((squares * part) @ turned).sum(axis=0, dtype=np.float64)
    return found.astype(np.int64)


class _Tally:
    """What the chunks of a column add up to."""

    def __init__(self, cells: int) -> None:
        self.counts = np.zeros(cells, dtype=np.int64)
        self.infinite = self.below = self.above = self.last_missing = 0
        self.total = self.squares = 0.0
        self.minimum, self.maximum = np.inf, -np.inf

    def counted(self, not_a_number: int) -> NumberCounts:
        return NumberCounts(
            tuple(self.counts[:-1].tolist()), int(self.counts[-1]), not_a_number, self.infinite, self.below,
            self.above, self.total, self.squares, float(self.minimum), float(self.maximum),
        )  # fmt: skip


@dataclass(frozen=True)
class _Cutter:
    """The tables by which the bins of a column are found."""

    bins: NumberBins
    start: float
    cells: float
    """Cells a unit."""
    first: np.ndarray
    """Edges below each cell."""
    edges: np.ndarray
    """The edges, and NaN, which nothing is above."""
    steps: int
    """Most edges inside one cell."""
    scores: np.ndarray

    @classmethod
    def of(cls, bins: NumberBins) -> _Cutter:
        edges = np.array(bins.edges)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            width = edges[-1] - edges[0]
            cells = (CELLS - 1) / width if width > 0 else 1.0
            if not np.isfinite(cells):
                cells = 0.0 if not np.isfinite(width) else 1.0
            own = cls._cell(edges, edges[0], cells)
        inside = np.bincount(own, minlength=CELLS)
        first = np.concatenate([[0], np.cumsum(inside)[:-1]])
        scores = np.array([*bins.scores, np.nan], dtype=np.float32)
        return cls(bins, float(edges[0]), cells, first, np.append(edges, np.nan), int(inside.max()), scores)

    @staticmethod
    def _cell(values: np.ndarray, start: float, cells: float) -> np.ndarray:
        place = values - start
        place *= cells
        np.fmin(place, CELLS - 1, out=place)
        np.fmax(place, 0, out=place)
        return place.astype(np.intp)

    def count(self, values: np.ndarray, tally: _Tally) -> np.ndarray:
        """Add a chunk to the tally; the bin of every value, the last one for missing."""
        if self.steps > 8:  # edges crowded into a few cells: a binary search is faster
            found = np.searchsorted(self.edges[:-1], values, side="right")
        else:
            found = self.first.take(self._cell(values, self.start, self.cells))
            for _ in range(self.steps):
                found += values >= self.edges.take(found)
        low, high = float(values.min()), float(values.max())
        tally.last_missing = 0
        known = values
        if low != low:  # NaN is in there, and means missing
            missing = np.isnan(values)
            found[missing] = len(self.edges)
            known = values[~missing]
            tally.last_missing = len(values) - len(known)
            low, high = (float(known.min()), float(known.max())) if len(known) else (np.inf, -np.inf)
        tally.counts += np.bincount(found, minlength=len(tally.counts))
        self._moments(known, low, high, tally)
        return found

    def _moments(self, known: np.ndarray, low: float, high: float, tally: _Tally) -> None:
        if low < self.bins.low:
            tally.below += int((known < self.bins.low).sum())
        if high > self.bins.high:
            tally.above += int((known > self.bins.high).sum())
        if not (np.isfinite(low) and np.isfinite(high)):
            finite = known[np.isfinite(known)]
            tally.infinite += len(known) - len(finite)
            known = finite
            if len(known) == 0:
                return
            low, high = float(known.min()), float(known.max())
        tally.minimum, tally.maximum = min(tally.minimum, low), max(tally.maximum, high)
        scaled = known - self.bins.centre
        scaled /= self.bins.scale
        if max(self.bins.centre - low, high - self.bins.centre) > MOST_SCALES * self.bins.scale:
            np.clip(scaled, -MOST_SCALES, MOST_SCALES, out=scaled)
        tally.total += float(scaled.sum())
        tally.squares += float(scaled @ scaled)
