"""Arrow IPC streams, for large tables: a column a feature in, a column an answer out.

Arrow is loaded when the first such request comes: a worker that answers row by row does without.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.core.package import InvalidInput
from serving.answering_many import Answers, many
from serving.described import Subject
from serving.front import Call, Door, Reply
from serving.openapi import DEADLINE, USER, operation
from serving.protocols import Problem, problem
from serving.service import Service

STREAM = b"application/vnd.apache.arrow.stream"


def doors(service: Service) -> list[Door]:
    """`/arrow` of the only model, and of a named one."""

    async def predict(call: Call) -> Reply:
        route, served, user_id = service.asked(call)
        columns = _columns(call.body)
        answers = await many(service.answering, route, served, columns, user_id, call.started, call.deadline)
        return Reply(_stream(answers), content_type=STREAM)

    return [
        Door("POST", path, predict, problem, _about, accepts=frozenset((STREAM,)))
        for path in ("/arrow", "/models/{model}/arrow")
    ]  # fmt: skip


def _about(subject: Subject | None) -> dict[str, Any]:
    table = {STREAM.decode(): {"schema": {"type": "string", "format": "binary"}}}
    return operation("Answer a table", table, tag="arrow", request=table, refusal=Problem, headers=(DEADLINE, USER))


def _columns(body: bytes) -> dict[str, np.ndarray]:
    import pyarrow as pa

    try:
        with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
            table = stream.read_all()
        table.validate(full=True)
        if len(set(table.schema.names)) != len(table.schema.names):
            raise InvalidInput(None, "two columns have one name")
        return {name: _column(table.column(name)) for name in table.schema.names}
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(None, f"the body is no Arrow IPC stream: {error}"[:300]) from None


def _column(column: Any) -> np.ndarray:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        numbers: np.ndarray = column.cast(pa.float64()).to_numpy()
        return numbers
    values: np.ndarray = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values


def _stream(answers: Answers) -> bytes:
    import pyarrow as pa

    variant = answers.served.variant
    columns: dict[str, Any] = {"prediction": pa.array(answers.labels)}
    if answers.scores.ndim == 2:
        columns["confidence"] = pa.array(answers.confidences, pa.float64())
        flat = pa.array(np.ascontiguousarray(answers.scores, dtype=np.float64).reshape(-1))
        columns["scores"] = pa.FixedSizeListArray.from_arrays(flat, answers.scores.shape[1])
    metadata = {
        "model_version": str(variant.version), "variant": variant.name,
        "prediction_id_prefix": str(answers.prediction_ids),
    }  # fmt: skip
    batch = pa.record_batch(list(columns.values()), names=list(columns)).replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())
