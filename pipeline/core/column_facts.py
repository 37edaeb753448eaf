"""What a column looked like at registration and looks like now, in a few figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
"""Levels of the quantiles that stand in the facts."""
MOST_CATEGORIES = 200


@dataclass(frozen=True)
class ColumnFacts:
    """One column, then and now."""

    name: str
    kind: Literal["number", "category"]
    reference_rows: int
    rows: int
    reference_quantiles: tuple[float, ...]
    """At QUANTILES, of the values that are there; empty for a category and where there are none."""
    quantiles: tuple[float, ...]
    reference_missing: float
    """Share of the rows."""
    missing: float
    reference_shares: Mapping[str, float]
    """Of the values that are there, by category; empty for a number."""
    shares: Mapping[str, float]
    importance: float | None
    """What shuffling it costs in the primary metric (`importance.permutation_importance`); None: not known."""


def facts_of(
    reference: pd.DataFrame, current: pd.DataFrame, importance: Mapping[str, float] | None = None
) -> list[ColumnFacts]:
    """Facts of every column of two tables; neither empty.

    >>> frame = pd.DataFrame({"plan": ["a", "a", None, "b"]})
    >>> facts_of(frame, frame.head(2))[0].shares
    {'a': 1.0}
    """
    known = importance or {}
    return [_facts(str(name), reference[name], current[name], known.get(str(name))) for name in reference.columns]


def _facts(name: str, then: pd.Series, now: pd.Series, importance: float | None) -> ColumnFacts:
    number = pd.api.types.is_numeric_dtype(then.dtype) and not pd.api.types.is_bool_dtype(then.dtype)
    return ColumnFacts(
        name, "number" if number else "category", len(then), len(now),
        _quantiles(then) if number else (), _quantiles(now) if number else (),
        float(then.isna().mean()), float(now.isna().mean()),
        {} if number else _shares(then), {} if number else _shares(now), importance,
    )  # fmt: skip


def _quantiles(values: pd.Series) -> tuple[float, ...]:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    finite = numbers[np.isfinite(numbers)]
    # Values that are there, not between them: a column of one value shows it at every level.
    return tuple(float(q) for q in np.quantile(finite, QUANTILES, method="inverted_cdf")) if len(finite) else ()


def _shares(values: pd.Series) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, share in values.value_counts(normalize=True).head(MOST_CATEGORIES).items():
        found[str(name)] = found.get(str(name), 0.0) + float(share)
    return found


def moved(fact: ColumnFacts) -> float:
    """How far a column has gone, 0 not at all to 1 all of it, by a bound on the total variation of its figures.

    Numbers: the mean change of the quantiles inside 5 % to 95 %, in spans of the reference from 5 % to 95 %. What
    so many rows show by chance is taken off.

    >>> moved(ColumnFacts("a", "category", 10_000, 10_000, (), (), 0.0, 0.0, {"x": 0.5, "y": 0.5}, {"x": 1.0}, None))
    0.48
    """
    gone = abs(fact.missing - fact.reference_missing)
    if fact.kind == "category":
        names = {*fact.reference_shares, *fact.shares}
        change = sum(abs(fact.shares.get(n, 0.0) - fact.reference_shares.get(n, 0.0)) for n in names) / 2
    elif fact.quantiles and fact.reference_quantiles:
        then, now = np.array(fact.reference_quantiles)[2:-2], np.array(fact.quantiles)[2:-2]
        span = float(then[-1] - then[0]) or 1.0
        change = float(np.abs(now - then).mean()) / span
    else:
        change = 0.0
    chance = 2 / math.sqrt(max(1, min(fact.reference_rows, fact.rows)))
    return min(1.0, max(0.0, max(gone, change) - chance))
