"""MLflow's scoring protocol, https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from pipeline.core.package import InvalidInput, Signature
from serving.answering_many import many
from serving.described import ANY_VALUE, Subject, columns, named_row, row, table
from serving.doors import tensorflow
from serving.doors.own import parsed_with_nan
from serving.front import JSON, JSON_TYPES, Call, Door, Reply, as_json
from serving.openapi import DEADLINE, USER, json_of, operation
from serving.service import Service

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
CSV, PLAIN = b"text/csv", b"text/plain"
VERSION = b"3.17.0"
"""Of MLflow, whose protocol this is."""


class InvocationsResponse(BaseModel):
    """One label, or number, a row."""

    predictions: list[str | int | float]


class MlflowProblem(BaseModel):
    """Why a request was refused."""

    error_code: str
    message: str


def refusal(reason: str, feature: str | None) -> dict[str, str]:
    """A refusal as MLflow tells it."""
    return {"error_code": "BAD_REQUEST", "message": f"{feature}: {reason}" if feature else reason}


def doors(service: Service) -> list[Door]:
    """Scoring of the only model, and what clients ask before."""

    async def invocations(call: Call) -> Reply:
        route, served, user_id = service.asked(call)
        signature = served.predictor.signature
        kind = call.headers.get(b"content-type", JSON).partition(b";")[0].strip().lower()
        given: Any = _csv(call.body, signature) if kind == CSV else _json(parsed_with_nan(call.body), signature)
        answers = await many(service.answering, route, served, given, user_id, call.started, call.deadline)
        return as_json({"predictions": answers.labels})

    async def ping(call: Call) -> Reply:
        service.route(None)
        return Reply(b"\n", content_type=PLAIN)

    async def version(call: Call) -> Reply:
        return Reply(VERSION, content_type=PLAIN)

    def plain(summary: str) -> Callable[[Subject | None], dict[str, Any]]:
        told = {PLAIN.decode(): {"schema": {"type": "string"}}}
        return lambda _: operation(summary, told, tag="mlflow", refusal=MlflowProblem, invalid=400)

    return [
        Door("POST", "/invocations", invocations, refusal, _about, 400, JSON_TYPES | {CSV}),
        Door("GET", "/ping", ping, refusal, plain("Whether the model answers"), 400),
        Door("GET", "/version", version, refusal, plain("The version of MLflow's protocol"), 400),
    ]


def _about(subject: Subject | None) -> dict[str, Any]:
    names = [] if subject is None else list(subject.row)
    width = {} if subject is None else {"minItems": len(names), "maxItems": len(names)}
    name = {"type": "string"} if subject is None else {"enum": names}
    split = {
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": name, "uniqueItems": True, **width},
            "data": table({"type": "array", "items": ANY_VALUE, **width}),
            "index": {"type": "array"},
        },
        "required": ["columns", "data"], "additionalProperties": False,
    }  # fmt: skip
    inputs = {"anyOf": [columns(subject), table(row(subject))]}
    forms = dict(zip(FORMS, (split, table(named_row(subject)), table(row(subject)), inputs), strict=True))
    request = {
        "type": "object", "properties": {**forms, "params": {"type": ["object", "null"]}},
        "oneOf": [{"required": [form]} for form in FORMS], "additionalProperties": False,
    }  # fmt: skip
    content = json_of(request, **({} if subject is None else _examples(subject.row)))
    content[CSV.decode()] = {"schema": {"type": "string", "description": "A line of names, then one for each row"}}
    if subject is not None:
        values = ["" if value is None else str(value) for value in subject.row.values()]
        content[CSV.decode()]["examples"] = {"table": {"value": _csv_line(names) + _csv_line(values)}}
    return operation(
        "Score a table", InvocationsResponse, tag="mlflow", request=content, refusal=MlflowProblem, invalid=400,
        headers=(DEADLINE, USER),
    )  # fmt: skip


def _examples(example: dict[str, Any]) -> dict[str, Any]:
    return {
        "split": {"dataframe_split": {"columns": list(example), "data": [list(example.values())]}},
        "records": {"dataframe_records": [example]},
        "instances": {"instances": [list(example.values())]},
        "inputs": {"inputs": {name: [value] for name, value in example.items()}},
    }


def _csv_line(fields: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(fields)
    return line.getvalue()


def _json(content: dict[str, Any], signature: Signature) -> Any:
    given = [form for form in FORMS if form in content]
    unknown = next((key for key in content if key not in (*FORMS, "params")), None)
    if len(given) != 1 or unknown is not None:
        raise InvalidInput(unknown and unknown[:100], f"give exactly one of {', '.join(FORMS)}, and nothing else")
    if not isinstance(content.get("params"), dict | None):
        raise InvalidInput("params", "must be an object")
    form = given[0]
    value = content[form]
    if form == "dataframe_split":
        return _split(value)
    if form == "dataframe_records":
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise InvalidInput(form, "must be a list of objects")
        return value
    return (tensorflow.rows if form == "instances" else tensorflow.columns)(value, signature)


def _split(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, dict) or not {"columns", "data"} <= value.keys() <= {"columns", "data", "index"}:
        raise InvalidInput("dataframe_split", "must be an object of columns, data and index")
    names, data = value["columns"], value["data"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise InvalidInput("dataframe_split", "must have columns with names of their own")
    if not isinstance(value.get("index", []), list):
        raise InvalidInput("dataframe_split", "must have a list as its index")
    if not isinstance(data, list) or not all(isinstance(one, list) and len(one) == len(names) for one in data):
        raise InvalidInput("dataframe_split", "must have data with one value a column")
    return [dict(zip(names, one, strict=True)) for one in data]


def _csv(body: bytes, signature: Signature) -> list[dict[str, Any]]:
    """Rows of text; an empty field is a missing value."""
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(None, f"the body is no CSV in UTF-8: {error}"[:300]) from None
    if len(lines) < 2:
        raise InvalidInput(None, "the table must have a line of names, and one for each row")
    names = lines[0]
    if len(set(names)) < len(names):
        raise InvalidInput(None, "two columns have one name")
    numbers = {feature.name for feature in signature.features if feature.kind == "number"}
    rows = []
    for place, line in enumerate(lines[1:], 2):
        if len(line) != len(names):
            raise InvalidInput(None, f"line {place} has {len(line)} fields, the first {len(names)}")
        rows.append({
            name: _number(name, field, place) if name in numbers else field or None
            for name, field in zip(names, line, strict=True)
        })  # fmt: skip
    return rows


def _number(name: str, field: str, line: int) -> float | None:
    if not field.strip():
        return None
    try:
        return float(field)
    except ValueError:
        raise InvalidInput(name, f"line {line} must hold a number, got {field[:40]!r}") from None
