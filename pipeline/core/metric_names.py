"""Which metrics each task has, by scikit-learn's names, and which way is better."""

from __future__ import annotations

from pipeline.core.estimators import Task

MONEY = "money_per_thousand"
"""Needs to be told what an outcome is worth."""
METRICS: dict[Task, tuple[str, ...]] = {
    "binary": (
        "roc_auc",
        "average_precision",
        "accuracy",
        "balanced_accuracy",
        "f1",
        "precision",
        "recall",
        "log_loss",
        "brier_score_loss",
        "calibration_error",
        MONEY,
    ),
    "multiclass": ("accuracy", "balanced_accuracy", "f1_macro", "log_loss"),
    "regression": ("r2", "mean_absolute_error", "root_mean_squared_error", "mean_squared_error"),
}


def primary_metric(task: Task) -> str:
    """The metric that decides where a model file names none.

    >>> primary_metric("regression")
    'root_mean_squared_error'
    """
    return {"binary": "roc_auc", "multiclass": "log_loss", "regression": "root_mean_squared_error"}[task]


def higher_is_better(metric: str) -> bool:
    """Scores rise, errors and losses fall.

    >>> higher_is_better("roc_auc"), higher_is_better("log_loss")
    (True, False)
    """
    return not metric.endswith(("_loss", "_error"))
