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


ROW_METRICS: dict[Task, tuple[str, ...]] = {
    "binary": ("brier_score_loss", "log_loss", "accuracy"),
    "multiclass": ("log_loss", "accuracy"),
    "regression": ("mean_squared_error", "mean_absolute_error"),
}
"""Metrics that are a mean over rows, so that each answer has one of its own; the usual one first."""


def row_metrics(task: Task, has_payoff: bool) -> tuple[str, ...]:
    """Metrics by which answers can be compared one by one."""
    return (*ROW_METRICS[task], MONEY) if has_payoff else ROW_METRICS[task]


def row_metric(task: Task, primary: str, has_payoff: bool) -> str:
    """The primary metric where it is a mean over rows, else money where there is a payoff, else the usual one.

    >>> row_metric("binary", "roc_auc", True), row_metric("binary", "log_loss", True)
    ('money_per_thousand', 'log_loss')
    >>> row_metric("regression", "root_mean_squared_error", False)
    'mean_squared_error'
    """
    known = row_metrics(task, has_payoff)
    if primary in known:
        return primary
    return MONEY if has_payoff else known[0]
