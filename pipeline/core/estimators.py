"""Which estimators a model file may name. An import path outside this list is never imported."""

from __future__ import annotations

from typing import Literal

Task = Literal["binary", "multiclass", "regression"]

CLASSIFIERS = (
    "sklearn.ensemble.ExtraTreesClassifier",
    "sklearn.ensemble.GradientBoostingClassifier",
    "sklearn.ensemble.HistGradientBoostingClassifier",
    "sklearn.ensemble.RandomForestClassifier",
    "sklearn.linear_model.LogisticRegression",
    "sklearn.naive_bayes.GaussianNB",
    "sklearn.neighbors.KNeighborsClassifier",
    "sklearn.neural_network.MLPClassifier",
    "sklearn.tree.DecisionTreeClassifier",
)
REGRESSORS = (
    "sklearn.ensemble.ExtraTreesRegressor",
    "sklearn.ensemble.GradientBoostingRegressor",
    "sklearn.ensemble.HistGradientBoostingRegressor",
    "sklearn.ensemble.RandomForestRegressor",
    "sklearn.linear_model.ElasticNet",
    "sklearn.linear_model.Lasso",
    "sklearn.linear_model.LinearRegression",
    "sklearn.linear_model.PoissonRegressor",
    "sklearn.linear_model.Ridge",
    "sklearn.neighbors.KNeighborsRegressor",
    "sklearn.neural_network.MLPRegressor",
    "sklearn.tree.DecisionTreeRegressor",
)


def allowed_estimators(task: Task) -> tuple[str, ...]:
    """Import paths that a model of this task may name."""
    return REGRESSORS if task == "regression" else CLASSIFIERS


def keeps_missing(path: str) -> bool:
    """Whether the estimator learns from missing values itself, so that they need no filling in.

    >>> keeps_missing("sklearn.ensemble.HistGradientBoostingClassifier")
    True
    """
    return "HistGradientBoosting" in path


def needs_scaling(path: str) -> bool:
    """Whether the estimator wants its numbers on one scale: everything but trees.

    >>> needs_scaling("sklearn.linear_model.Ridge"), needs_scaling("sklearn.tree.DecisionTreeRegressor")
    (True, False)
    """
    return not path.startswith(("sklearn.ensemble.", "sklearn.tree."))
