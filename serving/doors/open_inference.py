"""The Open Inference Protocol, version 2, over HTTP: JSON, and the extension for binary tensors.

https://github.com/kserve/open-inference-protocol; spoken by KServe, Triton and MLServer.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from pipeline.core.package import InvalidInput
from serving.answering import Refused
from serving.answering_many import Answers, many
from serving.described import Subject
from serving.doors.own import parsed_with_nan
from serving.doors.tensors import (
    Tensor,
    columns_of,
    described,
    from_bytes,
    from_values,
    outputs_of,
    to_bytes,
)
from serving.front import JSON, JSON_TYPES, Call, Door, Reply, as_json
from serving.openapi import DEADLINE, SCHEMAS, USER, json_of, operation
from serving.protocols import MAX_FEATURES, MAX_TEXT
from serving.routing import Served
from serving.service import Service

HEADER = b"inference-header-content-length"
LENGTH = re.compile(rb"[0-9]{1,15}")
BINARY = b"application/octet-stream"
Parameters = dict[str, Any]
Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]


class InferenceInput(BaseModel):
    """A tensor: `data`, or in the binary form the parameter `binary_data_size`."""

    name: str = Field(max_length=MAX_TEXT)
    shape: list[int] = Field(min_length=1, max_length=2)
    datatype: Datatype
    parameters: Parameters | None = None
    data: list[Any] | None = None


class InferenceRequested(BaseModel):
    """An output that is wanted."""

    name: str = Field(max_length=MAX_TEXT)
    parameters: Parameters | None = None


class InferenceRequest(BaseModel):
    """Tensors: one a feature, or one of all features in their order."""

    model_config = ConfigDict(extra="forbid")
    id: str | None = Field(default=None, max_length=MAX_TEXT)
    parameters: Parameters | None = None
    inputs: list[InferenceInput] = Field(min_length=1, max_length=MAX_FEATURES)
    outputs: list[InferenceRequested] | None = None


class InferenceResponse(BaseModel):
    """The outputs."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[dict[str, Any]]


class Known(BaseModel):
    """What the server, or a model, says of itself."""

    model_config = ConfigDict(extra="allow")


class InferenceProblem(BaseModel):
    """Why a request was refused."""

    error: str


def refusal(reason: str, feature: str | None) -> dict[str, str]:
    """A refusal as the protocol tells it."""
    return {"error": f"{feature}: {reason}" if feature else reason}


def doors(service: Service) -> list[Door]:
    """Inference, metadata and health."""

    async def infer(call: Call) -> Reply:
        route, served, user_id = service.asked(call)
        content, binary = _split(call)
        columns = columns_of(_inputs(content, binary), served.predictor.signature)
        answers = await many(service.answering, route, served, columns, user_id, call.started, call.deadline)
        return _reply(content, route.model, served, answers)

    async def server(call: Call) -> Reply:
        return as_json({"name": "evergreen", "version": "1", "extensions": ["binary_tensor_data"]})

    async def live(call: Call) -> Reply:
        return as_json({"live": True})

    async def ready(call: Call) -> Reply:
        if service.follower.problems() or not service.follower.models():
            raise Refused(503, "a model cannot answer yet")
        return as_json({"ready": True})

    async def model_ready(call: Call) -> Reply:
        route, _, _ = service.asked(call)
        return as_json({"name": route.model, "ready": True})

    async def metadata(call: Call) -> Reply:
        route, served, _ = service.asked(call)
        versions = [str(one.variant.version) for one in route.served]
        return as_json({
            "name": route.model, "versions": versions, "platform": f"evergreen_{served.form}",
            **described(served.predictor.signature),
        })  # fmt: skip

    def known(subject: Subject | None) -> dict[str, Any]:
        return operation("Metadata and health", Known, tag="open inference", refusal=InferenceProblem, invalid=400)

    model = "/v2/models/{model}"
    versions = (model, model + "/versions/{version}")
    return [
        Door("GET", "/v2", server, refusal, known, 400),
        Door("GET", "/v2/health/live", live, refusal, known, 400),
        Door("GET", "/v2/health/ready", ready, refusal, known, 400),
        *(Door("POST", f"{path}/infer", infer, refusal, _about, 400, JSON_TYPES | {BINARY}) for path in versions),
        *(Door("GET", f"{path}/ready", model_ready, refusal, known, 400) for path in versions),
        *(Door("GET", path, metadata, refusal, known, 400) for path in versions),
    ]


