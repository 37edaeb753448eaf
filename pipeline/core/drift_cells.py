"""Values into bins, a chunk at a time.

A value finds its bin through a table of even cells between the outer edges and a compare or two with the edges
themselves, several times faster than a binary search and exactly as right: the cell is a monotone function of the
value, in floating point too, so an edge of another cell is surely on its own side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.core.drift_bins import NumberBins
from pipeline.core.sketch import NumberCounts

CELLS = 4096
MOST_SCALES = 1e6
"""One value of 1e300 would be the only one that the moments tell of."""


class Room:
    """Arrays that every chunk uses anew: to ask for fresh ones takes as long as to fill them."""

    def __init__(self, rows: int) -> None:
        self.place, self.edge = np.empty(rows), np.empty(rows)
        self.cell, self.found = np.empty(rows, dtype=np.intp), np.empty(rows, dtype=np.intp)
        self.over = np.empty(rows, dtype=bool)


class Tally:
    """What the chunks of a column add up to."""

    def __init__(self, cutter: Cutter) -> None:
        self.cutter = cutter
        self.counts = np.zeros(len(cutter.edges) + 1, dtype=np.int64)
        self.infinite = self.below = self.above = self.last_missing = 0
        self.total = self.squares = 0.0
        self.minimum, self.maximum = np.inf, -np.inf

    def counted(self, not_a_number: int) -> NumberCounts:
        """What was added so far."""
        return NumberCounts(
            tuple(self.counts[:-1].tolist()), int(self.counts[-1]), not_a_number, self.infinite, self.below,
            self.above, self.total, self.squares, float(self.minimum), float(self.maximum),
        )  # fmt: skip

    def add(self, values: np.ndarray, room: Room) -> np.ndarray:
        """Count a chunk; the bin of every value, the last one for missing."""
        found, place = self.cutter.find(values, room)
        low, high = float(values.min()), float(values.max())
        self.last_missing = 0
        if low != low:  # NaN is in there, and means missing
            missing = np.isnan(values)
            found[missing] = len(self.cutter.edges)
            values = values[~missing]
            self.last_missing = len(missing) - len(values)
            low, high = (float(values.min()), float(values.max())) if len(values) else (np.inf, -np.inf)
        self.counts += np.bincount(found, minlength=len(self.counts))
        self._moments(values, None if self.last_missing else place, low, high)
        return found

    def _moments(self, known: np.ndarray, place: np.ndarray | None, low: float, high: float) -> None:
        bins = self.cutter.bins
        if low < bins.low:
            self.below += int((known < bins.low).sum())
        if high > bins.high:
            self.above += int((known > bins.high).sum())
        near = max(bins.centre - low, high - bins.centre) < MOST_SCALES * bins.scale
        if place is not None and near and 1e-100 < self.cutter.cells * bins.scale < 1e100:
            # In cells from the start, as they stand there already; into scales from the centre.
            first, second, rows = float(place.sum()), float(place @ place), len(place)
            step, start = 1 / (self.cutter.cells * bins.scale), (self.cutter.start - bins.centre) / bins.scale
            self.total += rows * start + step * first
            self.squares += rows * start**2 + 2 * start * step * first + step**2 * second
        else:
            finite = known[np.isfinite(known)]
            self.infinite += len(known) - len(finite)
            if len(finite) == 0:
                return
            scaled = np.clip((finite - bins.centre) / bins.scale, -MOST_SCALES, MOST_SCALES)
            self.total += float(scaled.sum())
            self.squares += float(scaled @ scaled)
            low, high = float(finite.min()), float(finite.max())
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)


@dataclass(frozen=True)
class Cutter:
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
    """Normal score of each bin, NaN for missing."""

    @classmethod
    def of(cls, bins: NumberBins) -> Cutter:
        """The tables of a column."""
        edges = np.array(bins.edges)
        with np.errstate(over="ignore"):
            half = edges[-1] / 2 - edges[0] / 2
            cells = (CELLS - 1) / 2 / half if half > 1e-300 else 1.0
            own = np.clip((edges - edges[0]) * cells, 0, CELLS - 1).astype(np.intp)
        inside = np.bincount(own, minlength=CELLS)
        first = np.concatenate([[0], np.cumsum(inside)[:-1]])
        scores = np.array([*bins.scores, np.nan], dtype=np.float32)
        return cls(bins, float(edges[0]), float(cells), first, np.append(edges, np.nan), int(inside.max()), scores)

    def find(self, values: np.ndarray, room: Room) -> tuple[np.ndarray, np.ndarray]:
        """The bin of every value, any bin for NaN; and how many cells from the start it is."""
        rows = len(values)
        place, edge, cell, found = room.place[:rows], room.edge[:rows], room.cell[:rows], room.found[:rows]
        np.subtract(values, self.start, out=place)
        np.multiply(place, self.cells, out=place)
        if self.steps > 8:  # edges crowded into a few cells: a binary search is faster
            found[:] = np.searchsorted(self.edges[:-1], values, side="right")
            return found, place
        np.clip(place, 0, CELLS - 1, out=edge)
        np.copyto(cell, edge, casting="unsafe")
        self.first.take(cell, out=found, mode="clip")
        for _ in range(self.steps):
            self.edges.take(found, out=edge, mode="clip")
            np.greater_equal(values, edge, out=room.over[:rows])
            np.add(found, room.over[:rows], out=found, casting="unsafe")
        return found, place
