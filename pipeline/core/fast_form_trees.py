"""Trees of fitted scikit-learn estimators as plain arrays, however the estimator keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.core.fast_form_links import Link
from pipeline.core.preparation import NotRepresentable

SINGLE = ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor")
FORESTS = ("ExtraTreesClassifier", "ExtraTreesRegressor", "RandomForestClassifier", "RandomForestRegressor")
GRADIENT = ("GradientBoostingClassifier", "GradientBoostingRegressor")
HISTOGRAM = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
NAMES = SINGLE + FORESTS + GRADIENT + HISTOGRAM
LOG_LOSSES = ("poisson", "gamma")


@dataclass(frozen=True)
class Tree:
    """Nodes by number, the root first. A row goes left where its value is at most the threshold."""

    left: np.ndarray
    """Shape (nodes,); -1 marks a leaf."""
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    """Whether a row without a value goes left."""
    values: np.ndarray
    """What a leaf adds to the outputs from `output` on, shape (nodes, m)."""
    output: int = 0

    @property
    def leaves(self) -> np.ndarray:
        """Which nodes are leaves, shape (nodes,)."""
        return self.left < 0


@dataclass(frozen=True)
class Ensemble:
    """Raw outputs are the sum over the trees, in their order, by `divisor`; `link` makes scores of them.

    Summed in scikit-learn's own order and divided last, outputs are scikit-learn's to the last bit. That is
    what keeps a forest whose trees are undecided (50 of 100) on the same side of a threshold of 0.5.
    """

    trees: tuple[Tree, ...]
    width: int
    """Columns of the matrix."""
    outputs: int
    divisor: int
    link: Link
    float32: bool
    """Values are rounded to float32 before they meet a threshold, as scikit-learn's own trees do."""

    @property
    def nodes(self) -> int:
        """Nodes of all trees."""
        return sum(len(tree.left) for tree in self.trees)


def ensemble_of(estimator: Any) -> Ensemble:
    """Read a fitted estimator of `NAMES`. Raises NotRepresentable."""
    name = type(estimator).__name__
    if name in HISTOGRAM:
        return _histogram(estimator)
    if name in GRADIENT:
        return _gradient(estimator)
    if estimator.n_outputs_ != 1:
        raise NotRepresentable("trees with several targets have no plain form")
    members = estimator.estimators_ if name in FORESTS else [estimator]
    classes = len(estimator.classes_) if hasattr(estimator, "classes_") else 0
    columns = slice(1, 2) if classes == 2 else slice(0, max(classes, 1))
    trees = tuple(_tree(member.tree_, member.tree_.value[:, 0, columns]) for member in members)
    link: Link = "share" if classes == 2 else "identity"
    outputs = trees[0].values.shape[1]
    return Ensemble(trees, estimator.n_features_in_, outputs, len(trees), link, float32=True)


def thresholds_of(estimator: Any) -> tuple[np.ndarray, np.ndarray]:
    """Columns and thresholds of all comparisons, sorted, each pair once; shape (m,) both, none where no trees are.

    Thresholds that every number lies below (a split on missing or not) are left out.
    """
    name = type(estimator).__name__
    if name in HISTOGRAM:
        nodes = np.concatenate([p.nodes for stage in estimator._predictors for p in stage])
        nodes = nodes[(nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0)]
        columns, limits = _own_columns(estimator)[nodes["feature_idx"]], nodes["num_threshold"]
    elif name in NAMES:
        grown = np.ravel(getattr(estimator, "estimators_", [estimator]))
        inner = [(t.tree_, t.tree_.children_left >= 0) for t in grown]
        columns = np.concatenate([tree.feature[kept] for tree, kept in inner])
        limits = np.concatenate([tree.threshold[kept] for tree, kept in inner])
    else:
        return np.empty(0, dtype=np.intp), np.empty(0)
    pairs = np.unique(np.column_stack([columns.astype(np.float64), limits])[np.isfinite(limits)], axis=0)
    return pairs[:, 0].astype(np.intp), pairs[:, 1]


def _tree(grown: Any, values: np.ndarray, output: int = 0) -> Tree:
    return Tree(
        grown.children_left, grown.children_right, grown.feature, grown.threshold,
        np.asarray(grown.missing_go_to_left, dtype=bool), values, output,
    )  # fmt: skip


def _gradient(estimator: Any) -> Ensemble:
    if estimator.init_ != "zero" and not type(estimator.init_).__name__.startswith("Dummy"):
        raise NotRepresentable(f"boosting that starts from {type(estimator.init_).__name__} has no plain form")
    base = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_)))[0].astype(np.float64)
    link: Link = "identity"
    scale = 1.0
    if hasattr(estimator, "classes_"):
        link = "logistic" if len(base) == 1 else "softmax"
        # The exponential loss has half the log odds as its raw output.
        scale = 2.0 if estimator.loss == "exponential" else 1.0
    trees = [
        _tree(member.tree_, member.tree_.value[:, 0] * (estimator.learning_rate * scale), output)
        for stage in estimator.estimators_
        for output, member in enumerate(stage)
    ]
    return Ensemble(_based(trees, base * scale), estimator.n_features_in_, len(base), 1, link, float32=True)


def _histogram(estimator: Any) -> Ensemble:
    if estimator.is_categorical_ is not None:
        raise NotRepresentable("splits on categories have no plain form; treelite knows them")
    base = np.ravel(estimator._baseline_prediction).astype(np.float64)
    if hasattr(estimator, "classes_"):
        link: Link = "logistic" if len(base) == 1 else "softmax"
    else:
        link = "log" if estimator.loss in LOG_LOSSES else "identity"
    trees = []
    for stage in estimator._predictors:
        for output, predictor in enumerate(stage):
            nodes = predictor.nodes
            inner = nodes["is_leaf"] == 0
            left = np.where(inner, nodes["left"].astype(np.int64), -1)
            right = np.where(inner, nodes["right"].astype(np.int64), -1)
            missing = nodes["missing_go_to_left"].astype(bool)
            threshold, value = nodes["num_threshold"].copy(), nodes["value"].reshape(-1, 1).copy()
            trees.append(Tree(left, right, nodes["feature_idx"].copy(), threshold, missing, value, output))
    return Ensemble(_based(trees, base), estimator.n_features_in_, len(base), 1, link, float32=False)


def _based(trees: Sequence[Tree], base: np.ndarray) -> tuple[Tree, ...]:
    """The trees, of which the first of each output starts from that output's base value."""
    first = len(base)
    return tuple(replace(tree, values=tree.values + base[tree.output]) for tree in trees[:first]) + tuple(trees[first:])


def _own_columns(estimator: Any) -> np.ndarray:
    """The matrix's column by the number that histogram boosting gives it: categories come first there."""
    category = estimator.is_categorical_
    if category is None:
        return np.arange(estimator.n_features_in_)
    return np.concatenate([np.flatnonzero(category), np.flatnonzero(~category)])
