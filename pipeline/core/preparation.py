"""The fitted preparation as plain data, computed in float64 with numpy: the same bits as scikit-learn's.

scikit-learn computes preparation in float64; a graph in float32 puts values on the other side of tree
thresholds. So preparation stays outside the fast form, in the few transformers that our recipe uses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


class NotRepresentable(ValueError):
    """A fitted transformer that has no plain form here; the scikit-learn pipeline serves instead."""


@dataclass(frozen=True)
class NumberColumn:
    """(value - mean) / scale, after a missing value became `fill`; None leaves that step out."""

    name: str
    fill: float | None
    mean: float | None
    scale: float | None

    @property
    def width(self) -> int:
        """Columns of the matrix that it fills."""
        return 1

    def write(self, values: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, shape (n, 1), from float64 `values`, shape (n,)."""
        column = values.astype(np.float64, copy=True)
        if self.fill is not None:
            column[np.isnan(column)] = self.fill
        if self.mean is not None:
            column -= self.mean
        if self.scale is not None:
            column /= self.scale
        out[:, 0] = column


@dataclass(frozen=True)
class CategoryColumn:
    """One column a category, or one ordered column; unseen ones are nothing, or -1."""

    name: str
    categories: tuple[str, ...]
    missing: str
    onehot: bool

    @property
    def width(self) -> int:
        """Columns of the matrix that it fills."""
        return len(self.categories) if self.onehot else 1

    def write(self, values: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, shape (n, width), from an object array of str, NaN or None for missing, shape (n,)."""
        places = self._places
        found = np.array([places.get(v if isinstance(v, str) else self.missing, -1) for v in values])
        if not self.onehot:
            out[:, 0] = found
            return
        out[:] = 0.0
        known = np.flatnonzero(found >= 0)
        out[known, found[known]] = 1.0

    @property
    def _places(self) -> dict[str, int]:
        places: dict[str, int] | None = self.__dict__.get("_cached")
        if places is None:
            places = {category: place for place, category in enumerate(self.categories)}
            self.__dict__["_cached"] = places
        return places


Column = NumberColumn | CategoryColumn


@dataclass(frozen=True)
class FittedPreparation:
    """Columns in the order of the matrix that the estimator sees."""

    columns: tuple[Column, ...]

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return sum(column.width for column in self.columns)

    def transform(self, table: Mapping[str, np.ndarray]) -> np.ndarray:
        """The estimator's matrix, shape (n, width), float64, from a column by name, each of shape (n,).

        >>> age = NumberColumn("age", fill=30.0, mean=20.0, scale=10.0)
        >>> FittedPreparation((age,)).transform({"age": np.array([40.0, np.nan])}).tolist()
        [[2.0], [1.0]]
        """
        rows = len(next(iter(table.values())))
        matrix = np.empty((rows, self.width), dtype=np.float64)
        at = 0
        for column in self.columns:
            column.write(table[column.name], matrix[:, at : at + column.width])
            at += column.width
        return matrix

    def to_json(self) -> str:
        """Plain data; floats keep every bit."""
        return json.dumps([{"kind": type(c).__name__, **asdict(c)} for c in self.columns])

    @classmethod
    def from_json(cls, text: str) -> FittedPreparation:
        """The inverse of `to_json`."""
        columns: list[Column] = []
        for entry in json.loads(text):
            kind = entry.pop("kind")
            if kind == "NumberColumn":
                columns.append(NumberColumn(**entry))
            else:
                columns.append(CategoryColumn(**{**entry, "categories": tuple(entry["categories"])}))
        return cls(tuple(columns))

    @classmethod
    def from_sklearn(cls, transformer: Any) -> FittedPreparation:
        """Read a fitted ColumnTransformer. Raises NotRepresentable naming the transformer it does not know."""
        columns: list[Column] = []
        for name, block, names in transformer.transformers_:
            if name == "remainder":
                continue
            steps = _steps(block)
            encoder = steps.get("OneHotEncoder") or steps.get("OrdinalEncoder")
            columns += _categories(steps, encoder, list(names)) if encoder else _numbers(steps, list(names))
        return cls(tuple(columns))


def _steps(block: Any) -> dict[str, Any]:
    if isinstance(block, str) and block == "passthrough":
        return {}
    parts = [step for _, step in block.steps] if hasattr(block, "steps") else [block]
    found = {type(part).__name__: part for part in parts}
    found.pop("FunctionTransformer", None) if _is_identity(found) else None
    unknown = set(found) - {"SimpleImputer", "StandardScaler", "OneHotEncoder", "OrdinalEncoder"}
    if unknown:
        raise NotRepresentable(f"{sorted(unknown)[0]} has no plain form")
    return found


def _is_identity(found: Mapping[str, Any]) -> bool:
    """A fitted "passthrough" block is a FunctionTransformer without a function."""
    made = found.get("FunctionTransformer")
    return made is not None and made.func is None


def _numbers(steps: Mapping[str, Any], names: list[str]) -> list[Column]:
    imputer, scaler = steps.get("SimpleImputer"), steps.get("StandardScaler")
    return [
        NumberColumn(
            name,
            float(imputer.statistics_[i]) if imputer is not None else None,
            float(scaler.mean_[i]) if scaler is not None else None,
            float(scaler.scale_[i]) if scaler is not None else None,
        )
        for i, name in enumerate(names)
    ]


def _categories(steps: Mapping[str, Any], encoder: Any, names: list[str]) -> list[Column]:
    imputer = steps.get("SimpleImputer")
    onehot = type(encoder).__name__ == "OneHotEncoder"
    if imputer is None or imputer.strategy != "constant":
        raise NotRepresentable("an encoder without a named missing category has no plain form")
    if getattr(encoder, "infrequent_categories_", None) or getattr(encoder, "drop_idx_", None) is not None:
        raise NotRepresentable("an encoder that groups or drops categories has no plain form")
    return [
        CategoryColumn(name, tuple(str(c) for c in encoder.categories_[i]), str(imputer.fill_value), onehot)
        for i, name in enumerate(names)
    ]
