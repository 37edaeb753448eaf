"""The Open Inference Protocol over gRPC: what its methods answer. `serving.doors.grpc_server` is what calls them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core.package import InvalidInput
from serving.answering import Refused
from serving.answering_many import many
from serving.doors.grpc_messages import messages
from serving.doors.tensors import TEXT, Tensor, checked_shape, columns_of, described, from_bytes, outputs_of, to_bytes
from serving.protocols import MAX_FEATURES, MAX_TEXT
from serving.routing import Route, Served
from serving.service import Service

CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", TEXT: "bytes_contents",
}  # fmt: skip
"""The field of InferTensorContents for each type; FP16 comes raw only."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as a method gets it."""

    message: Any
    started: float
    """On the clock of time.perf_counter."""
    deadline: float
    """On the same clock."""
    user_id: str | None
    variant: bytes | None
    """What the override header names."""


Method = Callable[[Asked], Awaitable[Any]]


def methods(service: Service) -> dict[str, Method]:
    """The methods by name. They raise InvalidInput and Refused."""
    made = messages()

    async def server_live(asked: Asked) -> Any:
        return made["ServerLiveResponse"](live=True)

    async def server_ready(asked: Asked) -> Any:
        ready = bool(service.follower.models()) and not service.follower.problems()
        return made["ServerReadyResponse"](ready=ready)

    async def model_ready(asked: Asked) -> Any:
        try:
            _served(service, asked, asked.message.name, asked.message.version)
        except Refused:
            return made["ModelReadyResponse"](ready=False)
        return made["ModelReadyResponse"](ready=True)

    async def server_metadata(asked: Asked) -> Any:
        return made["ServerMetadataResponse"](name="evergreen", version="1", extensions=["binary_tensor_data"])

    async def model_metadata(asked: Asked) -> Any:
        route, served = _served(service, asked, asked.message.name, asked.message.version)
        return made["ModelMetadataResponse"](
            name=route.model, versions=[str(one.variant.version) for one in route.served],
            platform=f"evergreen_{served.form}", **described(served.predictor.signature),
        )  # fmt: skip

    async def infer(asked: Asked) -> Any:
        request = asked.message
        route, served = _served(service, asked, request.model_name, request.model_version)
        columns = columns_of(_inputs(request), served.predictor.signature)
        wanted = [one.name for one in request.outputs]
        answers = await many(
            service.answering, route, served, columns, asked.user_id, asked.started, asked.deadline
        )  # fmt: skip
        found = {tensor.name: tensor for tensor in outputs_of(answers)}
        response = made["ModelInferResponse"](
            model_name=route.model, model_version=str(served.variant.version), id=request.id[:MAX_TEXT]
        )
        _write(response, _chosen(found, wanted), raw=bool(request.raw_input_contents))
        return response

    return {
        "ServerLive": server_live, "ServerReady": server_ready, "ModelReady": model_ready,
        "ServerMetadata": server_metadata, "ModelMetadata": model_metadata, "ModelInfer": infer,
    }  # fmt: skip


def _served(service: Service, asked: Asked, model: str, version: str) -> tuple[Route, Served]:
    route = service.route(model or None)
    if version:
        return route, service.version(route, version)
    return route, service.served(route, asked.user_id, asked.variant)


def _inputs(request: Any) -> list[Tensor]:
    raw, inputs = request.raw_input_contents, request.inputs
    if not inputs or len(inputs) > MAX_FEATURES:
        raise InvalidInput("inputs", f"must be from 1 to {MAX_FEATURES} tensors")
    if not raw:
        return [_typed(one) for one in inputs]
    if len(raw) != len(inputs):
        raise InvalidInput(None, f"{len(raw)} raw_input_contents for {len(inputs)} inputs")
    if any(one.HasField("contents") for one in inputs):
        raise InvalidInput(None, "give either contents or raw_input_contents")
    return [
        from_bytes(one.name, one.datatype, tuple(one.shape), content)
        for one, content in zip(inputs, raw, strict=True)
    ]  # fmt: skip


def _typed(one: Any) -> Tensor:
    """From `contents`, a list of the tensor's type."""
    shape = checked_shape(one.name, one.datatype, tuple(one.shape))
    field = CONTENTS.get(one.datatype)
    if field is None:
        raise InvalidInput(one.name[:100], f"{one.datatype} is given in raw_input_contents only")
    others = [descriptor.name for descriptor, _ in one.contents.ListFields() if descriptor.name != field]
    if others:
        raise InvalidInput(one.name[:100], f"{one.datatype} is given in {field}, not in {others[0]}")
    given = getattr(one.contents, field)
    count = int(np.prod(shape))
    if len(given) != count:
        raise InvalidInput(one.name[:100], f"has {len(given)} values, its shape {shape} asks for {count}")
    if one.datatype != TEXT:
        return Tensor(one.name, one.datatype, np.array(given).reshape(shape))
    texts: np.ndarray = np.empty(count, dtype=object)
    texts[:] = list(given)
    return Tensor(one.name, one.datatype, texts.reshape(shape))


def _chosen(found: Mapping[str, Tensor], wanted: Sequence[str]) -> list[Tensor]:
    for name in wanted:
        if name not in found:
            raise InvalidInput("outputs", f"{name[:100]!r} is none of {', '.join(found)}")
    return [found[name] for name in wanted] if wanted else list(found.values())


def _write(response: Any, tensors: Sequence[Tensor], *, raw: bool) -> None:
    """As the request came: raw, or in lists of its types."""
    for tensor in tensors:
        told = response.outputs.add(name=tensor.name, datatype=tensor.kind, shape=tensor.values.shape)
        if raw:
            response.raw_output_contents.append(to_bytes(tensor))
            continue
        values = tensor.values.reshape(-1).tolist()
        if tensor.kind == TEXT:
            values = [str(text).encode() for text in values]
        getattr(told.contents, CONTENTS[tensor.kind]).extend(values)
