"""What a change costs: from how far a column moved and how much the model leans on it, to a share of its error."""

from __future__ import annotations

from pipeline.core.metric_names import MONEY, higher_is_better

LEAST_ERROR = 0.01


def error_of(metric: str, value: float) -> float:
    """How far a metric is from perfect: the value itself for errors and losses, what is missing to 1 for scores.

    A score that seems perfect counts as LEAST_ERROR from it: shares of no error at all would say nothing.

    >>> round(error_of("roc_auc", 0.9), 3), error_of("log_loss", 0.4), error_of("roc_auc", 1.0)
    (0.1, 0.4, 0.01)
    """
    return abs(value) if metric == MONEY or not higher_is_better(metric) else max(1 - value, LEAST_ERROR)


def lost_share(metric: str, before: float, after: float) -> float:
    """What a metric lost, as a share of the error before; negative where it gained.

    >>> round(lost_share("roc_auc", 0.9, 0.88), 3), round(lost_share("log_loss", 0.4, 0.3), 3)
    (0.2, -0.25)
    """
    error = error_of(metric, before)
    lost = before - after if higher_is_better(metric) else after - before
    return lost / error if error > 0 else 0.0


def impact_of_change(importance: float, moved_share: float) -> float:
    """Estimated loss when `moved_share` of the rows have other values in a column, as a share of the error.

    `importance`: what shuffling the column costs, as a share of the error (permutation importance). Shuffled, every
    row has another row's value; moved, `moved_share` of them have: so the loss is taken in proportion. It is an
    estimate for ranking and for telling nothing from something, made before any label is known.

    >>> impact_of_change(0.5, 0.2), impact_of_change(-0.01, 0.2)
    (0.1, 0.0)
    """
    return max(0.0, importance) * min(1.0, max(0.0, moved_share))
