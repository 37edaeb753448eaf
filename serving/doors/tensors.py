"""Tensors of the Open Inference Protocol: from JSON or raw bytes to columns by feature, and back."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core.package import InvalidInput, Signature
from serving.answering_many import Answers

DTYPES = {
    "BOOL": np.dtype("?"), "UINT8": np.dtype("<u1"), "UINT16": np.dtype("<u2"), "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"), "INT8": np.dtype("<i1"), "INT16": np.dtype("<i2"), "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"), "FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
}  # fmt: skip
TEXT = "BYTES"
MAX_VALUES = 50_000_000


@dataclass(frozen=True)
class Tensor:
    """A named array of one of the protocol's types; texts are objects."""

    name: str
    kind: str
    values: np.ndarray


def from_values(name: str, kind: str, shape: Any, data: Any) -> Tensor:
    """From JSON: values in the order of rows, flat or nested; null is missing. Raises InvalidInput."""
    shape = checked_shape(name, kind, shape)
    if not isinstance(data, list):
        raise InvalidInput(name, "its data must be a list")
    flat = _flat(name, data)
    if len(flat) != int(np.prod(shape)):
        raise InvalidInput(name, f"has {len(flat)} values, its shape {shape} asks for {int(np.prod(shape))}")
    values: np.ndarray = np.empty(len(flat), dtype=object)
    values[:] = flat
    return Tensor(name, kind, values.reshape(shape))


def from_bytes(name: str, kind: str, shape: Any, raw: bytes | memoryview) -> Tensor:
    """From the binary extension: little-endian, texts with their length in 4 bytes before. Raises InvalidInput."""
    shape = checked_shape(name, kind, shape)
    count = int(np.prod(shape))
    if kind == TEXT:
        return Tensor(name, kind, _texts(name, memoryview(raw), count).reshape(shape))
    dtype = DTYPES[kind]
    if len(raw) != count * dtype.itemsize:
        raise InvalidInput(name, f"has {len(raw)} bytes, its shape {shape} of {kind} asks for {count * dtype.itemsize}")
    return Tensor(name, kind, np.frombuffer(raw, dtype).reshape(shape))


def checked_shape(name: str, kind: Any, shape: Any) -> tuple[int, ...]:
    """A shape that can be. Raises InvalidInput."""
    if not isinstance(kind, str) or (kind != TEXT and kind not in DTYPES):
        raise InvalidInput(name, f"its datatype must be one of {', '.join((*DTYPES, TEXT))}")
    sound = isinstance(shape, list | tuple) and 1 <= len(shape) <= 2
    if not sound or not all(type(size) is int and 0 <= size <= MAX_VALUES for size in shape):
        raise InvalidInput(name, "its shape must be [rows] or [rows, columns]")
    if np.prod([float(size) for size in shape]) > MAX_VALUES:
        raise InvalidInput(name, f"holds more than {MAX_VALUES} values")
    return tuple(shape)


def columns_of(tensors: Sequence[Tensor], signature: Signature) -> dict[str, np.ndarray]:
    """Columns by feature: from a tensor each, or from the one tensor of all features in their order.

    Raises InvalidInput.
    """
    names = [feature.name for feature in signature.features]
    if len(tensors) == 1 and tensors[0].values.ndim == 2 and tensors[0].values.shape[1] == len(names):
        whole = tensors[0]
        if whole.name not in names or len(names) == 1:
            return {name: whole.values[:, place] for place, name in enumerate(names)}
    found: dict[str, np.ndarray] = {}
    for one in tensors:
        if one.name in found:
            raise InvalidInput(one.name[:100], "is given twice")
        if one.values.ndim == 2 and one.values.shape[1] != 1:
            raise InvalidInput(one.name[:100], f"has the shape {list(one.values.shape)}; [rows] or [rows, 1] is wanted")
        found[one.name] = one.values.reshape(-1)
    return found


def outputs_of(answers: Answers) -> list[Tensor]:
    """What was answered: prediction, and for a classifier confidence and scores, in the order of its classes."""
    texts = any(isinstance(one, str) for one in answers.labels)
    if answers.scores.ndim == 1:
        return [Tensor("prediction", "FP64", np.asarray(answers.labels, dtype=np.float64))]
    labels: np.ndarray = np.empty(len(answers.labels), dtype=object)
    labels[:] = answers.labels
    prediction = Tensor("prediction", TEXT, labels) if texts else Tensor("prediction", "INT64", labels.astype("<i8"))
    return [
        prediction,
        Tensor("confidence", "FP64", np.asarray(answers.confidences, dtype=np.float64)),
        Tensor("scores", "FP64", np.ascontiguousarray(answers.scores, dtype=np.float64)),
    ]


def to_bytes(tensor: Tensor) -> bytes:
    """In the binary form."""
    if tensor.kind != TEXT:
        return tensor.values.astype(DTYPES[tensor.kind], copy=False).tobytes()
    parts = []
    for text in tensor.values.reshape(-1):
        encoded = str(text).encode()
        parts += [struct.pack("<I", len(encoded)), encoded]
    return b"".join(parts)


def described(signature: Signature) -> dict[str, list[dict[str, Any]]]:
    """Inputs and outputs as the protocol's metadata tells them."""
    inputs = [
        {"name": one.name, "datatype": "FP64" if one.kind == "number" else TEXT, "shape": [-1]}
        for one in signature.features
    ]
    if not signature.classes:
        return {"inputs": inputs, "outputs": [{"name": "prediction", "datatype": "FP64", "shape": [-1]}]}
    label = TEXT if any(isinstance(one, str) for one in signature.classes) else "INT64"
    return {"inputs": inputs, "outputs": [
        {"name": "prediction", "datatype": label, "shape": [-1]},
        {"name": "confidence", "datatype": "FP64", "shape": [-1]},
        {"name": "scores", "datatype": "FP64", "shape": [-1, len(signature.classes)]},
    ]}  # fmt: skip


def _flat(name: str, data: list[Any]) -> list[Any]:
    if not any(isinstance(one, list) for one in data):
        return data
    if not all(isinstance(one, list) for one in data) or any(isinstance(v, list) for one in data for v in one):
        raise InvalidInput(name, "its data must be flat, or a list of rows")
    return [value for one in data for value in one]


def _texts(name: str, raw: memoryview, count: int) -> np.ndarray:
    texts: np.ndarray = np.empty(count, dtype=object)
    at = 0
    for place in range(count):
        if at + 4 > len(raw):
            raise InvalidInput(name, f"ends before its {count} texts are there")
        (length,) = struct.unpack_from("<I", raw, at)
        end = at + 4 + length
        if end > len(raw):
            raise InvalidInput(name, f"ends before its {count} texts are there")
        texts[place], at = bytes(raw[at + 4 : end]), end
    if at != len(raw):
        raise InvalidInput(name, f"has {len(raw) - at} bytes too many")
    return texts
