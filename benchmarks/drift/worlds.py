"""Tables without drift, and tables in which one thing has changed. All randomness is handed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.core.drift_bins import Kind

Array = np.ndarray
Rng = np.random.Generator
Draw = Callable[[Rng, int], Array]

NAMES = [f"level {place:02d}" for place in range(50)]
ZIPF = 1 / np.arange(1, 51) / (1 / np.arange(1, 51)).sum()


def with_gaps(draw: Draw, share: float) -> Draw:
    """The same, a share of it missing."""

    def drawn(rng: Rng, rows: int) -> Array:
        values = draw(rng, rows)
        return np.where(rng.random(rows) < share, np.nan, values)

    return drawn


def mixture(share: float, distance: float = 4.0) -> Draw:
    """Two normal humps; `share` of the rows in the upper one."""
    return lambda rng, rows: rng.normal(size=rows) + distance * (rng.random(rows) < share)


def normal(rng: Rng, rows: int) -> Array:
    return rng.normal(size=rows)


SHAPES: Mapping[str, Draw] = {
    "normal": normal,
    "normal, missing 1 %": with_gaps(normal, 0.01),
    "normal, missing 40 %": with_gaps(normal, 0.4),
    "rounded normal": lambda rng, rows: rng.normal(size=rows).round(1),
    "lognormal": lambda rng, rows: rng.lognormal(size=rows),
    "wide lognormal": lambda rng, rows: rng.lognormal(sigma=3, size=rows),
    "t4": lambda rng, rows: rng.standard_t(4, size=rows),
    "Cauchy": lambda rng, rows: rng.standard_cauchy(size=rows),
    "uniform": lambda rng, rows: rng.random(rows),
    "exponential": lambda rng, rows: rng.exponential(size=rows),
    "two humps": mixture(0.3),
    "half zeros": lambda rng, rows: np.where(rng.random(rows) < 0.5, 0.0, rng.exponential(size=rows)),
    "nearly all zeros": lambda rng, rows: np.where(rng.random(rows) < 0.995, 0.0, rng.exponential(size=rows)),
    "counts": lambda rng, rows: rng.poisson(2, rows).astype(np.float64),
    "rare counts": lambda rng, rows: rng.poisson(0.05, rows).astype(np.float64),
    "ten values": lambda rng, rows: rng.integers(0, 10, rows).astype(np.float64),
    "flag": lambda rng, rows: (rng.random(rows) < 0.3).astype(np.float64),
    "rare flag": lambda rng, rows: (rng.random(rows) < 0.01).astype(np.float64),
    "bounded": lambda rng, rows: rng.beta(0.5, 0.5, rows),
    "score": lambda rng, rows: 1 / (1 + np.exp(-2 - rng.normal(size=rows))),
}
CATEGORIES: Mapping[str, Array] = {
    "even": np.full(50, 0.02),
    "Zipf": ZIPF,
    "Zipf again": ZIPF[::-1],
    "steep": 0.75 ** np.arange(50) / (0.75 ** np.arange(50)).sum(),
    "very steep": 0.5 ** np.arange(50) / (0.5 ** np.arange(50)).sum(),
}
KINDS: Mapping[str, Kind] = {name: "number" if name in SHAPES else "category" for name in (*SHAPES, *CATEGORIES)}


def category(shares: Array, rng: Rng, rows: int, names: list[str] | None = None) -> pa.Array:
    """A dictionary-encoded column of names."""
    codes = np.searchsorted(np.cumsum(shares)[:-1], rng.random(rows), side="right").astype(np.int32)
    return pa.DictionaryArray.from_arrays(codes, names or NAMES)


def table(rng: Rng, rows: int) -> pa.Table:
    """25 columns, 20 numeric of every shape and 5 categorical of 50 levels; two pairs of numbers go together."""
    columns: dict[str, object] = {name: draw(rng, rows) for name, draw in SHAPES.items()}
    shared = rng.normal(size=rows)
    columns["normal"] = 0.8 * rng.normal(size=rows) + 0.6 * shared
    columns["lognormal"] = np.exp(shared)
    columns["t4"] = rng.standard_t(4, size=rows) * (1 + np.abs(shared)) / 2
    columns.update({name: category(shares, rng, rows) for name, shares in CATEGORIES.items()})
    return pa.table(columns)


@dataclass(frozen=True)
class Change:
    """One thing that changes: the columns before and after."""

    name: str
    before: Callable[[Rng, int], pa.Table]
    after: Callable[[Rng, int], pa.Table]
    prototype: float | None = None
    """What the prototype's table says it must be seen in, at 10,000 rows."""


