"""From columns to answers, by the fast form or by scikit-learn itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from pipeline.core.coded import CodedPreparation
from pipeline.core.fast_form import FastForm
from pipeline.core.package import Label, Signature, Unseen
from pipeline.core.preparation import FittedPreparation
from pipeline.core.row_reader import Row, RowReader
from pipeline.errors import PackageInvalid

Table = Mapping[str, np.ndarray]


class Scorer(Protocol):
    """Computes scores: probabilities, shape (n, classes), or predictions, shape (n,)."""

    def scores(self, table: Table) -> np.ndarray:
        """Scores for columns by name, each of shape (n,)."""


@dataclass(frozen=True)
class FastScorer:
    """Our own preparation, then the fast form; neither scikit-learn nor pandas is loaded."""

    preparation: FittedPreparation
    form: FastForm

    def scores(self, table: Table) -> np.ndarray:
        """See Scorer."""
        return self.form.scores(self.preparation.transform(table))


@dataclass(frozen=True)
class SklearnScorer:
    """The fitted pipeline itself, for what has no fast form."""

    pipeline: Any
    names: tuple[str, ...]

    def scores(self, table: Table) -> np.ndarray:
        """See Scorer."""
        frame = frame_of(table, self.names)
        found = (
            self.pipeline.predict_proba(frame)
            if hasattr(self.pipeline, "predict_proba")
            else self.pipeline.predict(frame)
        )
        return np.asarray(found, dtype=np.float64)


def frame_of(table: Table, names: tuple[str, ...]) -> Any:
    """Columns as the frame that scikit-learn was fitted on: missing categories are NaN."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for name in names:
        values = table[name]
        if values.dtype == object:
            values = values.copy()
            values[[v is None for v in values]] = np.nan
        columns[name] = pd.Series(values, dtype=values.dtype)
    return pd.DataFrame(columns)


@dataclass(frozen=True)
class Predictions:
    """Answers for n rows."""

    labels: list[Label | float]
    confidences: list[float | None]
    """Probability of the label; None for regression."""
    scores: np.ndarray


@dataclass(frozen=True)
class Predictor:
    """A signature and what computes its scores."""

    signature: Signature
    scorer: Scorer
    threshold: float = 0.5
    """Binary: probability of the positive class from which it is the answer."""
    unseen: Unseen = "unknown"

    @cached_property
    def coded(self) -> CodedPreparation | None:
        """The preparation for coded rows; None where scikit-learn itself prepares."""
        if not isinstance(self.scorer, FastScorer):
            return None
        return CodedPreparation.of(self.scorer.preparation, self.signature)

    @cached_property
    def reader(self) -> RowReader:
        """Reads the rows of requests."""
        return RowReader(self.signature, self.coded, self.unseen)

    def scores(self, table: Table) -> np.ndarray:
        """See Scorer. What overflows is not finite, and is told by `not_finite`."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self.scorer.scores(table)

    def scores_of_rows(self, rows: Sequence[Row]) -> np.ndarray:
        """Scores for rows as `reader` reads them."""
        if self.coded is not None:
            return self.scores_of_coded(np.array(rows, dtype=np.float64))
        columns = {}
        for place, feature in enumerate(self.signature.features):
            values = [row[place] for row in rows]
            column: np.ndarray
            if feature.kind == "number":
                column = np.array(values, dtype=np.float64)
            else:
                column = np.empty(len(values), dtype=object)
                column[:] = values
            columns[feature.name] = column
        return self.scores(columns)

    def scores_of_coded(self, rows: np.ndarray) -> np.ndarray:
        """Scores for coded rows, shape (n, features), float64. Only where `coded` is not None."""
        assert self.coded is not None
        assert isinstance(self.scorer, FastScorer)
        with np.errstate(over="ignore", invalid="ignore"):
            return self.scorer.form.scores(self.coded.transform(rows))

    def predict(self, table: Table) -> Predictions:
        """Labels with their probability, or numbers."""
        return self.answers(self.scores(table))

    def answers(self, scores: np.ndarray) -> Predictions:
        """Scores as labels with their probability, or as numbers."""
        if self.signature.task == "regression":
            return Predictions(scores.tolist(), [None] * len(scores), scores)
        if self.signature.task == "binary":
            called = (scores[:, 1] >= self.threshold).astype(np.intp)
        else:
            called = scores.argmax(axis=1)
        classes = self.signature.classes
        confidences = scores[np.arange(len(scores)), called].tolist()
        return Predictions([classes[place] for place in called.tolist()], confidences, scores)


def not_finite(scores: np.ndarray) -> list[int]:
    """Places of the rows that the model has no finite answer for: numbers far beyond what it was made for.

    >>> not_finite(np.array([[0.5, 0.5], [np.nan, np.nan]]))
    [1]
    """
    finite = np.isfinite(scores)
    if finite.all():
        return []
    whole: list[int] = np.flatnonzero(~finite.reshape(len(scores), -1).all(axis=1)).tolist()
    return whole


def verify_golden(predictor: Predictor, table: Table, expected: np.ndarray, tolerance: float) -> None:
    """Raise PackageInvalid where a golden row does not come out as it did at registration."""
    found = predictor.scores(table)
    if found.shape != expected.shape:
        raise PackageInvalid(f"golden rows give scores of shape {found.shape}, registered were {expected.shape}")
    differences = np.abs(found - expected).reshape(len(expected), -1).max(axis=1)
    worst = int(np.argmax(differences))
    if not differences[worst] <= tolerance:
        raise PackageInvalid(
            f"golden row {worst} differs by {differences[worst]:.3g} from its registered prediction, "
            f"more than {tolerance:g}; "
            "the libraries here compute otherwise than those it was registered with"
        )
