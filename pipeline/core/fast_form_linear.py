"""Linear models as plain arrays: a product, an intercept and a link."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.core.fast_form_links import Link, linked, linked_one
from pipeline.core.preparation import NotRepresentable

LOGIT_CLASSIFIERS = ("LinearDiscriminantAnalysis", "LogisticRegression", "LogisticRegressionCV")
MARGIN_CLASSIFIERS = ("SGDClassifier",)
REGRESSORS = (
    "ARDRegression", "BayesianRidge", "ElasticNet", "ElasticNetCV", "HuberRegressor", "Lars", "LarsCV", "Lasso",
    "LassoCV", "LassoLars", "LassoLarsCV", "LassoLarsIC", "LinearRegression", "LinearSVR",
    "OrthogonalMatchingPursuit", "QuantileRegressor", "Ridge", "RidgeCV", "SGDRegressor", "TheilSenRegressor",
)  # fmt: skip
LOG_REGRESSORS = ("GammaRegressor", "PoissonRegressor", "TweedieRegressor")
NAMES = LOGIT_CLASSIFIERS + MARGIN_CLASSIFIERS + REGRESSORS + LOG_REGRESSORS


@dataclass(frozen=True)
class Linear:
    """Coefficients, shape (outputs, k), intercepts, shape (outputs,), and how they become scores."""

    coefficients: np.ndarray
    intercepts: np.ndarray
    link: Link
    kind: Literal["linear"] = "linear"

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        """See FastForm."""
        if len(matrix) == 1 and len(self.coefficients) == 1:
            return linked_one(self.link, float(matrix[0] @ self.coefficients[0]) + float(self.intercepts[0]))
        return linked(self.link, matrix @ self.coefficients.T + self.intercepts)

    def to_bytes(self) -> bytes:
        """JSON; Python writes floats so that every bit comes back."""
        content = {
            "coefficients": self.coefficients.tolist(),
            "intercepts": self.intercepts.tolist(),
            "link": self.link,
        }
        return json.dumps(content).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Linear:
        """The inverse of `to_bytes`."""
        plain = json.loads(content)
        return cls(np.array(plain["coefficients"]), np.array(plain["intercepts"]), plain["link"])

    @classmethod
    def of(cls, estimator: Any) -> Linear:
        """Read a fitted estimator of `NAMES`. Raises NotRepresentable."""
        link = _link(estimator)
        coefficients = np.atleast_2d(np.array(estimator.coef_, dtype=np.float64))
        intercepts = np.atleast_1d(np.array(estimator.intercept_, dtype=np.float64))
        if not hasattr(estimator, "classes_") and len(coefficients) != 1:
            raise NotRepresentable("a regression with several targets has no plain form")
        return cls(coefficients, np.broadcast_to(intercepts, len(coefficients)).copy(), link)


def _link(estimator: Any) -> Link:
    name = type(estimator).__name__
    if name in REGRESSORS:
        return "identity"
    if name in LOG_REGRESSORS:
        given = getattr(estimator, "link", "log")
        if given == "auto":
            return "log" if estimator.power > 0 else "identity"
        return "log" if given == "log" else "identity"
    two = len(estimator.classes_) == 2
    if name in LOGIT_CLASSIFIERS:
        return "logistic" if two else "softmax"
    if estimator.loss == "log_loss":
        return "logistic" if two else "one_vs_rest"
    if estimator.loss == "modified_huber":
        return "clipped"
    raise NotRepresentable(f"{name} with the loss {estimator.loss!r} gives no probabilities")