def number(name: str, before: Draw, after: Draw, prototype: float | None = None) -> Change:
    """A change of a numeric column."""
    return Change(
        name, lambda rng, n: pa.table({"x": before(rng, n)}), lambda rng, n: pa.table({"x": after(rng, n)}), prototype
    )


def names(name: str, before: Array, after: Array, prototype: float | None = None) -> Change:
    """A change of a category; `after` may have one name more."""
    more = [*NAMES, "new"][: len(after)]
    return Change(
        name,
        lambda rng, n: pa.table({"c": category(before, rng, n)}),
        lambda rng, n: pa.table({"c": category(after, rng, n, more)}),
        prototype,
    )


def moved(shares: Array, start: int, end: int, amount: float) -> Array:
    """Shares with `amount` of the rows moved from one name to another."""
    found = shares.copy()
    found[start] -= amount
    found[end] += amount
    return found


def pair(correlation: float) -> Callable[[Rng, int], pa.Table]:
    """Two normal columns."""

    def drawn(rng: Rng, rows: int) -> pa.Table:
        first = rng.normal(size=rows)
        second = correlation * first + np.sqrt(1 - correlation**2) * rng.normal(size=rows)
        return pa.table({"x": first, "y": second})

    return drawn


def shifted(draw: Draw, by: float) -> Draw:
    """The same, moved up."""
    return lambda rng, rows: draw(rng, rows) + by


def stuck(rng: Rng, rows: int) -> Array:
    """Normal, but 3 % of the rows have the same value."""
    return np.where(rng.random(rows) < 0.03, 0.2, rng.normal(size=rows))


T4 = SHAPES["t4"]
CHANGES = (
    number("mean .05 sigma", normal, shifted(normal, 0.05), 0.47),
    number("mean .1 sigma", normal, shifted(normal, 0.1), 1.0),
    number("scale 1.05", normal, lambda rng, rows: 1.05 * rng.normal(size=rows)),
    number("scale 1.1", normal, lambda rng, rows: 1.1 * rng.normal(size=rows), 1.0),
    names("3 % of rows change from the 1st to the 2nd of 50 names", ZIPF, moved(ZIPF, 0, 1, 0.03), 0.90),
    names("3 % of rows change from the 1st to the 25th of 50 names", ZIPF, moved(ZIPF, 0, 24, 0.03), 0.90),
    names("new category .5 %", CATEGORIES["even"], np.append(CATEGORIES["even"] * 0.995, 0.005), 1.0),
    names("new category .1 %", CATEGORIES["even"], np.append(CATEGORIES["even"] * 0.999, 0.001), 0.0),
    number("missing 1 % -> 3 %", with_gaps(normal, 0.01), with_gaps(normal, 0.03), 1.0),
    Change("correlation .6 -> .3", pair(0.6), pair(0.3), 1.0),
    number("t4, mean .035 sigma", T4, shifted(T4, 0.035 * np.sqrt(2))),
    number("t4, mean .04 sigma", T4, shifted(T4, 0.04 * np.sqrt(2))),
    number("two humps, weight .50 -> .53", mixture(0.5), mixture(0.53)),
    number("two humps, weight .30 -> .33", mixture(0.3), mixture(0.33)),
    number("two humps, weight .10 -> .12", mixture(0.1), mixture(0.12)),
    number("3 % of rows stuck at one value", normal, stuck),
)
