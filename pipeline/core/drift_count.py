"""Rows into sketches: one pass, a few chunks in memory at a time, two threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from threadpoolctl import ThreadpoolController

from pipeline.core.drift_bins import Bins, name_counts, read_numbers
from pipeline.core.drift_cells import Cutter, Room, Tally
from pipeline.core.sketch import CategoryCounts, NumberCounts, Sketch, most_frequent

CHUNK_ROWS = 32_768
"""Rows counted at once: few enough to stay in the processor's caches, and so many that two threads seldom meet at the
interpreter's lock."""
PRODUCT_ROWS = 512
"""Rows whose products are summed at once: whole numbers up to 13^4 * 512 are exact in float32."""


def sketch(bins: Bins, batches: Iterable[pa.RecordBatch], threads: int = 2) -> Sketch:
    """Count rows that come in batches; at most `threads` + 2 of them are in memory, if their source keeps none.

    A Parquet file does with `ParquetFile(path, pre_buffer=False).iter_batches()`; buffered, it keeps all that was read.

    Columns that are not in `bins` are ignored. Raises KeyError for a column of `bins` that is not there.

    >>> from pipeline.core.drift_bins import make_bins
    >>> table = pa.table({"age": [20.0, 30.0, 40.0, None]})
    >>> sketch(make_bins(table, {"age": "number"}), table.to_batches()).numbers["age"].counts
    (1, 1, 1)
    """
    cutters = {name: Cutter.of(one) for name, one in bins.numbers.items()}
    work = (partial(_batch, bins, cutters, batch) for batch in batches if batch.num_rows)
    return Sketch.sum(bins, _in_threads(work, threads))


def sketch_frame(bins: Bins, frame: pd.DataFrame, threads: int = 2) -> Sketch:
    """Count the rows of a frame in memory, without a copy of its numbers."""
    cutters = {name: Cutter.of(one) for name, one in bins.numbers.items()}
    columns = {name: _frame_numbers(frame[name]) for name in bins.numbers}
    half = -(-len(frame) // max(1, threads * 4)) or 1
    half += -half % CHUNK_ROWS

    def rows(start: int) -> Sketch:
        part = {name: (values[start : start + half], 0) for name, (values, _) in columns.items()}
        return _numbers(bins, cutters, part, len(frame.index[start : start + half]))

    def names(column: str) -> Sketch:
        return _categories(bins, {column: _frame_names(frame[column])})

    numeric = [partial(rows, start) for start in range(0, len(frame), half)]
    named = [partial(names, column) for column in bins.categories]
    # In turns: names that are Python's objects are read by one thread at a time.
    work = [one for turn in zip_longest(named, numeric) for one in turn if one is not None]
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


def _batch(bins: Bins, cutters: Mapping[str, Cutter], batch: pa.RecordBatch) -> Sketch:
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
    bins: Bins, cutters: Mapping[str, Cutter], columns: Mapping[str, tuple[np.ndarray, int]], rows: int
) -> Sketch:
    """A sketch of the numeric columns alone."""
    tallies = {name: Tally(cutters[name]) for name in bins.numbers}
    room = Room(min(CHUNK_ROWS, rows))
    products = np.zeros((4, len(bins.pairs), len(bins.pairs)), dtype=np.int64)
    places = {name: place for place, name in enumerate(bins.pairs)}
    scores = np.zeros((len(places), min(CHUNK_ROWS, rows)), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, rows, CHUNK_ROWS):
            stop = min(start + CHUNK_ROWS, rows)
            gaps = False
            for name, (values, _) in columns.items():
                chunk = np.ascontiguousarray(values[start:stop], dtype=np.float64)
                found = tallies[name].add(chunk, room)
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
