"""Slices: parts of the rows on which a candidate must not be worse, whatever it is on the whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.core.paired import mean_and_error

MOST_VALUES = 12
"""Values of a category that are looked at one by one, the frequent ones first."""
MOST_SLICES = 3_000
Where = Mapping[str, Any]


@dataclass(frozen=True)
class Slice:
    """Rows by what they have in common."""

    name: str
    rows: np.ndarray
    """Mask of shape (n,)."""


@dataclass(frozen=True)
class Harm:
    """What a candidate does to a slice."""

    slice: Slice
    candidate_loss: float
    champion_loss: float
    p_value: float
    """One-sided, for the candidate's loss being above the champion's by more than the margin."""
    broken: bool = False


def declared_slice(name: str | None, where: Where, frame: pd.DataFrame) -> Slice:
    """The rows that a model file names: equal to a value, or in [low, high) for a pair of numbers.

    Raises KeyError for a column that is not there.

    >>> frame = pd.DataFrame({"contract": ["month", "two_year"], "tenure": [3.0, 30.0]})
    >>> declared_slice(None, {"contract": "two_year", "tenure": [12, 72]}, frame)
    Slice(name='contract=two_year & tenure in [12, 72)', rows=array([False,  True]))
    """
    mask = np.ones(len(frame), dtype=bool)
    parts = []
    for column, wanted in where.items():
        values = frame[column]
        if isinstance(wanted, Sequence) and not isinstance(wanted, str):
            low, high = wanted
            numbers = pd.to_numeric(values, errors="coerce").to_numpy()
            mask &= (numbers >= low) & (numbers < high)
            parts.append(f"{column} in [{low:g}, {high:g})")
        elif pd.api.types.is_numeric_dtype(values.dtype) and not isinstance(wanted, str):
            mask &= values.to_numpy() == float(wanted)
            parts.append(f"{column}={wanted}")
        else:
            mask &= (values.astype(object).map(str) == str(wanted)).to_numpy()
            parts.append(f"{column}={wanted}")
    return Slice(name or " & ".join(parts), mask)


def find_slices(frame: pd.DataFrame, min_rows: int) -> list[Slice]:
    """Every value of a category, quarters of a number, missing ones, and every two of these of different columns.

    Chosen by the features alone, never by how the models do there: what is tested is fixed before it is seen.
    Those with fewer than `min_rows` rows are left out, then the rarest of more than MOST_SLICES.
    """
    singles = [found for name in frame.columns for found in _of_column(str(name), frame[name], min_rows)]
    pairs = (
        Slice(f"{one.name} & {other.name}", one.rows & other.rows)
        for (column, one), (another, other) in itertools.combinations(singles, 2)
        if column != another
    )
    room = MOST_SLICES - len(singles)
    enough = [pair for pair in itertools.islice(pairs, 4 * MOST_SLICES) if pair.rows.sum() >= min_rows]
    return [found for _, found in singles] + sorted(enough, key=lambda s: -int(s.rows.sum()))[: max(0, room)]


def _of_column(name: str, values: pd.Series, min_rows: int) -> Iterator[tuple[str, Slice]]:
    missing = values.isna().to_numpy()
    masks: list[tuple[str, np.ndarray]] = [(f"{name} missing", missing)]
    if pd.api.types.is_numeric_dtype(values.dtype) and values.nunique() > MOST_VALUES:
        numbers = values.to_numpy(dtype=np.float64)
        edges = np.unique(np.nanquantile(numbers, [0.25, 0.5, 0.75]))
        bounds = [-np.inf, *edges, np.inf]
        for low, high in itertools.pairwise(bounds):
            masks.append((_range(name, low, high), (numbers >= low) & (numbers < high)))
    else:
        for value in values.value_counts().index[:MOST_VALUES]:
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            masks.append((f"{name}={shown}", (values == value).to_numpy()))
    for text, mask in masks:
        if min_rows <= mask.sum() < len(mask):
            yield name, Slice(text, mask)


def _range(name: str, low: float, high: float) -> str:
    if low == -np.inf:
        return f"{name} < {high:g}"
    return f"{name} >= {low:g}" if high == np.inf else f"{low:g} <= {name} < {high:g}"


def harms(
    slices: Sequence[Slice],
    candidate: np.ndarray,
    champion: np.ndarray,
    clusters: np.ndarray | None,
    *,
    margin: float,
    confidence: float,
) -> list[Harm]:
    """What the candidate does to each slice, worst first; any false `broken` has a chance below 1 - confidence.

    `candidate`, `champion`: losses of the rows, shape (n,). A slice is broken where the candidate's mean loss is
    above the champion's by more than `margin` of it: a paired t over entities, Holm's correction over all slices
    (Scandinavian Journal of Statistics 6, 1979).
    """
    found = []
    for one in slices:
        excess = candidate[one.rows] - (1 + margin) * champion[one.rows]
        own = None if clusters is None else np.unique(clusters[one.rows], return_inverse=True)[1]
        mean, error = mean_and_error(excess, own)
        entities = len(excess) if own is None else int(own.max()) + 1
        p_value = float(stats.t.sf(mean / error, entities - 1)) if error > 0 else float(mean <= 0)
        found.append(Harm(one, float(candidate[one.rows].mean()), float(champion[one.rows].mean()), p_value))
    found.sort(key=lambda harm: harm.p_value)
    chance = 1 - confidence
    broken = list(itertools.takewhile(lambda i: found[i].p_value <= chance / (len(found) - i), range(len(found))))
    return [
        Harm(h.slice, h.candidate_loss, h.champion_loss, h.p_value, broken=i < len(broken)) for i, h in enumerate(found)
    ]
