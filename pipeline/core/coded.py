"""The preparation for rows of numbers: values as they are, categories as their place among those it knows.

A server gets one row at a time, and many of them at once; columns of objects cost it more than the model does.
The same bits as FittedPreparation.transform, which is what scikit-learn computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.core.package import Signature
from pipeline.core.preparation import CategoryColumn, FittedPreparation, NumberColumn

NOWHERE = -1.0
"""Code of a category that the preparation does not know."""


@dataclass(frozen=True)
class CodedPreparation:
    """From coded rows, shape (n, features) in the order of the signature, to the estimator's matrix."""

    codes: tuple[Mapping[str | None, float] | None, ...]
    """By feature: code of each category, and of a missing one under None; None where the feature is a number."""
    width: int
    number_from: np.ndarray
    number_to: np.ndarray
    fill: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    onehot_from: np.ndarray
    onehot_to: np.ndarray
    """First column of the matrix of each encoded feature."""
    ordinal_from: np.ndarray
    ordinal_to: np.ndarray
    untouched: bool
    """Whether the matrix is the coded rows themselves."""

    @classmethod
    def of(cls, preparation: FittedPreparation, signature: Signature) -> CodedPreparation:
        """Lay out the columns of a fitted preparation.

        >>> from pipeline.core.package import Feature
        >>> plan = CategoryColumn("plan", ("a", "b"), missing="none", onehot=True)
        >>> signature = Signature((Feature("plan", "category", ("a", "b"), None, None),), "regression", (), None)
        >>> coded = CodedPreparation.of(FittedPreparation((plan,)), signature)
        >>> coded.codes[0]["b"], coded.codes[0][None]
        (1.0, -1.0)
        >>> coded.transform(np.array([[1.0], [-1.0]])).tolist()
        [[0.0, 1.0], [0.0, 0.0]]
        """
        places = {feature.name: place for place, feature in enumerate(signature.features)}
        codes: list[Mapping[str | None, float] | None] = [
            None if feature.kind == "number" else {None: NOWHERE} for feature in signature.features
        ]
        numbers: list[tuple[int, int, float, float, float]] = []
        onehot: list[tuple[int, int]] = []
        ordinal: list[tuple[int, int]] = []
        at = 0
        for column in preparation.columns:
            place = places[column.name]
            if isinstance(column, NumberColumn):
                given = (column.fill, column.mean, column.scale)
                fill, mean, scale = (
                    default if v is None else v for v, default in zip(given, (np.nan, 0.0, 1.0), strict=True)
                )
                numbers.append((place, at, fill, mean, scale))
            else:
                codes[place] = _codes(column)
                (onehot if column.onehot else ordinal).append((place, at))
            at += column.width
        table = np.array(numbers, dtype=np.float64).reshape(-1, 5)
        first, second = _pairs(onehot), _pairs(ordinal)
        plain = all(c.fill is None and c.mean is None and c.scale is None for c in preparation.columns
                    if isinstance(c, NumberColumn))  # fmt: skip
        straight = [(place, to) for place, to, *_ in numbers] == [(n, n) for n in range(len(signature.features))]
        return cls(
            tuple(codes), at, table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2], table[:, 3], table[:, 4],
            first[:, 0], first[:, 1], second[:, 0], second[:, 1], plain and straight and at == len(numbers),
        )  # fmt: skip

    def transform(self, coded: np.ndarray) -> np.ndarray:
        """The estimator's matrix, shape (n, width), float64."""
        if self.untouched:
            return coded
        rows = len(coded)
        matrix = np.zeros((rows, self.width))
        if len(self.number_to):
            values = coded[:, self.number_from]
            values = np.where(np.isnan(values), self.fill, values)
            values -= self.mean
            values /= self.scale
            matrix[:, self.number_to] = values
        if len(self.onehot_to):
            at = coded[:, self.onehot_from].astype(np.intp)
            known = at >= 0
            at += self.onehot_to
            at += np.arange(0, rows * self.width, self.width)[:, None]
            matrix.reshape(-1)[at[known]] = 1.0
        if len(self.ordinal_to):
            matrix[:, self.ordinal_to] = coded[:, self.ordinal_from]
        return matrix


def _codes(column: CategoryColumn) -> dict[str | None, float]:
    codes: dict[str | None, float] = {category: float(place) for place, category in enumerate(column.categories)}
    codes[None] = codes.get(column.missing, NOWHERE)
    return codes


def _pairs(found: list[tuple[int, int]]) -> np.ndarray:
    return np.array(found, dtype=np.intp).reshape(-1, 2)
