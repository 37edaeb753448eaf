"""TensorFlow Serving's REST protocol, https://www.tensorflow.org/tfx/serving/api_rest.

The default signature gives what a network gives: probabilities, or numbers. `"signature_name": "labels"` gives labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pydantic import BaseModel

from pipeline.core.package import Feature, InvalidInput, Signature
from serving import described
from serving.answering_many import Answers, many
from serving.described import Subject
from serving.doors.own import parsed_with_nan
from serving.front import Call, Door, Reply, as_json
from serving.openapi import DEADLINE, USER, json_of, operation
from serving.service import Service

SCORES, LABELS = "serving_default", "labels"
KEYS = {"signature_name", "instances", "inputs"}


class TensorflowResponse(BaseModel):
    """One entry a row: probabilities by class, a number, or a label."""

    predictions: list[Any] | None = None
    outputs: list[Any] | None = None


class TensorflowProblem(BaseModel):
    """Why a request was refused."""

    error: str


class TensorflowStatus(BaseModel):
    """Versions that answer."""

    model_version_status: list[dict[str, Any]]


class TensorflowMetadata(BaseModel):
    """Inputs and outputs."""

    model_spec: dict[str, Any]
    metadata: dict[str, Any]


def refusal(reason: str, feature: str | None) -> dict[str, str]:
    """A refusal as TensorFlow Serving tells it."""
    return {"error": f"{feature}: {reason}" if feature else reason}


def doors(service: Service) -> list[Door]:
    """Predict, status and metadata, of the version that answers or of a named one."""

    async def predict(call: Call) -> Reply:
        route, served, user_id = service.asked(call)
        content = parsed_with_nan(call.body)
        unknown = next((key for key in content if key not in KEYS), None)
        if unknown is not None:
            raise InvalidInput(unknown[:100], "is no key of a predict request")
        name = content.get("signature_name", SCORES)
        if name not in (None, SCORES, LABELS):
            raise InvalidInput("signature_name", f"must be {SCORES} or {LABELS}")
        by_row = "instances" in content
        if by_row == ("inputs" in content):
            raise InvalidInput(None, "give exactly one of instances and inputs")
        signature = served.predictor.signature
        given = rows(content["instances"], signature) if by_row else columns(content["inputs"], signature)
        answers = await many(service.answering, route, served, given, user_id, call.started, call.deadline)
        return as_json({"predictions" if by_row else "outputs": _told(answers, labels=name == LABELS)})

    async def status(call: Call) -> Reply:
        route = service.route(call.path["model"])
        asked = (service.version(route, call.path["version"]),) if "version" in call.path else route.served
        fine = {"error_code": "OK", "error_message": ""}
        return as_json({"model_version_status": [
            {"version": str(one.variant.version), "state": "AVAILABLE", "status": fine} for one in asked
        ]})  # fmt: skip

    async def metadata(call: Call) -> Reply:
        route, served, _ = service.asked(call)
        return as_json(
            {
                "model_spec": {"name": route.model, "signature_name": "", "version": str(served.variant.version)},
                "metadata": {"signature_def": {"signature_def": _definitions(served.predictor.signature)}},
            }
        )

    def known(summary: str, response: type[BaseModel]) -> Callable[[Subject | None], dict[str, Any]]:
        return lambda _: operation(summary, response, tag="tensorflow", refusal=TensorflowProblem, invalid=400)

    return [
        Door(method, f"/v1/models/{{model}}{version}{what}", handle, refusal, about, 400)
        for version in ("", "/versions/{version}")
        for method, what, handle, about in (
            ("POST", ":predict", predict, _about),
            ("GET", "", status, known("Versions that answer", TensorflowStatus)),
            ("GET", "/metadata", metadata, known("Inputs and outputs", TensorflowMetadata)),
        )
    ]


def _about(subject: Subject | None) -> dict[str, Any]:
    one = described.row(subject)
    if subject is not None and len(subject.signature.features) == 1:
        one = {"anyOf": [*one["anyOf"], subject.value(subject.signature.features[0])]}
    request = {
        "type": "object",
        "properties": {
            "signature_name": {"enum": [SCORES, LABELS, None]},
            "instances": described.table(one),
            "inputs": {"anyOf": [described.columns(subject), described.table(one)]},
        },
        "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}], "additionalProperties": False,
    }  # fmt: skip
    examples = {}
    if subject is not None:
        examples = {
            "rows": {"instances": [subject.row]},
            "rows_in_order": {"signature_name": LABELS, "instances": [list(subject.row.values())]},
            "columns": {"inputs": {name: [value, value] for name, value in subject.row.items()}},
        }
    return operation(
        "Answer rows or columns", TensorflowResponse, tag="tensorflow", request=json_of(request, **examples),
        refusal=TensorflowProblem, invalid=400, headers=(DEADLINE, USER),
    )  # fmt: skip


def rows(instances: Any, signature: Signature) -> list[Any]:
    """Rows of `instances`. Raises InvalidInput."""
    if not isinstance(instances, list):
        raise InvalidInput("instances", "must be a list")
    given: list[Any] = instances
    if len(signature.features) == 1:
        given = [one if isinstance(one, dict | list) else [one] for one in given]
    for place, one in enumerate(given):
        if not isinstance(one, dict | list):
            raise InvalidInput(f"instances[{place}]", "must be an object, or a list of the features in their order")
    return given


def columns(inputs: Any, signature: Signature) -> Any:
    """Columns by name; a list is the one input, or rows of all of them."""
    if isinstance(inputs, dict):
        return {name: _column(name, values) for name, values in inputs.items()}
    if isinstance(inputs, list):
        return rows(inputs, signature)
    raise InvalidInput("inputs", "must be an object of columns, or a list")


def _column(name: str, values: Any) -> np.ndarray:
    if not isinstance(values, list):
        raise InvalidInput(name[:100], "must be a list with one value a row")
    column = np.empty(len(values), dtype=object)
    column[:] = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in values]
    return column


def _told(answers: Answers, *, labels: bool) -> list[Any]:
    scores: list[Any] = answers.scores.tolist()
    return answers.labels if labels else scores


def _definitions(signature: Signature) -> dict[str, Any]:
    inputs = {feature.name: _tensor(feature.name, _type(feature), ["-1"]) for feature in signature.features}
    classes = [str(len(signature.classes))] if signature.classes else []
    label = "DT_STRING" if any(isinstance(one, str) for one in signature.classes) else "DT_INT64"
    kinds = {SCORES: ("scores", "DT_DOUBLE", ["-1", *classes])}
    kinds[LABELS] = ("labels", label if signature.classes else "DT_DOUBLE", ["-1"])
    return {
        name: {
            "inputs": inputs, "outputs": {out: _tensor(out, kind, shape)},
            "method_name": "tensorflow/serving/predict",
        }
        for name, (out, kind, shape) in kinds.items()
    }  # fmt: skip


def _type(feature: Feature) -> str:
    return "DT_DOUBLE" if feature.kind == "number" else "DT_STRING"


def _tensor(name: str, kind: str, shape: list[str]) -> dict[str, Any]:
    dimensions = [{"size": size, "name": ""} for size in shape]
    return {"dtype": kind, "tensor_shape": {"dim": dimensions, "unknown_rank": False}, "name": f"{name}:0"}
