"""Bins: where a reference cuts its columns, so that every later window is counted in the same cells.

A number is cut at the reference's quantiles, finer in the tails; a value that holds much of the mass has a bin of
its own; a category is counted by name. Two sketches can be compared or added only when their bins are the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal
from zlib import crc32

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import ndtri

from pipeline.core.digest import digest_of

Kind = Literal["number", "category"]

MOST_BINS = 64
MOST_NAMES = 1_000
"""Categories counted by name. A column with more is counted in buckets of a hash: to keep only the names that are
frequent in the reference would make every later window look different, as the reference's luck is chosen with them."""
BUCKETS = 256
MOST_IN_PAIRS = 32
"""Numeric columns that enter pair products: 496 pairs, the first ones of the schema."""
TAILS = (1 / 1000, 1 / 250)
"""Cuts beside the even ones, at both ends: outliers are few, and land here."""
SCORE_UNIT = 0.25
"""Normal scores are kept as whole numbers of this many standard deviations, so that sums of their products are exact
whatever the order of the rows; the rounding costs half a percent of the variance."""


@dataclass(frozen=True)
class NumberBins:
    """How a numeric column is cut: bin i holds `edges[i - 1] <= x < edges[i]`, the outer ones reach to infinity."""

    edges: tuple[float, ...]
    """Interior edges, ascending, no two alike."""
    scores: tuple[int, ...]
    """Mean normal score of each bin in the reference, in units of SCORE_UNIT."""
    low: float
    high: float
    """Smallest and largest finite value of the reference."""
    centre: float
    scale: float
    """Mean and standard deviation of the reference's finite values (scale 1 for a constant): the unit of moments."""


@dataclass(frozen=True)
class CategoryBins:
    """How a category is counted: by the names of the reference, most frequent first; or in buckets of a hash."""

    known: tuple[str, ...]
    hashed: bool = False
    """The reference has more than MOST_NAMES names, so nothing can be called unseen."""

    @cached_property
    def places(self) -> dict[str, int]:
        """Place of each name in the counts."""
        return {name: place for place, name in enumerate(self.known)}

    def place(self, name: str) -> int | None:
        """Where a value is counted; None for a name that the reference did not have.

        >>> CategoryBins(("month", "year")).place("year")
        1
        """
        return crc32(name.encode()) % BUCKETS if self.hashed else self.places.get(name)


