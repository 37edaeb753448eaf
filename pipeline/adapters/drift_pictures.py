"""Small pictures for the drift report: how values were spread and are now, and a month of days. Places in pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Literal

import numpy as np

from pipeline.core.sketch import CategoryCounts, NumberCounts, Sketch

WIDTH, HEIGHT = 420, 150
STRIP_HEIGHT = 46
LINE = 24
"""Height of a category's line."""
LABEL = 140
"""Width of the names of categories."""
SHARES = 100
"""Room for the figures behind the bars."""
FEW_VALUES = 16
"""A number with so few bins is drawn bin by bin: they are single values."""
BARS = 24
TAIL = 0.005
"""What lies outside of this share of the reference, at either end, is drawn in the outermost bars."""
MOST_NAMES = 8
GAP = 12
"""Between the values and the missing ones."""
STRIP_DAYS = 30


@dataclass(frozen=True)
class Bar:
    """The share of rows at some values: then behind, now in front."""

    x: float
    width: float
    then: float
    now: float
    told: str


@dataclass(frozen=True)
class Tick:
    """A text on the axis."""

    x: float
    anchor: Literal["start", "middle", "end"]
    text: str


@dataclass(frozen=True)
class NumberPicture:
    """How a number was spread in the reference, and is in the window."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True)
class NameLine:
    """A category's share, then and now."""

    y: float
    name: str
    then: float
    now: float
    shares: str


@dataclass(frozen=True)
class NamePicture:
    """Shares of the most frequent categories."""

    lines: tuple[NameLine, ...]
    height: float
    width: int = WIDTH
    label: int = LABEL


@dataclass(frozen=True)
class Daily:
    """What the window that ended with a day showed of a column."""

    day: date
    psi: float
    state: Literal["quiet", "changed", "material", "not judged"]
    """`material`: changed, and by more than the model file calls small."""


@dataclass(frozen=True)
class Mark:
    """A day of the strip."""

    x: float
    y: float
    height: float
    state: str
    told: str


@dataclass(frozen=True)
class Strip:
    """The last days, by how much the column differed."""

    marks: tuple[Mark, ...]
    mark_width: float
    limit: float
    """Where a change begins to matter."""
    ticks: tuple[Tick, ...]
    since: float | None
    """Where the alarm began."""
    width: int = WIDTH
    height: int = STRIP_HEIGHT


def picture(column: str, reference: Sketch, current: Sketch) -> NumberPicture | NamePicture | None:
    """The column in both; None where there is nothing to draw, as of names that are counted in buckets of a hash."""
    if not reference.rows or not current.rows:
        return None
    if column in reference.bins.numbers:
        return _number(column, reference, current)
    return None if reference.bins.categories[column].hashed else _names(column, reference, current)


def strip(found: Sequence[Daily], until: date, min_effect: float, since: date | None) -> Strip:
    """The days up to `until`; days that were not checked are left empty."""
    first = until - timedelta(days=STRIP_DAYS - 1)
    step = WIDTH / STRIP_DAYS
    top = max([2 * min_effect, 1e-9, *(one.psi for one in found)])
    room = STRIP_HEIGHT - 18
    marks = []
    for one in found:
        height = max(1.5, room * min(one.psi, top) / top)
        told = f"{one.day}: psi {one.psi:.3f}, {one.state}"
        marks.append(Mark(step * (one.day - first).days, room - height, height, one.state.replace(" ", "-"), told))
    began = None if since is None or since < first else step * (since - first).days
    ticks = (Tick(0, "start", f"{first}"), Tick(WIDTH, "end", f"{until}"))
    return Strip(tuple(marks), step - 2, room - room * min_effect / top, ticks, began)


def _number(column: str, reference: Sketch, current: Sketch) -> NumberPicture:
    cut, sides = reference.bins.numbers[column], (reference.numbers[column], current.numbers[column])
    lost = [sketch.missing_share(column) for sketch in (reference, current)]
    width = float(WIDTH - (GAP + 40 if max(lost) > 0 else 0))
    ticks: list[Tick]
    if len(cut.edges) < FEW_VALUES:
        shares = [np.array(one.counts) / sketch.rows for one, sketch in zip(sides, (reference, current), strict=True)]
        names = _values(cut.edges, cut.low)
        step = width / len(names)
        ticks = [Tick(step * (place + 0.5), "middle", name) for place, name in enumerate(names)]
    else:
        ends = _ends(column, reference)
        shares = [_spread(one, cut.edges, ends) * (1 - share) for one, share in zip(sides, lost, strict=True)]
        names = [f"{value(a)} to {value(b)}" for a, b in pairwise(ends)]
        beyond = [min(one.minimum for one in sides) < ends[0], max(one.maximum for one in sides) > ends[-1]]
        ticks = [
            Tick(0, "start", f"{'≤ ' if beyond[0] else ''}{value(ends[0])}"),
            Tick(width / 2, "middle", value((ends[0] + ends[-1]) / 2)),
            Tick(width, "end", f"{'≥ ' if beyond[1] else ''}{value(ends[-1])}"),
        ]
    step = width / len(names)
    places = [(step * place, step) for place in range(len(names))]
    if max(lost) > 0:
        shares = [np.append(side, share) for side, share in zip(shares, lost, strict=True)]
        names, places = [*names, "missing"], [*places, (width + GAP, 40.0)]
        ticks.append(Tick(width + GAP + 20, "middle", "missing"))
    return NumberPicture(_bars(shares, names, places), tuple(ticks))


