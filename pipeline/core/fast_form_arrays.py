"""Small networks and Gaussian naive Bayes as plain arrays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from pipeline.core.fast_form_links import Link, linked, sigmoid
from pipeline.core.preparation import NotRepresentable

Activation = Literal["identity", "relu", "tanh", "logistic"]
OUTPUTS: dict[str, Link] = {"identity": "identity", "exp": "log", "logistic": "logistic", "softmax": "softmax"}
"""The link by scikit-learn's name of the last activation."""


@dataclass(frozen=True)
class Network:
    """A multi-layer perceptron: weights of each layer, shape (inputs, outputs), and biases, shape (outputs,)."""

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    activation: Activation
    link: Link
    kind: Literal["mlp"] = "mlp"

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        """See FastForm."""
        values = matrix
        last = len(self.weights) - 1
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = values @ weight
            values += bias
            if place != last:
                values = _activated(self.activation, values)
        return linked(self.link, values)

    def to_bytes(self) -> bytes:
        """See `packed`."""
        return packed({"activation": self.activation, "link": self.link}, [*self.weights, *self.biases])

    @classmethod
    def from_bytes(cls, content: bytes) -> Network:
        """The inverse of `to_bytes`."""
        header, arrays = unpacked(content)
        layers = len(arrays) // 2
        return cls(tuple(arrays[:layers]), tuple(arrays[layers:]), header["activation"], header["link"])

    @classmethod
    def of(cls, estimator: Any) -> Network:
        """Read a fitted MLPClassifier or MLPRegressor. Raises NotRepresentable."""
        classes = getattr(estimator, "classes_", None)
        if estimator.n_outputs_ != (1 if classes is None or len(classes) == 2 else len(classes)):
            raise NotRepresentable("a network with several targets has no plain form")
        return cls(
            tuple(np.array(w, dtype=np.float64) for w in estimator.coefs_),
            tuple(np.array(b, dtype=np.float64) for b in estimator.intercepts_),
            estimator.activation,
            OUTPUTS[estimator.out_activation_],
        )


@dataclass(frozen=True)
class NaiveBayes:
    """Independent normal features: log of each class's prior, shape (c,), means and variances, shape (c, k)."""

    log_priors: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    kind: Literal["naive_bayes"] = "naive_bayes"

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        """See FastForm."""
        raw = np.empty((len(matrix), len(self.means)))
        constants = self._constants
        for place, (mean, variance) in enumerate(zip(self.means, self.variances, strict=True)):
            raw[:, place] = constants[place] - 0.5 * ((matrix - mean) ** 2 / variance).sum(axis=1)
        return linked("softmax", raw)

    @cached_property
    def _constants(self) -> np.ndarray:
        """What does not depend on the row, shape (c,)."""
        return np.asarray(self.log_priors - 0.5 * np.log(2 * np.pi * self.variances).sum(axis=1))

    def to_bytes(self) -> bytes:
        """See `packed`."""
        return packed({}, [self.log_priors, self.means, self.variances])

    @classmethod
    def from_bytes(cls, content: bytes) -> NaiveBayes:
        """The inverse of `to_bytes`."""
        _, (log_priors, means, variances) = unpacked(content)
        return cls(log_priors, means, variances)

    @classmethod
    def of(cls, estimator: Any) -> NaiveBayes:
        """Read a fitted GaussianNB."""
        return cls(np.log(estimator.class_prior_), np.array(estimator.theta_), np.array(estimator.var_))


def packed(header: dict[str, Any], arrays: Sequence[np.ndarray]) -> bytes:
    """One line of JSON with the shapes, then the numbers as little-endian float64, array after array.

    >>> unpacked(packed({"a": 1}, [np.array([[0.5, 2.0]])]))
    ({'a': 1}, [array([[0.5, 2. ]])])
    """
    line = json.dumps({"shapes": [array.shape for array in arrays], "header": header}, sort_keys=True)
    return line.encode() + b"\n" + b"".join(np.ascontiguousarray(array, dtype="<f8").tobytes() for array in arrays)


def unpacked(content: bytes) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The inverse of `packed`."""
    line, _, numbers = content.partition(b"\n")
    about = json.loads(line)
    flat = np.frombuffer(numbers, dtype="<f8").astype(np.float64)
    ends = np.cumsum([int(np.prod(shape)) for shape in about["shapes"]])
    parts = np.split(flat, ends[:-1])
    return about["header"], [part.reshape(shape) for part, shape in zip(parts, about["shapes"], strict=True)]


def _activated(activation: Activation, values: np.ndarray) -> np.ndarray:
    if activation == "relu":
        np.maximum(values, 0, out=values)
    elif activation == "tanh":
        np.tanh(values, out=values)
    return sigmoid(values) if activation == "logistic" else values