@dataclass(frozen=True)
class Bins:
    """The cells of every column, and which numeric columns enter pair products."""

    numbers: Mapping[str, NumberBins]
    categories: Mapping[str, CategoryBins]
    pairs: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """Equal bins, equal digests."""
        return digest_of(json.loads(self.to_json()))

    @property
    def columns(self) -> tuple[str, ...]:
        """Numbers, then categories."""
        return (*self.numbers, *self.categories)

    def to_json(self) -> str:
        """As text."""
        return json.dumps(
            {
                "numbers": {name: asdict(one) for name, one in self.numbers.items()},
                "categories": {n: {"known": one.known, "hashed": one.hashed} for n, one in self.categories.items()},
                "pairs": self.pairs,
            },
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> Bins:
        """The inverse of `to_json`."""
        content = json.loads(text)
        return cls(
            {
                name: NumberBins(**{**one, "edges": tuple(one["edges"]), "scores": tuple(one["scores"])})
                for name, one in content["numbers"].items()
            },
            {name: CategoryBins(tuple(o["known"]), o["hashed"]) for name, o in content["categories"].items()},
            tuple(content["pairs"]),
        )


def make_bins(reference: pa.Table, kinds: Mapping[str, Kind], bins: int = MOST_BINS) -> Bins:
    """Cut the columns of a reference. A column may be constant, empty or all missing: it has cells all the same.

    `bins`: the most bins of a number, at least 8. Raises KeyError for a column that is not there.

    >>> table = pa.table({"age": [20.0, 30.0, 40.0, None], "plan": ["a", "b", "a", None]})
    >>> made = make_bins(table, {"age": "number", "plan": "category"})
    >>> made.numbers["age"].edges, made.categories["plan"].known
    ((30.0, 40.0), ('a', 'b'))
    """
    numbers = {n: _cut(read_numbers(reference[n])[0], bins) for n, kind in kinds.items() if kind == "number"}
    categories = {name: _names(reference[name]) for name, kind in kinds.items() if kind == "category"}
    varying = [name for name, one in numbers.items() if one.low < one.high]
    return Bins(numbers, categories, tuple(varying[:MOST_IN_PAIRS]))


def read_numbers(values: Any) -> tuple[np.ndarray, int]:
    """An Arrow column as float64 with NaN for missing, and how many values were no number (missing too)."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        read = pd.to_numeric(values.to_pandas(), errors="coerce").to_numpy(dtype=np.float64)
        return read, int(np.isnan(read).sum()) - int(values.null_count)
    if pa.types.is_null(values.type):
        return np.full(len(values), np.nan), 0
    if not pa.types.is_float64(values.type):
        if not (pa.types.is_boolean(values.type) or pa.types.is_integer(values.type)):
            values = values.cast(pa.float64(), safe=False)
        elif pa.types.is_boolean(values.type):
            values = values.cast(pa.int8())
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64), 0


def name_counts(values: Any) -> tuple[dict[str, int], int]:
    """Rows of each name in an Arrow column, and missing ones. 3.0 and 3 are one name, as are True and "True".

    >>> name_counts(pa.array([3.0, 3.0, None, 4.5]))
    ({'3': 2, '4.5': 1}, 1)
    """
    found: dict[str, int] = {}
    missing = 0
    counted = pc.value_counts(values)
    for value, rows in zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True):
        if value is None or value != value:
            missing += rows
        else:
            name = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
            found[name] = found.get(name, 0) + rows
    return found, missing


def _names(values: Any) -> CategoryBins:
    found, _ = name_counts(values)
    if len(found) > MOST_NAMES:
        return CategoryBins(tuple(f"names in bucket {bucket}" for bucket in range(BUCKETS)), hashed=True)
    return CategoryBins(tuple(sorted(found, key=lambda name: (-found[name], name))))


def _cut(values: np.ndarray, bins: int) -> NumberBins:
    known = np.sort(values[~np.isnan(values)])
    finite = known[np.isfinite(known)]
    if len(finite) == 0:
        return NumberBins((0.0,), (0, 0), 0.0, 0.0, 0.0, 1.0)
    edges = _edges(known, finite, bins)
    counts = np.diff(np.concatenate([[0], np.searchsorted(known, edges), [len(known)]]))
    with np.errstate(over="ignore", invalid="ignore"):
        centre, scale = float(finite.mean()), float(finite.std())
    if not np.isfinite(centre) or not np.isfinite(scale):  # values near the largest float
        centre, scale = 0.0, float(np.abs(finite).max())
    scores = np.rint(normal_scores(counts[None])[0] / SCORE_UNIT).astype(int)
    return NumberBins(
        tuple(edges.tolist()), tuple(scores.tolist()), float(finite[0]), float(finite[-1]), centre, scale or 1.0
    )


def _edges(known: np.ndarray, finite: np.ndarray, bins: int) -> np.ndarray:
    """Few different values: one bin each, and for a single one also below and above. Else quantiles."""
    distinct = finite[np.append(True, finite[1:] > finite[:-1])]
    if len(distinct) == 1:
        return np.array([distinct[0], np.nextafter(distinct[0], np.inf)])
    if len(distinct) <= bins:
        return np.asarray(distinct[1:])
    even = bins - 2 * len(TAILS)
    shares = np.concatenate([TAILS, np.arange(1, even) / even, 1 - np.array(TAILS)])
    cuts = known[np.minimum((np.sort(shares) * len(known)).astype(int), len(known) - 1)]
    cuts, times = np.unique(cuts[np.isfinite(cuts)], return_counts=True)
    heavy = np.nextafter(cuts[times > 1], np.inf)  # a value that spans several quantiles stands alone
    return np.unique(np.concatenate([cuts, heavy]))


def normal_scores(counts: np.ndarray) -> np.ndarray:
    """Mean of the standard normal over each bin's stretch of ranks. Shape (..., bins), as `counts`.

    Van der Waerden's scores averaged over ties (Hajek, Sidak, Sen: Theory of Rank Tests, 2nd ed. 1999, section 4.1).

    >>> normal_scores(np.array([[1, 2, 1]])).round(3)
    array([[-1.271,  0.   ,  1.271]])
    """
    total = np.maximum(counts.sum(axis=-1, keepdims=True), 1)
    above = np.cumsum(counts, axis=-1) / total
    shares = counts / total
    upper = np.exp(-0.5 * ndtri(np.clip(above, 0, 1)) ** 2) / np.sqrt(2 * np.pi)
    lower = np.concatenate([np.zeros_like(upper[..., :1]), upper[..., :-1]], axis=-1)
    middle = ndtri(np.clip(above, 1e-3, 1 - 1e-3))  # an empty bin stands at its own rank
    return np.asarray(np.where(shares > 0, (lower - upper) / np.where(shares > 0, shares, 1.0), middle))
