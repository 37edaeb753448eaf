"""Fast forms of fitted estimators: plain arrays for linear models, treelite for trees.

Each takes the float64 matrix of the preparation. Forests and gradient boosting compare in float32, as
scikit-learn does; histogram boosting in float64. With the other type, values cross tree thresholds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

Kind = Literal["linear", "treelite"]
LINEAR_CLASSIFIERS = ("LogisticRegression",)
LINEAR_REGRESSORS = ("LinearRegression", "Ridge", "Lasso", "ElasticNet")
FLOAT32_TREES = (
    "RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor",
    "GradientBoostingClassifier", "GradientBoostingRegressor",
)  # fmt: skip
FLOAT64_TREES = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")


class FastForm(Protocol):
    """An estimator without scikit-learn."""

    @property
    def kind(self) -> Kind:
        """How the package calls it."""

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        """Probabilities, shape (n, classes), or predictions, shape (n,), for a matrix of shape (n, k)."""

    def to_bytes(self) -> bytes:
        """What `load` reads."""


@dataclass(frozen=True)
class Linear:
    """Coefficients, shape (outputs, k), intercepts, shape (outputs,), and how they become scores."""

    coefficients: np.ndarray
    intercepts: np.ndarray
    link: Literal["identity", "logistic", "softmax"]
    kind: Kind = "linear"

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        """See FastForm."""
        raw = matrix @ self.coefficients.T + self.intercepts
        if self.link == "identity":
            return np.asarray(raw[:, 0])
        if self.link == "logistic":
            # Written so that neither branch overflows.
            small = np.exp(-np.abs(raw[:, 0]))
            positive = np.where(raw[:, 0] >= 0, 1 / (1 + small), small / (1 + small))
            return np.column_stack([1 - positive, positive])
        raised = np.exp(raw - raw.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))

    def to_bytes(self) -> bytes:
        """JSON; Python writes floats so that every bit comes back."""
        content = {
            "coefficients": self.coefficients.tolist(),
            "intercepts": self.intercepts.tolist(),
            "link": self.link,
        }
        return json.dumps(content).encode()


class Trees:
    """A treelite model, evaluated by its general interpreter."""

    kind: Kind = "treelite"

    def __init__(self, model: Any, *, double: bool, classes: int) -> None:
        self._model, self._double, self._classes = model, double, classes

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        """See FastForm."""
        from treelite import gtil

        matrix = np.ascontiguousarray(matrix, dtype=np.float64 if self._double else np.float32)
        raw = np.asarray(gtil.predict(self._model, matrix, nthread=1), dtype=np.float64).reshape(len(matrix), -1)
        if self._classes == 0:
            return np.asarray(raw[:, 0])
        return np.column_stack([1 - raw[:, 0], raw[:, 0]]) if raw.shape[1] == 1 else raw

    def to_bytes(self) -> bytes:
        """One byte for the type of the matrix, four for the number of classes, then treelite's own form."""
        return bytes([self._double]) + self._classes.to_bytes(4, "big") + bytes(self._model.serialize_bytes())


def export(estimator: Any) -> FastForm | None:
    """The fast form of a fitted estimator; None where there is none."""
    name = type(estimator).__name__
    if name in LINEAR_CLASSIFIERS:
        link: Literal["logistic", "softmax"] = "logistic" if len(estimator.classes_) == 2 else "softmax"
        return Linear(np.array(estimator.coef_), np.array(estimator.intercept_), link)
    if name in LINEAR_REGRESSORS:
        return Linear(np.atleast_2d(estimator.coef_), np.atleast_1d(estimator.intercept_), "identity")
    if name in FLOAT32_TREES or name in FLOAT64_TREES:
        import treelite.sklearn

        classes = len(estimator.classes_) if hasattr(estimator, "classes_") else 0
        return Trees(treelite.sklearn.import_model(estimator), double=name in FLOAT64_TREES, classes=classes)
    return None


def load(kind: Kind, content: bytes) -> FastForm:
    """The inverse of `to_bytes`."""
    if kind == "linear":
        plain = json.loads(content)
        return Linear(np.array(plain["coefficients"]), np.array(plain["intercepts"]), plain["link"])
    import treelite

    model = treelite.Model.deserialize_bytes(content[5:])
    return Trees(model, double=bool(content[0]), classes=int.from_bytes(content[1:5], "big"))
