"""Data faults: changes that no people, weather or market make, but a broken sensor, a new unit or a renamed code."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.core.column_facts import QUANTILES, ColumnFacts

FaultKind = Literal["missing", "stuck", "unit", "renamed"]
MISSING_GAIN = 0.05
"""Share of the rows that must have lost their value."""
STUCK_SHARE = 0.4
"""Share of the rows more than before on which one value must be seen, where none was seen on RARE of them."""
ALL_BUT = 0.98
"""Share of the rows on which it must be seen where some value was."""
RARE = 0.1
BEYOND = 5.0
"""Standard errors from which a difference is no chance, over any number of columns."""
ROUGHLY = 0.02
"""Of the span from 10 % to 90 %: quantiles that differ by less are the same, however many rows say otherwise."""
SAME = 0.03
"""Relative distance from a known factor at which it is still that factor."""
STRANGE = 8.0
"""A factor beyond this is a unit whatever it is; markets double, they do not grow eightfold overnight."""
LEAST_SHARE = 0.02
"""Of a category that is said to be renamed."""
# Pairs of units that people mix up; each also the other way round.
FACTORS = {
    "miles and kilometres": 1.609344,
    "metres and feet": 3.28084,
    "inches and centimetres": 2.54,
    "pounds and kilograms": 2.20462,
    "ounces and grams": 28.3495,
    "gallons and litres": 3.78541,
    "kilometres an hour and metres a second": 3.6,
    "decimals": 10.0,
    "shares and per cent, or cents": 100.0,
    "thousands": 1000.0,
    "millions": 1e6,
    "seconds and minutes, or minutes and hours": 60.0,
    "seconds and hours": 3600.0,
    "hours and days": 24.0,
    "months and years": 12.0,
    "days and weeks": 7.0,
    "degrees and radians": 180 / math.pi,
    "powers of 1024": 1024.0,
}
# value * scale + offset.
AFFINE = {"Celsius to Fahrenheit": (1.8, 32.0), "Fahrenheit to Celsius": (1 / 1.8, -32 / 1.8)}

UNIT_ROWS = 400
"""Fewer rows place their quantiles so roughly that some unit or other would always fit."""


@dataclass(frozen=True)
class Fault:
    """A broken column."""

    column: str
    kind: FaultKind
    told: str


def faults(facts: Sequence[ColumnFacts]) -> tuple[Fault, ...]:
    """Every broken column, at most one fault each.

    >>> at = tuple(float(q) for q in range(11))
    >>> miles = ColumnFacts("way", "number", 900, 900, at, tuple(1.609 * q for q in at), 0.0, 0.0, {}, {}, None)
    >>> faults([miles])[0].told
    'all of it is 1.609 times what it was (miles and kilometres)'
    """
    return tuple(found for fact in facts if (found := next(_of(fact), None)) is not None)


def _of(fact: ColumnFacts) -> Iterator[Fault]:
    then, now = fact.reference_missing, fact.missing
    spread = _share_error(then, fact.reference_rows, fact.rows)
    if now - then >= max(MISSING_GAIN, BEYOND * spread):
        yield Fault(fact.name, "missing", f"missing in {now:.1%} of the rows, {then:.1%} at registration")
    if fact.kind == "category":
        yield from _stuck_category(fact)
        yield from _renamed(fact)
    elif len(fact.quantiles) == len(fact.reference_quantiles) == len(QUANTILES):
        yield from _stuck_number(fact)
        yield from _unit(fact)


def _share_error(share: float, before: int, after: int) -> float:
    """Standard error of a difference of shares, never 0: a share of 0 is known to about one row."""
    least = 1 / (min(before, after) + 2)
    inside = min(max(share, least), 1 - least)
    return math.sqrt(inside * (1 - inside) * (1 / max(before, 1) + 1 / max(after, 1)))


def _stuck_category(fact: ColumnFacts) -> Iterator[Fault]:
    if not fact.shares or not fact.reference_shares:
        return
    name, share = max(fact.shares.items(), key=lambda item: item[1])
    before = fact.reference_shares.get(name, 0.0)
    if share >= ALL_BUT and share - before >= STUCK_SHARE:
        yield Fault(fact.name, "stuck", f"stuck at {name} in {share:.1%} of the rows, {before:.1%} at registration")


def _stuck_number(fact: ColumnFacts) -> Iterator[Fault]:
    """One value over a long run of quantiles, where there was no such run."""
    value, share = _longest(fact.quantiles)
    before = _longest(fact.reference_quantiles)[1]
    if share - before >= STUCK_SHARE and (before < RARE or share >= ALL_BUT):
        yield Fault(fact.name, "stuck", f"stuck at {value:g} in at least {share:.0%} of the rows")


def _longest(quantiles: Sequence[float]) -> tuple[float, float]:
    """The value that most levels show, and the share of rows between the first and the last of them."""
    spans: dict[float, tuple[float, float]] = {}
    for level, value in zip(QUANTILES, quantiles, strict=True):
        first, _ = spans.get(value, (level, level))
        spans[value] = (first, level)
    return max(((value, last - first) for value, (first, last) in spans.items()), key=lambda item: item[1])


def _renamed(fact: ColumnFacts) -> Iterator[Fault]:
    """One category has gone and one that was never seen holds its share."""
    gone = {n: s for n, s in fact.reference_shares.items() if s >= LEAST_SHARE and fact.shares.get(n, 0.0) < s / 50}
    new = {n: s for n, s in fact.shares.items() if s >= LEAST_SHARE / 2 and n not in fact.reference_shares}
    for old, before in gone.items():
        for name, after in new.items():
            spread = _share_error(before, fact.reference_rows, fact.rows)
            if abs(after - before) <= max(BEYOND * spread, before / 4):
                told = f"{old} ({before:.1%} of the rows at registration) has gone and {name} ({after:.1%}) is new"
                yield Fault(fact.name, "renamed", told)


def _unit(fact: ColumnFacts) -> Iterator[Fault]:
    """All quantiles times one factor, or plus one constant, so that hardly any value is where values were."""
    then, now = np.array(fact.reference_quantiles), np.array(fact.quantiles)
    span = float(then[7] - then[3])
    if span <= 0 or now[7] <= now[3] or min(fact.reference_rows, fact.rows) < UNIT_ROWS:
        return
    inner = slice(2, 9)  # 5 % to 95 %: the ends are of single rows
    old, new = then[inner], now[inner]
    chance = max(ROUGHLY, BEYOND / math.sqrt(min(fact.reference_rows, fact.rows)))
    for name, (scale, offset) in AFFINE.items():
        if _fits(new, scale * old + offset, scale * span, chance) and not _fits(new, old, span, chance):
            yield Fault(fact.name, "unit", f"all of it has gone from {name}")
    factor = float(old @ new / (old @ old))
    if _fits(new, -old[::-1], span, chance) and not _fits(new, old, span, chance):
        yield Fault(fact.name, "unit", "all of it has the other sign")
    if _fits(new, factor * old, abs(factor) * span, chance) and not _fits(new, old, span, chance):
        known = _known(factor)
        if known is not None or factor >= STRANGE or 0 < factor <= 1 / STRANGE:
            about = f" ({known})" if known else ""
            yield Fault(fact.name, "unit", f"all of it is {factor:.4g} times what it was{about}")
    shift = float(np.median(new - old))
    apart = now[2] > then[-1] or now[-3] < then[0]
    if apart and _fits(new, old + shift, span, chance):
        yield Fault(fact.name, "unit", f"all of it is shifted by {shift:+.4g}, beyond anything at registration")


def _fits(found: np.ndarray, expected: np.ndarray, span: float, chance: float) -> bool:
    """Whether quantiles agree as well as two samples of one population do."""
    return bool(np.abs(found - expected).max() <= chance * abs(span))


def _known(factor: float) -> str | None:
    for name, size in FACTORS.items():
        for one in (size, 1 / size):
            if abs(factor / one - 1) <= SAME:
                return name
    return None
