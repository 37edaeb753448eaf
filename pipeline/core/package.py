"""The model package: what serving loads. Its manifest holds content only, so equal content has equal digest."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np

from pipeline.core.estimators import Task
from pipeline.core.schema import Kind

FORMAT_VERSION = 2
MANIFEST, MODEL, PREPARATION, FAST, GOLDEN = (
    "manifest.json",
    "model.skops",
    "preparation.json",
    "fast.bin",
    "golden.json",
)
Form = Literal["linear", "mlp", "naive_bayes", "onnx", "treelite", "skops"]
Label = str | int
Unseen = Literal["unknown", "refuse"]
"""What becomes of a category that training never saw: taken for an unknown one, or the request is refused."""


class InvalidInput(ValueError):
    """A request that does not fit the signature, with the feature and the reason."""

    def __init__(self, feature: str | None, reason: str) -> None:
        super().__init__(f"{feature}: {reason}" if feature else reason)
        self.feature, self.reason = feature, reason


@dataclass(frozen=True)
class Feature:
    """A feature as training saw it."""

    name: str
    kind: Kind
    categories: tuple[str, ...] | None
    minimum: float | None
    maximum: float | None


@dataclass(frozen=True)
class Signature:
    """What may be asked, and the labels of the answers in the order of their probabilities."""

    features: tuple[Feature, ...]
    task: Task
    classes: tuple[Label, ...]
    positive: Label | None


@dataclass(frozen=True)
class Manifest:
    """What the package holds. No time, no run, no version: those belong to the registry."""

    model: str
    form: Form
    signature: Signature
    files: dict[str, str]
    """SHA-256 of each file."""
    libraries: dict[str, str]
    golden_tolerance: float = 1e-6
    threshold: float = 0.5
    """Binary: probability of the positive class from which it is the answer."""
    unseen: Unseen = "unknown"
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Canonical: sorted keys, no spaces."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical form: the name of the package."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The inverse of `to_json`."""
        content = json.loads(text)
        plain = content["signature"]
        features = tuple(
            Feature(**{**f, "categories": None if f["categories"] is None else tuple(f["categories"])})
            for f in plain["features"]
        )
        signature = Signature(features, plain["task"], tuple(plain["classes"]), plain["positive"])
        return cls(**{**content, "signature": signature})


def rows_to_columns(rows: Sequence[Mapping[str, Any] | Sequence[Any]], signature: Signature) -> dict[str, np.ndarray]:
    """Rows of a request as columns by name: numbers float64 with NaN, categories objects with None.

    A row names its features, or gives them in the order of the signature. Raises InvalidInput.

    >>> age = Signature((Feature("age", "number", None, 0.0, 9.0),), "regression", (), None)
    >>> rows_to_columns([{"age": 3}, [None]], age)["age"].tolist()
    [3.0, nan]
    """
    names = [feature.name for feature in signature.features]
    ordered = [ordered_row(row, names) for row in rows]
    columns: dict[str, np.ndarray] = {}
    for place, feature in enumerate(signature.features):
        values = [row[place] for row in ordered]
        if feature.kind == "number":
            columns[feature.name] = np.array([number_value(feature.name, v) for v in values], dtype=np.float64)
        else:
            categories = np.empty(len(values), dtype=object)
            categories[:] = [category_value(feature.name, v) for v in values]
            columns[feature.name] = categories
    return columns


def ordered_row(row: Mapping[str, Any] | Sequence[Any], names: list[str]) -> Sequence[Any]:
    """The values of a row in the order of `names`. Raises InvalidInput for a name too many or too few."""
    if not isinstance(row, Mapping):
        if len(row) != len(names):
            raise InvalidInput(None, f"{len(row)} values for the {len(names)} features {', '.join(names)}")
        return row
    if len(row) != len(names) or any(name not in row for name in names):
        for name in row:
            if name not in names:
                near = get_close_matches(name, names, n=1)
                raise InvalidInput(
                    name[:100], f"is no feature of this model{f'; did you mean {near[0]}?' if near else ''}"
                )
        missing = next(name for name in names if name not in row)
        raise InvalidInput(missing, "is missing; give null where its value is not known")
    return [row[name] for name in names]


def number_value(name: str, value: Any) -> float:
    """A number of a request; NaN where it is missing. Raises InvalidInput."""
    if value is None:
        return math.nan
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
        raise InvalidInput(name, "must be a finite number")
    raise InvalidInput(name, f"must be a number or null, got {shown(value)}")


def category_value(name: str, value: Any) -> str | None:
    """A category of a request; None where it is missing. Raises InvalidInput."""
    if value is None or isinstance(value, str):
        return value.strip() or None if value else None
    if isinstance(value, bool | int):
        return str(value)
    raise InvalidInput(name, f"must be a text or null, got {shown(value)}")


def shown(value: Any) -> str:
    """A value as a message shows it: its type, and not too much of it."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"
