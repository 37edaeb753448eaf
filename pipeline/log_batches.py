"""A batch of answers as one record of the journal: an Arrow IPC stream, features beside what was answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

PREDICTION, CONFIDENCE, SCORES = "__prediction", "__confidence", "__scores"
CONSTANTS = b"evergreen"
"""Key of the schema's metadata that holds what all rows share, as JSON."""


def encode_batch(
    features: Mapping[str, Any], prediction: Any, confidence: Any, scores: np.ndarray, constants: Mapping[str, Any]
) -> Any:
    """The record's payload, a buffer that takes over no array: later changes to them do not reach it.

    `features`: Arrow or numpy arrays of n values by name; `scores`: float64, (n,) or (n, classes); `constants`: model,
    time, user_id, variant, version, digest, latency_seconds, shadow_of, id_prefix.

    >>> payload = encode_batch({"age": np.ones(2)}, np.zeros(2), np.ones(2), np.zeros((2, 2)), {"model": "churn"})
    >>> pa.ipc.open_stream(payload).read_next_batch().num_rows
    2
    """
    arrays = {name: pa.array(values) for name, values in features.items()}
    arrays[PREDICTION] = pa.array(prediction)
    arrays[CONFIDENCE] = pa.array(confidence, pa.float64())
    width = scores.shape[1] if scores.ndim == 2 else 1
    flat = pa.array(np.ascontiguousarray(scores, dtype=np.float64).reshape(-1))
    arrays[SCORES] = pa.FixedSizeListArray.from_arrays(flat, width)
    metadata = {CONSTANTS: json.dumps(dict(constants))}
    batch = pa.record_batch(list(arrays.values()), names=list(arrays)).replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue()
