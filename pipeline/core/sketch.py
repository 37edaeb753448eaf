"""A sketch: all that drift detection needs of a day of rows, in a few kilobytes; weeks and months are sums of days.

Everything in it but `total` and `squares` is a whole number, so it is exact, and the same however the rows were
split or ordered.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.core.drift_bins import Bins

MOST_UNSEEN = 100
"""Names that the reference did not have, kept one by one; the rows of the rest are only counted."""


@dataclass(frozen=True)
class NumberCounts:
    """A numeric column of some rows."""

    counts: tuple[int, ...]
    """Rows in each bin, missing ones aside; infinite values are in the outer bins."""
    missing: int = 0
    not_a_number: int = 0
    """Texts that read as no number; they are among the missing."""
    infinite: int = 0
    below: int = 0
    """Rows under the smallest value of the reference."""
    above: int = 0
    """Rows over the largest value of the reference."""
    total: float = 0.0
    """Sum of (x - centre) / scale over finite values, each cut off at a million scales."""
    squares: float = 0.0
    minimum: float = math.inf
    """Smallest finite value; infinity where there is none."""
    maximum: float = -math.inf

    def __add__(self, other: NumberCounts) -> NumberCounts:
        return NumberCounts(
            tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)), self.missing + other.missing,
            self.not_a_number + other.not_a_number, self.infinite + other.infinite, self.below + other.below,
            self.above + other.above, self.total + other.total, self.squares + other.squares,
            min(self.minimum, other.minimum), max(self.maximum, other.maximum),
        )  # fmt: skip

    def __sub__(self, other: NumberCounts) -> NumberCounts:
        return NumberCounts(
            tuple(a - b for a, b in zip(self.counts, other.counts, strict=True)), self.missing - other.missing,
            self.not_a_number - other.not_a_number, self.infinite - other.infinite, self.below - other.below,
            self.above - other.above, self.total - other.total, self.squares - other.squares,
            self.minimum, self.maximum,
        )  # fmt: skip

    @property
    def present(self) -> int:
        """Rows that are not missing."""
        return sum(self.counts)


@dataclass(frozen=True)
class CategoryCounts:
    """A categorical column of some rows."""

    counts: tuple[int, ...]
    """Rows of each known name (or bucket of names)."""
    missing: int = 0
    unseen: tuple[tuple[str, int], ...] = ()
    """Rows of names that the reference did not have, most frequent first, at most MOST_UNSEEN of them."""
    unseen_rest: int = 0
    """Rows of further such names."""

    def __add__(self, other: CategoryCounts) -> CategoryCounts:
        names = dict(self.unseen)
        for name, rows in other.unseen:
            names[name] = names.get(name, 0) + rows
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return CategoryCounts(
            counts, self.missing + other.missing, *most_frequent(names, self.unseen_rest + other.unseen_rest)
        )

    def __sub__(self, other: CategoryCounts) -> CategoryCounts:
        """Names that were too many to keep one by one are no longer known exactly; in a reference there are none."""
        names = dict(self.unseen)
        for name, rows in other.unseen:
            names[name] = names.get(name, 0) - rows
        counts = tuple(a - b for a, b in zip(self.counts, other.counts, strict=True))
        kept = {name: rows for name, rows in names.items() if rows > 0}
        return CategoryCounts(
            counts, self.missing - other.missing, *most_frequent(kept, self.unseen_rest - other.unseen_rest)
        )

    @property
    def unseen_rows(self) -> int:
        """Rows of names that the reference did not have."""
        return sum(rows for _, rows in self.unseen) + self.unseen_rest

    @property
    def present(self) -> int:
        """Rows that are not missing."""
        return sum(self.counts) + self.unseen_rows


def most_frequent(names: Mapping[str, int], rest: int = 0) -> tuple[tuple[tuple[str, int], ...], int]:
    """The most frequent names with their rows, and the rows of the others."""
    ordered = sorted(names.items(), key=lambda item: (-item[1], item[0]))
    return tuple(ordered[:MOST_UNSEEN]), rest + sum(rows for _, rows in ordered[MOST_UNSEEN:])


@dataclass(frozen=True)
class Sketch:
    """The counts of some rows in the cells of `bins`."""

    bins: Bins
    rows: int
    numbers: Mapping[str, NumberCounts]
    categories: Mapping[str, CategoryCounts]
    products: np.ndarray
    """Sums of products of normal scores over rows, int64, shape (4, pairs, pairs) in the order of `bins.pairs`:
    rows where both are there, score * score, squared score * squared score, cubed score * score."""

    def __add__(self, other: Sketch) -> Sketch:
        """Raises ValueError where the bins differ."""
        if other.bins is not self.bins and other.bins.digest != self.bins.digest:
            raise ValueError(f"sketches of different bins: {self.bins.digest} and {other.bins.digest}")
        return Sketch(
            self.bins, self.rows + other.rows,
            {name: one + other.numbers[name] for name, one in self.numbers.items()},
            {name: one + other.categories[name] for name, one in self.categories.items()},
            self.products + other.products,
        )  # fmt: skip

    def __sub__(self, other: Sketch) -> Sketch:
        """The rows that are not in `other`, a part of these; extremes stay those of all rows."""
        return Sketch(
            self.bins, self.rows - other.rows,
            {name: one - other.numbers[name] for name, one in self.numbers.items()},
            {name: one - other.categories[name] for name, one in self.categories.items()},
            self.products - other.products,
        )  # fmt: skip

    @classmethod
    def empty(cls, bins: Bins) -> Sketch:
        """No rows at all."""
        pairs = len(bins.pairs)
        return cls(
            bins, 0,
            {name: NumberCounts((0,) * (len(one.edges) + 1)) for name, one in bins.numbers.items()},
            {name: CategoryCounts((0,) * len(one.known)) for name, one in bins.categories.items()},
            np.zeros((4, pairs, pairs), dtype=np.int64),
        )  # fmt: skip

    @classmethod
    def sum(cls, bins: Bins, sketches: Iterable[Sketch]) -> Sketch:
        """All rows of the sketches together; none give the empty sketch.

        >>> Sketch.sum(Bins({}, {}, ()), []).rows
        0
        """
        found = cls.empty(bins)
        for one in sketches:
            found += one
        return found

    def missing_share(self, column: str) -> float:
        """Share of the rows where the column is missing; 0 without rows."""
        one = self.numbers.get(column) or self.categories[column]
        return one.missing / self.rows if self.rows else 0.0

    def moments(self, column: str) -> tuple[float, float]:
        """Mean and standard deviation of a number's finite values, in its own unit; NaN where there are none."""
        one, cut = self.numbers[column], self.bins.numbers[column]
        finite = one.present - one.infinite
        if finite == 0:
            return math.nan, math.nan
        mean = one.total / finite
        spread = math.sqrt(max(0.0, one.squares / finite - mean**2))
        return cut.centre + cut.scale * mean, cut.scale * spread

    def quantiles(self, column: str, shares: Iterable[float]) -> tuple[float, ...]:
        """Quantiles of a number, straight lines drawn inside its bins; NaN where all is missing.

        The error is at most the width of the bin. Infinite values count as the outermost finite ones.
        """
        one, edges = self.numbers[column], self.bins.numbers[column].edges
        if one.present == one.infinite:
            return tuple(math.nan for _ in shares)
        bounds = np.clip([one.minimum, *edges, one.maximum], one.minimum, one.maximum)
        below = np.concatenate([[0], np.cumsum(one.counts)]) / one.present
        return tuple(float(np.interp(share, below, bounds)) for share in shares)

    def shares(self, column: str) -> dict[str, float]:
        """Share of each name of a category among its present rows, unseen names included."""
        one = self.categories[column]
        named = dict(zip(self.bins.categories[column].known, one.counts, strict=True)) | dict(one.unseen)
        return {name: rows / max(one.present, 1) for name, rows in named.items()}

    def to_bytes(self) -> bytes:
        """The counts, without the bins; equal sketches give equal bytes."""
        content = {
            "bins": self.bins.digest,
            "rows": self.rows,
            "numbers": {name: list(vars(one).values()) for name, one in self.numbers.items()},
            "categories": {name: list(vars(one).values()) for name, one in self.categories.items()},
            "products": self.products.tolist(),
        }
        return zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 6)

    @classmethod
    def from_bytes(cls, stored: bytes, bins: Bins) -> Sketch:
        """The inverse of `to_bytes`. Raises ValueError where it was made with other bins, or is damaged."""
        try:
            content = json.loads(zlib.decompress(stored))
        except (zlib.error, ValueError) as error:
            raise ValueError(f"no sketch: {error}") from error
        if content["bins"] != bins.digest:
            raise ValueError(f"the sketch was made with bins {content['bins']}, not with {bins.digest}")
        pairs = len(bins.pairs)
        return cls(
            bins, content["rows"],
            {name: NumberCounts(tuple(counts), *rest) for name, (counts, *rest) in content["numbers"].items()},
            {
                name: CategoryCounts(tuple(counts), missing, tuple((n, rows) for n, rows in unseen), rest)
                for name, (counts, missing, unseen, rest) in content["categories"].items()
            },
            np.array(content["products"], dtype=np.int64).reshape(4, pairs, pairs),
        )  # fmt: skip
