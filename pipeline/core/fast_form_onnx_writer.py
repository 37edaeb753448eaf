"""Writes trees as an ONNX file. Needs the package `onnx`, at registration only."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from pipeline.core.fast_form_trees import Ensemble, Tree

DOMAIN = "ai.onnx.ml"
INPUT, OUTPUT, HEADER = "matrix", "raw", "evergreen"
IR_VERSION, OPSET = 10, 21
"""Of ONNX 1.16, which every ONNX Runtime since 1.18 reads."""
LESS_OR_EQUAL, SUM, NO_TRANSFORM = 0, 1, 0
"""Numbers that the operator TreeEnsemble gives to modes, aggregations and transformations."""


def model_bytes(ensemble: Ensemble) -> bytes:
    """The file: equal trees give equal bytes. What becomes of the operator's answer stands in its metadata."""
    from onnx import TensorProto, helper

    single = all(tree.values.shape[1] == 1 for tree in ensemble.trees)
    outputs = ensemble.outputs if single else 2 * ensemble.outputs
    answer = TensorProto.DOUBLE if single else TensorProto.FLOAT
    graph = helper.make_graph(
        [_one_output_a_leaf(ensemble) if single else _outputs_a_leaf(ensemble)],
        "trees",
        [helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, ensemble.width])],
        [helper.make_tensor_value_info(OUTPUT, answer, [None, outputs])],
    )
    opsets = [helper.make_opsetid(DOMAIN, 5 if single else 3), helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="evergreen")
    header = {
        "link": ensemble.link, "divisor": ensemble.divisor, "halves": not single, "float32": ensemble.float32,
    }  # fmt: skip
    helper.set_model_props(model, {HEADER: json.dumps(header, sort_keys=True)})
    return bytes(model.SerializeToString(deterministic=True))


def _one_output_a_leaf(ensemble: Ensemble) -> Any:
    """TreeEnsemble: inner nodes and leaves in lists of their own."""
    trees = [_with_a_comparison(tree) for tree in ensemble.trees]
    places = _places(trees)
    inner = [np.flatnonzero(~tree.leaves) for tree in trees]
    node = _node("TreeEnsemble", ensemble.outputs)
    _whole(node, "aggregate_function", [SUM], single=True)
    _whole(node, "post_transform", [NO_TRANSFORM], single=True)
    _whole(node, "tree_roots", [place[0] for place in places])
    _whole(node, "nodes_featureids", *(t.feature[i] for t, i in zip(trees, inner, strict=True)))
    missing = [t.missing_left[i] for t, i in zip(trees, inner, strict=True)]
    if any(flags.any() for flags in missing):
        _whole(node, "nodes_missing_value_tracks_true", *missing)
    for side, branch in (("true", "left"), ("false", "right")):
        children = [getattr(t, branch)[i] for t, i in zip(trees, inner, strict=True)]
        _whole(node, f"nodes_{side}nodeids", *(p[c] for p, c in zip(places, children, strict=True)))
        _whole(node, f"nodes_{side}leafs", *(t.leaves[c] for t, c in zip(trees, children, strict=True)))
    _whole(node, "leaf_targetids", *(np.full(t.leaves.sum(), t.output) for t in trees))
    _tensor(node, "nodes_modes", np.full(sum(map(len, inner)), LESS_OR_EQUAL, dtype=np.uint8))
    _tensor(node, "nodes_splits", np.concatenate([t.threshold[i] for t, i in zip(trees, inner, strict=True)]))
    _tensor(node, "leaf_weights", np.concatenate([t.values[t.leaves, 0] for t in trees]))
    return node


