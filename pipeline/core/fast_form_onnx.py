"""Trees as one operator of ONNX, evaluated by ONNX Runtime on one thread.

`TreeEnsemble` (ai.onnx.ml 5) compares, sums and answers in float64. It has one output a leaf, so forests of
several classes take the older `TreeEnsembleRegressor` (ai.onnx.ml 3), which compares and sums in float64 too
but answers in float32; each output is therefore written as two whose sum is exact enough. Links are ours.

A server loads bytes whose digest it has checked. The file holds nothing but the operator and plain attributes:
no external data, no library of custom operators, no code.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np

from pipeline.core.fast_form_links import Link, linked
from pipeline.core.fast_form_onnx_writer import HEADER, INPUT, OUTPUT, model_bytes
from pipeline.core.fast_form_trees import ensemble_of
from pipeline.core.preparation import NotRepresentable

MAX_NODES = 3_000_000
"""ONNX Runtime loads about two million nodes a second, and a server should be ready soon; treelite takes the rest."""


class OnnxTrees:
    """An ONNX model as bytes, and the session that evaluates it."""

    kind: Literal["onnx"] = "onnx"

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._session = _session(content)
        header = json.loads(self._session.get_modelmeta().custom_metadata_map[HEADER])
        self._link: Link = header["link"]
        self._float32: bool = header["float32"]
        self._divisor: int = header["divisor"]
        self._halves: bool = header["halves"]
        self._outputs = [OUTPUT]

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        """See FastForm. What is too large for float32 is infinite where scikit-learn's trees would refuse it."""
        if self._float32:
            with np.errstate(over="ignore"):
                matrix = matrix.astype(np.float32).astype(np.float64)
        raw = self._session.run(self._outputs, {INPUT: matrix})[0]
        if self._halves:
            raw = raw.astype(np.float64)
            outputs = raw.shape[1] // 2
            raw = raw[:, :outputs] + raw[:, outputs:]
        if self._divisor != 1:
            raw /= self._divisor
        return linked(self._link, raw)

    def to_bytes(self) -> bytes:
        """The ONNX file."""
        return self._content

    @classmethod
    def from_bytes(cls, content: bytes) -> OnnxTrees:
        """The inverse of `to_bytes`."""
        return cls(content)

    @classmethod
    def of(cls, estimator: Any) -> OnnxTrees:
        """Read a fitted estimator of `fast_form_trees.NAMES`. Raises NotRepresentable."""
        ensemble = ensemble_of(estimator)
        if ensemble.nodes > MAX_NODES:
            raise NotRepresentable(f"{ensemble.nodes:,} nodes are more than the {MAX_NODES:,} that are written as ONNX")
        return cls(model_bytes(ensemble))


def _session(content: bytes) -> Any:
    """One thread and no waiting loop: the server's processes are the parallelism."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
