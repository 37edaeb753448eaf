"""From columns to answers, by the fast form or by scikit-learn itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pipeline.core.fast_form import FastForm
from pipeline.core.package import Label, Signature
from pipeline.core.preparation import FittedPreparation
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

    def scores(self, table: Table) -> np.ndarray:
        """See Scorer."""
        return self.scorer.scores(table)

    def predict(self, table: Table) -> Predictions:
        """Labels with their probability, or numbers."""
        scores = self.scores(table)
        if self.signature.task == "regression":
            return Predictions([float(v) for v in scores], [None] * len(scores), scores)
        if self.signature.task == "binary":
            called = (scores[:, 1] >= self.threshold).astype(int)
        else:
            called = scores.argmax(axis=1)
        labels: list[Label | float] = [self.signature.classes[i] for i in called]
        return Predictions(labels, [float(row[i]) for row, i in zip(scores, called, strict=True)], scores)


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
