"""From the raw outputs of an estimator to its scores, in float64, with a short way for a single row."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

Link = Literal["identity", "log", "share", "logistic", "softmax", "one_vs_rest", "clipped"]
"""identity and log: regression. share: the output is the probability of the positive class itself. logistic,
softmax: log odds. one_vs_rest, clipped: a log odds, or a margin from -1 to 1, for each class against the rest."""


def linked(link: Link, raw: np.ndarray) -> np.ndarray:
    """Probabilities, shape (n, classes), or predictions, shape (n,), from raw outputs, shape (n, outputs).

    >>> linked("logistic", np.array([[0.0], [-1000.0]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    >>> linked("softmax", np.array([[0.0, 0.0, -1000.0]])).tolist()
    [[0.5, 0.5, 0.0]]
    """
    if link == "identity":
        return raw[:, 0] if raw.shape[1] == 1 else raw
    if link == "log":
        return np.asarray(np.exp(raw[:, 0]))
    if link == "softmax":
        raised = np.exp(raw - raw.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))
    if raw.shape == (1, 1):
        return linked_one(link, float(raw[0, 0]))
    return _pair(_positive(link, raw[:, 0])) if raw.shape[1] == 1 else _shares(_positive(link, raw))


def linked_one(link: Link, raw: float) -> np.ndarray:
    """The same for one row and one output.

    >>> linked_one("logistic", 0.0).tolist()
    [[0.5, 0.5]]
    """
    if link == "logistic":
        if raw >= 0:
            positive = 1 / (1 + math.exp(-raw))
        else:
            small = math.exp(raw)
            positive = small / (1 + small)
        return np.array([[1 - positive, positive]])
    if link == "share":
        return np.array([[1 - raw, raw]])
    if link == "identity":
        return np.array([raw])
    return linked(link, np.array([[raw], [raw]]))[:1]


def sigmoid(raw: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-raw)), written so that neither branch overflows.

    >>> sigmoid(np.array([0.0, 800.0, -800.0])).tolist()
    [0.5, 1.0, 0.0]
    """
    small = np.exp(-np.abs(raw))
    return np.asarray(np.where(raw >= 0, 1.0, small) / (1 + small))


def _positive(link: Link, raw: np.ndarray) -> np.ndarray:
    """For each output the probability of its class against the rest."""
    if link == "share":
        return raw
    if link == "clipped":
        return np.asarray((np.clip(raw, -1, 1) + 1) / 2)
    return sigmoid(raw)


def _pair(positive: np.ndarray) -> np.ndarray:
    both = np.empty((len(positive), 2))
    both[:, 1] = positive
    np.subtract(1, positive, out=both[:, 0])
    return both


def _shares(each: np.ndarray) -> np.ndarray:
    """One against the rest, brought to a sum of one; a row of zeros is undecided (as scikit-learn has it)."""
    each = np.where(each.sum(axis=1, keepdims=True) == 0, 1.0, each)
    return np.asarray(each / each.sum(axis=1, keepdims=True))