def _outputs_a_leaf(ensemble: Ensemble) -> Any:
    """TreeEnsembleRegressor: nodes by tree and number, and for each leaf two weights an output, see `_halves`."""
    trees = ensemble.trees
    outputs = 2 * ensemble.outputs
    leaves = [np.flatnonzero(tree.leaves) for tree in trees]
    node = _node("TreeEnsembleRegressor", outputs)
    _text(node, "aggregate_function", "SUM")
    _text(node, "post_transform", "NONE")
    _whole(node, "nodes_treeids", *(np.full(len(t.left), number) for number, t in enumerate(trees)))
    _whole(node, "nodes_nodeids", *(np.arange(len(t.left)) for t in trees))
    _whole(node, "nodes_featureids", *(np.where(t.leaves, 0, t.feature) for t in trees))
    _whole(node, "nodes_truenodeids", *(np.where(t.leaves, 0, t.left) for t in trees))
    _whole(node, "nodes_falsenodeids", *(np.where(t.leaves, 0, t.right) for t in trees))
    _text(node, "nodes_modes", *("LEAF" if leaf else "BRANCH_LEQ" for t in trees for leaf in t.leaves))
    if any(t.missing_left[~t.leaves].any() for t in trees):
        _whole(node, "nodes_missing_value_tracks_true", *(t.missing_left & ~t.leaves for t in trees))
    _tensor(node, "nodes_values_as_tensor", np.concatenate([np.where(t.leaves, 0.0, t.threshold) for t in trees]))
    _whole(node, "target_treeids", *(np.full(len(at) * outputs, number) for number, at in enumerate(leaves)))
    _whole(node, "target_nodeids", *(np.repeat(at, outputs) for at in leaves))
    _whole(node, "target_ids", *(np.tile(np.arange(outputs), len(at)) for at in leaves))
    weights = [_halves(t.values[at], len(trees)).ravel() for t, at in zip(trees, leaves, strict=True)]
    _tensor(node, "target_weights_as_tensor", np.concatenate(weights))
    return node


def _halves(shares: np.ndarray, trees: int) -> np.ndarray:
    """Shares, shape (m, classes), from 0 to 1, as a coarse part and the rest, shape (m, 2 * classes).

    The operator sums in float64 and rounds the sum to float32, which has 24 bits. The coarse part keeps so few
    that its sum over the trees is exact; the sum of the rest is below `trees` * 2**-17 and is rounded at 2**-24
    of that: together 1e-12 for a hundred trees, where one float32 would be off by 3e-8 and could swap two classes.
    """
    step = 2.0 ** (math.ceil(math.log2(trees + 1)) - 23)
    coarse = np.round(shares / step) * step
    return np.hstack([coarse, shares - coarse])


def _with_a_comparison(tree: Tree) -> Tree:
    """The operator has no tree without an inner node: a lone leaf becomes one that says the same on both sides."""
    if not tree.leaves[0]:
        return tree
    left, right, none = np.array([1, -1, -1]), np.array([2, -1, -1]), np.zeros(3)
    return Tree(
        left, right, none.astype(np.int64), none, none.astype(bool), np.repeat(tree.values[:1], 3, axis=0), tree.output
    )


def _places(trees: Iterable[Tree]) -> list[np.ndarray]:
    """For each tree the place of each node in the list of inner nodes, or of leaves, of all trees."""
    places, inner_so_far, leaves_so_far = [], 0, 0
    for tree in trees:
        leaf = tree.leaves
        places.append(np.where(leaf, np.cumsum(leaf) - 1 + leaves_so_far, np.cumsum(~leaf) - 1 + inner_so_far))
        inner_so_far, leaves_so_far = inner_so_far + int((~leaf).sum()), leaves_so_far + int(leaf.sum())
    return places


def _node(operator: str, outputs: int) -> Any:
    from onnx import NodeProto

    node = NodeProto(op_type=operator, domain=DOMAIN, input=[INPUT], output=[OUTPUT])
    _whole(node, "n_targets", [outputs], single=True)
    return node


def _whole(node: Any, name: str, *parts: Any, single: bool = False) -> None:
    from onnx import AttributeProto

    values = np.concatenate([np.asarray(part, dtype=np.int64) for part in parts]).tolist()
    if single:
        node.attribute.add(name=name, type=AttributeProto.INT, i=values[0])
    else:
        node.attribute.add(name=name, type=AttributeProto.INTS, ints=values)


def _text(node: Any, name: str, *values: str) -> None:
    from onnx import AttributeProto

    raw = [value.encode() for value in values]
    if len(raw) == 1:
        node.attribute.add(name=name, type=AttributeProto.STRING, s=raw[0])
    else:
        node.attribute.add(name=name, type=AttributeProto.STRINGS, strings=raw)


def _tensor(node: Any, name: str, values: np.ndarray) -> None:
    from onnx import AttributeProto, numpy_helper

    node.attribute.add(name=name, type=AttributeProto.TENSOR, t=numpy_helper.from_array(values, name))