def _values(edges: Sequence[float], low: float) -> list[str]:
    """Names of the bins of a number with few values: each the value that it begins with."""
    first = value(low) if low < edges[0] else f"< {value(edges[0])}"
    names = [first]
    for place, edge in enumerate(edges):
        beyond = place > 0 and edge <= np.nextafter(edges[place - 1], math.inf)
        names.append(f"> {value(edge)}" if beyond else value(edge))
    return names


def value(one: float) -> str:
    """A value of a column for people.

    >>> value(0.12345), value(56789.1)
    ('0.123', '56,789')
    """
    return f"{one:,.0f}" if 1e3 <= abs(one) < 1e9 else f"{one:.3g}"


def _ends(column: str, reference: Sketch) -> np.ndarray:
    """Of bars of equal width over nearly all of the reference: beyond it the sketch knows no places."""
    low, high = (q if math.isfinite(q) else 0.0 for q in reference.quantiles(column, (TAIL, 1 - TAIL)))
    return np.linspace(low, high if high > low else low + 1.0, BARS + 1)


def _spread(one: NumberCounts, edges: Sequence[float], ends: np.ndarray) -> np.ndarray:
    """Share of the present rows in each bar, straight lines drawn inside the bins; the tails in the outermost."""
    if one.present == one.infinite:
        return np.zeros(BARS)
    bounds = np.clip([one.minimum, *edges, one.maximum], one.minimum, one.maximum)
    below = np.interp(ends, bounds, np.concatenate([[0.0], np.cumsum(one.counts) / one.present]))
    below[0], below[-1] = 0.0, 1.0
    return np.diff(below)


def _bars(shares: Sequence[np.ndarray], names: Sequence[str], places: Sequence[tuple[float, float]]) -> tuple[Bar, ...]:
    top, room = max(float(np.max(shares)), 1e-9), HEIGHT - 20
    return tuple(
        Bar(x, width, room * float(then) / top, room * float(now) / top, f"{name}: {_shares(float(then), float(now))}")
        for (x, width), name, then, now in zip(places, names, *shares, strict=True)
    )


def _names(column: str, reference: Sketch, current: Sketch) -> NamePicture:
    then, now = _named(column, reference), _named(column, current)
    order = sorted(then.keys() | now.keys(), key=lambda name: (-max(then.get(name, 0), now.get(name, 0)), name))
    new, rest = now.keys() - set(reference.bins.categories[column].known), order[MOST_NAMES:]
    known = [(name, then.get(name, 0.0), now.get(name, 0.0)) for name in order[:MOST_NAMES]]
    if rest:
        known.append((f"{len(rest)} others", _sum(rest, then), _sum(rest, now)))
    lost = reference.missing_share(column), current.missing_share(column)
    if max(lost) > 0:
        known.append(("missing", *lost))
    top, room = max([1e-9, *(share for _, *both in known for share in both)]), WIDTH - LABEL - SHARES
    lines = [
        NameLine(LINE * place, f"{name} (new)" if name in new else name, room * before / top, room * after / top,
                 _shares(before, after))
        for place, (name, before, after) in enumerate(known)
    ]  # fmt: skip
    return NamePicture(tuple(lines), LINE * len(lines))


def _named(column: str, sketch: Sketch) -> Mapping[str, float]:
    """Share of the rows, missing ones among them, of each name; of those beyond the kept ones nothing is known."""
    counts: CategoryCounts = sketch.categories[column]
    present = counts.present / sketch.rows
    return {name: share * present for name, share in sketch.shares(column).items()}


def _sum(names: Sequence[str], shares: Mapping[str, float]) -> float:
    return sum(shares.get(name, 0.0) for name in names)


def _shares(then: float, now: float) -> str:
    return f"{then:.1%} → {now:.1%}"
