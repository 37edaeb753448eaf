"""The OpenAPI document: what FastAPI knows of its own routes, and the doors beside them, for the models served now."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from serving.described import Subject
from serving.follower import Follower
from serving.front import DEADLINE_HEADER, MAX_REQUEST_ID, REQUEST_ID, TIMEOUT, Door
from serving.protocols import MAX_USER_ID
from serving.service import USER_ID

REFUSALS = {
    "401": "A key is needed",
    "404": "No such model, version or variant",
    "413": "Too large",
    "415": "Another content type, or an encoding",
    "429": "Too many requests at once; Retry-After says when to come again",
    "500": "The model failed",
    "503": "Not ready, or a store behind the service does not answer",
    "504": "The deadline passed",
}
SCHEMAS = "#/components/schemas/{model}"
TEXT = {"type": "string"}
ID = (REQUEST_ID.decode(), f"Comes back with the answer, cut to {MAX_REQUEST_ID} characters", TEXT)
DEADLINE = (
    DEADLINE_HEADER.decode(), "Milliseconds that the caller waits; then 504",
    {"type": "string", "pattern": f"^{TIMEOUT.pattern.decode()}$"},
)  # fmt: skip
USER = (
    USER_ID.decode(), f"The same user always meets the same variant; cut to {MAX_USER_ID} characters", TEXT
)  # fmt: skip
Content = Mapping[str, Mapping[str, Any]]
Header = tuple[str, str, dict[str, Any]]
"""Name, what it is for, schema."""
About = Callable[[Subject | None], dict[str, Any]]
"""The operation of a door, for a model; None: for whichever."""


def operation(
    summary: str,
    response: type[BaseModel] | Content,
    *,
    tag: str,
    request: Content | None = None,
    refusal: type[BaseModel],
    invalid: int = 422,
    headers: Sequence[Header] = (),
) -> dict[str, Any]:
    """An operation. `request`, `response`: by content type; a model stands for JSON of it.

    `refusal` is what it refuses with, `invalid` the status where the request does not fit; `headers`: that it heeds,
    beside ID, which all do. The models ride along under "x-models" until `describe` puts them among the schemas.
    """
    models = [refusal]
    if isinstance(response, type):
        models.append(response)
        response = json_of(response)
    statuses = {str(invalid): "The request does not fit; the answer says why"} | REFUSALS
    described: dict[str, Any] = {
        "summary": summary, "tags": [tag],
        "responses": {"200": {"description": "Answered", "content": response}}
        | {status: {"description": why, "content": json_of(refusal)} for status, why in sorted(statuses.items())},
        "parameters": [
            {"name": name, "in": "header", "required": False, "description": about, "schema": schema}
            for name, about, schema in (ID, *headers)
        ],
        "x-models": models,
    }  # fmt: skip
    if request is not None:
        described["requestBody"] = {"required": True, "content": request}
    return described


def json_of(schema: type[BaseModel] | Mapping[str, Any], **examples: Any) -> dict[str, Any]:
    """The content type of JSON, with examples by name."""
    told = {"$ref": SCHEMAS.format(model=schema.__name__)} if isinstance(schema, type) else schema
    content: dict[str, Any] = {"schema": told}
    if examples:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"application/json": content}


def describe(app: FastAPI, doors: Sequence[Door], follower: Follower, *, with_keys: bool) -> Callable[[], Any]:
    """What replaces `app.openapi`: the whole document, made anew when other models answer."""
    own = app.openapi
    made: dict[tuple[Subject, ...], dict[str, Any]] = {}

    def openapi() -> dict[str, Any]:
        subjects = tuple(_subjects(follower))
        if subjects not in made:
            app.openapi_schema = None  # FastAPI keeps the one that we wrote into
            made.clear()
            made[subjects] = _document(own(), doors, subjects, with_keys=with_keys)
        return made[subjects]

    return openapi


def _subjects(follower: Follower) -> Iterator[Subject]:
    for name in follower.models():
        route = follower.route(name)
        if route is not None:
            predictor = route.served[0].predictor
            versions = tuple(sorted({str(one.variant.version) for one in route.served}))
            yield Subject(name, versions, predictor.signature, predictor.unseen)


def _document(
    document: dict[str, Any], doors: Sequence[Door], subjects: Sequence[Subject], *, with_keys: bool
) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    security: list[dict[str, list[str]]] = []
    if with_keys:
        components.setdefault("securitySchemes", {}).update(
            bearer={"type": "http", "scheme": "bearer"}, key={"type": "apiKey", "in": "header", "name": "X-API-Key"}
        )
        security = [{"bearer": []}, {"key": []}]
    for door in doors:
        if door.about is None:
            continue
        for path, subject in _paths(door.path, subjects):
            about = door.about(subject)
            for model in about.pop("x-models"):
                _put(schemas, model)
            about["parameters"] = [*_variables(path, subject), *about["parameters"]]
            about["operationId"] = re.sub(r"\W+", "_", f"{door.method.lower()}{path}").strip("_")
            if security:
                about["security"] = security
            document["paths"].setdefault(path, {})[door.method.lower()] = about
    return document


def _paths(path: str, subjects: Sequence[Subject]) -> list[tuple[str, Subject | None]]:
    """A path for each model that answers; the pattern itself while none does."""
    if "{model}" in path and subjects:
        return [(path.replace("{model}", one.name), one) for one in subjects]
    return [(path, subjects[0] if len(subjects) == 1 else None)]


def _variables(path: str, subject: Subject | None) -> list[dict[str, Any]]:
    versions = {"type": "string"} if subject is None else {"type": "string", "enum": list(subject.versions)}
    return [
        {"name": name, "in": "path", "required": True, "schema": versions if name == "version" else {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _put(components: dict[str, Any], model: type[BaseModel]) -> None:
    schema = model.model_json_schema(ref_template=SCHEMAS)
    components.update(schema.pop("$defs", {}))
    components[model.__name__] = schema
