"""Pictures of how a model judges: drawn with Matplotlib, without its global state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.core.estimators import Task

INK, LINE = "#1d2733", "#0b7a53"


def draw(
    task: Task,
    actual: np.ndarray,
    scores: np.ndarray,
    classes: list[str],
    importance: Mapping[str, float],
    threshold: float,
    folder: Path,
) -> None:
    """Write the pictures of this task into `folder`. Shapes as in `metrics.evaluate`."""
    if task == "regression":
        _save(folder / "residuals.png", "Residuals", lambda axes: _residuals(axes, actual, scores))
    else:
        _save(folder / "confusion.png", "Confusion", lambda axes: _confusion(axes, actual, scores, classes, threshold))
    if task == "binary":
        positive, score = actual == 1, scores[:, 1]
        _save(folder / "roc.png", "ROC curve", lambda axes: _roc(axes, positive, score))
        _save(folder / "precision_recall.png", "Precision and recall", lambda axes: _recall(axes, positive, score))
        _save(folder / "calibration.png", "Calibration", lambda axes: _calibration(axes, positive, score))
    _save(folder / "importance.png", "Permutation importance", lambda axes: _importance(axes, importance))


def _save(path: Path, title: str, paint: Callable[[Axes], None]) -> None:
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    paint(axes)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _roc(axes: Axes, positive: np.ndarray, score: np.ndarray) -> None:
    ups = positive[np.argsort(-score, kind="stable")]
    axes.plot(np.cumsum(~ups) / max(1, (~ups).sum()), np.cumsum(ups) / max(1, ups.sum()), color=LINE)
    axes.plot([0, 1], [0, 1], color="#9aa7b5", lw=0.8, ls="--")
    axes.set(xlabel="false positive rate", ylabel="true positive rate")


def _recall(axes: Axes, positive: np.ndarray, score: np.ndarray) -> None:
    ups = positive[np.argsort(-score, kind="stable")]
    hits = np.cumsum(ups)
    axes.plot(hits / max(1, ups.sum()), hits / np.arange(1, len(ups) + 1), color=LINE)
    axes.axhline(positive.mean(), color="#9aa7b5", lw=0.8, ls="--")
    axes.set(xlabel="recall", ylabel="precision", ylim=(0, 1.02))


def _calibration(axes: Axes, positive: np.ndarray, score: np.ndarray) -> None:
    """Ten groups of equal size by score: mean score against share of positives."""
    groups = np.array_split(np.argsort(score, kind="stable"), 10)
    said = [score[g].mean() for g in groups if len(g)]
    came = [positive[g].mean() for g in groups if len(g)]
    axes.plot([0, 1], [0, 1], color="#9aa7b5", lw=0.8, ls="--")
    axes.plot(said, came, marker="o", color=LINE)
    axes.set(xlabel="predicted probability", ylabel="share that came true")


def _confusion(axes: Axes, actual: np.ndarray, scores: np.ndarray, classes: list[str], threshold: float) -> None:
    called = (scores[:, 1] >= threshold).astype(int) if len(classes) == 2 else scores.argmax(axis=1)
    table = np.zeros((len(classes), len(classes)), dtype=int)
    known = actual >= 0
    np.add.at(table, (actual[known].astype(int), called[known]), 1)
    axes.imshow(table, cmap="Greens")
    if len(classes) <= 12:
        for row, column in np.ndindex(table.shape):
            dark = table[row, column] > table.max() / 2
            axes.text(column, row, str(table[row, column]), ha="center", va="center", color="white" if dark else INK)
    ticks = range(len(classes))
    axes.set(xticks=ticks, yticks=ticks, xticklabels=classes, yticklabels=classes, xlabel="predicted", ylabel="actual")


def _residuals(axes: Axes, actual: np.ndarray, predicted: np.ndarray) -> None:
    axes.scatter(predicted, actual - predicted, s=6, alpha=0.3, color=LINE, linewidths=0)
    axes.axhline(0, color="#9aa7b5", lw=0.8)
    axes.set(xlabel="predicted", ylabel="actual less predicted")


def _importance(axes: Axes, importance: Mapping[str, float]) -> None:
    top = sorted(importance.items(), key=lambda item: item[1])[-15:]
    axes.barh([name for name, _ in top], [value for _, value in top], color=LINE)
    axes.set(xlabel="loss in the primary metric when shuffled")