def _about(subject: Subject | None) -> dict[str, Any]:
    examples = {}
    if subject is not None:
        inputs = [
            {"name": one["name"], "datatype": one["datatype"], "shape": [1], "data": [subject.row[one["name"]]]}
            for one in described(subject.signature)["inputs"]
        ]
        examples = {"a_tensor_each": {"id": "1", "inputs": inputs}}
        examples["one_output"] = {"inputs": inputs, "outputs": [{"name": "prediction"}]}
    schema = InferenceRequest.model_json_schema(ref_template=SCHEMAS)
    schema.pop("$defs")
    raw = {BINARY.decode(): {"schema": {"type": "string", "format": "binary"}}}
    about = operation(
        "Infer", {**json_of(InferenceResponse), **raw}, tag="open inference",
        request={**json_of(schema, **examples), **raw}, refusal=InferenceProblem, invalid=400, headers=(DEADLINE, USER),
    )  # fmt: skip
    about["x-models"] += [InferenceResponse, InferenceRequest]
    about["parameters"].append({
        "name": HEADER.decode(), "in": "header", "required": False,
        "schema": {"type": "string", "pattern": f"^{LENGTH.pattern.decode()}$"},
        "description": "Length of the JSON, where binary tensors follow it",
    })  # fmt: skip
    return about


def _split(call: Call) -> tuple[dict[str, Any], memoryview]:
    """The JSON, and the binary tensors after it."""
    announced = call.headers.get(HEADER)
    if announced is None:
        return parsed_with_nan(call.body), memoryview(b"")
    if not LENGTH.fullmatch(announced) or int(announced) > len(call.body):
        raise InvalidInput(None, "Inference-Header-Content-Length must be the length of the JSON before the tensors")
    end = int(announced)
    return parsed_with_nan(call.body[:end]), memoryview(call.body)[end:]


def _inputs(content: dict[str, Any], binary: memoryview) -> list[Tensor]:
    inputs = content.get("inputs")
    if not isinstance(inputs, list) or not inputs or len(inputs) > MAX_FEATURES:
        raise InvalidInput("inputs", "must be a list of tensors")
    tensors, at = [], 0
    for place, one in enumerate(inputs):
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise InvalidInput(f"inputs[{place}]", "must be an object with a name")
        name, kind, shape = one["name"][:100], one.get("datatype"), one.get("shape")
        size = _parameter(one, "binary_data_size")
        if size is None:
            tensors.append(from_values(one["name"], kind, shape, one.get("data")))  # type: ignore[arg-type]
            continue
        if type(size) is not int or not 0 <= size <= len(binary) - at:
            raise InvalidInput(name, "its binary_data_size is more than the bytes that came")
        tensors.append(from_bytes(one["name"], kind, shape, binary[at : at + size]))  # type: ignore[arg-type]
        at += size
    if at != len(binary):
        raise InvalidInput(None, f"{len(binary) - at} bytes belong to no tensor")
    return tensors


def _parameter(content: dict[str, Any], name: str) -> Any:
    parameters = content.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise InvalidInput("parameters", "must be an object")
    return (parameters or {}).get(name)


def _reply(content: dict[str, Any], model: str, served: Served, answers: Answers) -> Reply:
    wanted = content.get("outputs")
    if wanted is not None and not (isinstance(wanted, list) and all(isinstance(one, dict) for one in wanted)):
        raise InvalidInput("outputs", "must be a list of objects")
    by_default = _parameter(content, "binary_data_output") is True
    found = {tensor.name: tensor for tensor in outputs_of(answers)}
    asked: list[dict[str, Any]] = wanted or [{"name": name} for name in found]
    outputs, raw = [], []
    for one in asked:
        tensor = found.get(str(one.get("name")))
        if tensor is None:
            raise InvalidInput("outputs", f"{str(one.get('name'))[:100]!r} is none of {', '.join(found)}")
        told: dict[str, Any] = {
            "name": tensor.name, "shape": list(tensor.values.shape), "datatype": tensor.kind,
        }  # fmt: skip
        choice = _parameter(one, "binary_data")
        if choice is True or (choice is None and by_default):
            raw.append(to_bytes(tensor))
            told["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            told["data"] = tensor.values.reshape(-1).tolist()
        outputs.append(told)
    body = {"model_name": model, "model_version": str(served.variant.version), "outputs": outputs}
    if isinstance(content.get("id"), str):
        body["id"] = content["id"][:MAX_TEXT]
    text = orjson.dumps(body)
    if not raw:
        return Reply(text, content_type=JSON)
    more = ((HEADER, str(len(text)).encode()),)
    return Reply(b"".join([text, *raw]), content_type=BINARY, headers=more)
