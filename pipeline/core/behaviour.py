"""Behavioural tests: what a model must do whatever its metrics say (Ribeiro et al., CheckList, ACL 2020)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from pipeline.core.verdict import Check

Predict = Callable[[pd.DataFrame], np.ndarray]
"""Features of shape (n, k) to scores: probabilities, shape (n, classes), or predictions, shape (n,)."""
Value = str | float | int | bool | None


@dataclass(frozen=True)
class Invariance:
    """A feature that must not matter."""

    name: str
    column: str
    values: tuple[Value, ...]
    tolerance: float
    max_failing_share: float


@dataclass(frozen=True)
class Direction:
    """A feature that must push the score one way, or leave it."""

    name: str
    column: str
    add: float
    expect: Literal["up", "down"]
    tolerance: float
    max_failing_share: float


@dataclass(frozen=True)
class Minimum:
    """One row that anyone would get right."""

    name: str
    row: Mapping[str, Value]
    at_least: float | None
    at_most: float | None


Behaviour = Invariance | Direction | Minimum


def check(test: Behaviour, predict: Predict, rows: pd.DataFrame) -> Check:
    """Whether the model behaves so on these rows. The score is the probability of the last class, or the prediction."""
    if isinstance(test, Minimum):
        return _minimum(test, predict, rows)
    if isinstance(test, Invariance):
        moved = np.stack([_score(predict(_set(rows, test.column, value))) for value in test.values])
        low, high = moved.min(axis=0), moved.max(axis=0)
        bad, wanted = high - low > test.tolerance, f"must not change with {test.column}"
    else:
        low = _score(predict(rows))
        high = _score(predict(rows.assign(**{test.column: rows[test.column] + test.add})))
        step = high - low if test.expect == "up" else low - high
        bad = step < -test.tolerance
        wanted = f"must not go {'down' if test.expect == 'up' else 'up'} when {test.column} changes by {test.add:+g}"
    share = float(bad.mean())
    told = f"behaviour {test.name}: the score {wanted}; it does in {int(bad.sum())} of {len(rows):,} rows ({share:.1%})"
    if bad.any():
        worst = int(np.argmax(np.where(bad, np.abs(high - low), -1)))
        told += f", at worst from {low[worst]:.4f} to {high[worst]:.4f} in row {worst}"
    if bad.all() or share > test.max_failing_share:
        return Check("behaviour", test.name, "fail", f"{told}, more than {test.max_failing_share:.1%}")
    return Check("behaviour", test.name, "pass", told)


def _minimum(test: Minimum, predict: Predict, rows: pd.DataFrame) -> Check:
    frame = pd.DataFrame([{name: test.row[name] for name in rows.columns}])
    for name in rows.columns:
        frame[name] = frame[name].astype(rows[name].dtype)
    found = float(_score(predict(frame))[0])
    low = test.at_least is not None and found < test.at_least
    high = test.at_most is not None and found > test.at_most
    bounds = [f"at least {test.at_least:g}" for _ in range(test.at_least is not None)] + [
        f"at most {test.at_most:g}" for _ in range(test.at_most is not None)
    ]
    told = f"behaviour {test.name}: the score of its row is {found:.4f}, asked is {' and '.join(bounds)}"
    return Check("behaviour", test.name, "fail" if low or high else "pass", told)


def _set(rows: pd.DataFrame, column: str, value: Value) -> pd.DataFrame:
    kind = rows[column].dtype
    text = None if value is None else str(value)
    return rows.assign(**{column: pd.Series([text if kind.kind == "O" else value] * len(rows), rows.index, dtype=kind)})


def _score(scores: np.ndarray) -> np.ndarray:
    return scores if scores.ndim == 1 else scores[:, -1]
