"""Our own protocol: one row a request, with who asks, and the label that comes back."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool

from pipeline.core.package import InvalidInput
from pipeline.core.row_reader import Given
from serving.answering import Answer
from serving.described import Subject, row
from serving.front import Call, Door, Quick, Reply, as_json
from serving.openapi import DEADLINE, json_of, operation
from serving.protocols import (
    MAX_FEATURES,
    MAX_TEXT,
    MAX_USER_ID,
    PREDICTION_ID,
    FeedbackRequest,
    FeedbackResponse,
    PredictResponse,
    Problem,
    problem,
)
from serving.service import OVERRIDE, Service

PREDICT_KEYS = {"features", "user_id"}


def doors(service: Service) -> list[Door]:
    """`/predict` of the only model and of a named one, and `/feedback`."""

    def begin(call: Call) -> asyncio.Future[Answer]:
        given, user_id = row_of(parsed(call.body))
        route = service.route(call.path.get("model"))
        served = service.served(route, user_id, call.headers.get(OVERRIDE))
        return service.answering.one(route, served, given, user_id, call.started, call.deadline)

    async def predict(call: Call) -> Reply:
        return told(await begin(call))

    async def feedback(call: Call) -> Reply:
        prediction_id, actual = label_of(parsed(call.body))
        return recorded(service, await run_in_threadpool(service.store.take_feedback, prediction_id, actual))

    return [
        Door("POST", "/predict", predict, problem, _about_predict, quick=Quick(begin, told)),
        Door("POST", "/models/{model}/predict", predict, problem, _about_predict, quick=Quick(begin, told)),
        Door("POST", "/feedback", feedback, problem, _about_feedback),
    ]


def _about_predict(subject: Subject | None) -> dict[str, Any]:
    user: dict[str, Any] = {
        "type": ["string", "null"], "maxLength": MAX_USER_ID,
        "description": "The same user always meets the same variant",
    }  # fmt: skip
    request = {
        "type": "object", "properties": {"features": row(subject), "user_id": user}, "required": ["features"],
        "additionalProperties": False,
    }  # fmt: skip
    examples = {}
    if subject is not None:
        by_name = {"features": subject.row, "user_id": "user-1"}
        examples = {"by_name": by_name, "in_order": {"features": list(subject.row.values())}}
    return operation(
        "Answer one row",
        PredictResponse,
        tag="own",
        request=json_of(request, **examples),
        refusal=Problem,
        headers=(DEADLINE,),
    )


def _about_feedback(subject: Subject | None) -> dict[str, Any]:
    request = json_of(FeedbackRequest.model_json_schema(), label={"prediction_id": "0" * 32, "actual": 1})
    return operation(
        "Take the label of a prediction; again replaces it, and counts once", FeedbackResponse, tag="own",
        request=request, refusal=Problem,
    )  # fmt: skip


def parsed(body: bytes) -> dict[str, Any]:
    """A body that is a JSON object. Raises InvalidInput."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(None, f"the body is no JSON: {error}"[:300]) from None
    if not isinstance(content, dict):
        raise InvalidInput(None, "the body must be a JSON object")
    return content


def parsed_with_nan(body: bytes) -> dict[str, Any]:
    """As `parsed`, and NaN is a missing value: no JSON, but what clients in Python send. Raises InvalidInput.

    >>> parsed_with_nan(b'{"inputs": [1, NaN]}')
    {'inputs': [1, None]}
    """
    if b"NaN" not in body:
        return parsed(body)
    try:
        content = json.loads(body, parse_constant=_constant)
        orjson.dumps(content)  # what cannot be written down cannot be logged: halves of characters, huge numbers
    except (ValueError, RecursionError, TypeError) as error:
        raise InvalidInput(None, f"the body is no JSON: {error}"[:300]) from None
    if not isinstance(content, dict):
        raise InvalidInput(None, "the body must be a JSON object")
    return content


def _constant(name: str) -> None:
    if name != "NaN":
        raise ValueError(f"{name} is not finite")


def row_of(content: dict[str, Any]) -> tuple[Given, str | None]:
    """Features and user of a request. Raises InvalidInput."""
    if not PREDICT_KEYS.issuperset(content):
        raise InvalidInput(next(key for key in content if key not in PREDICT_KEYS)[:100], "is no key of a request")
    given: Any = content.get("features")
    user_id = content.get("user_id")
    if type(given) not in (dict, list) or len(given) > MAX_FEATURES:
        raise InvalidInput("features", f"must be an object or a list of at most {MAX_FEATURES} values")
    if user_id is not None and not (isinstance(user_id, str) and len(user_id) <= MAX_USER_ID):
        raise InvalidInput("user_id", f"must be a text of at most {MAX_USER_ID} characters, or null")
    return given, user_id


def label_of(content: dict[str, Any]) -> tuple[str, str | int | float | bool]:
    """Name of a prediction and what came true. Raises InvalidInput."""
    if content.keys() != {"prediction_id", "actual"}:
        raise InvalidInput(None, "a label is {prediction_id, actual}, both of them and nothing else")
    prediction_id, actual = content["prediction_id"], content["actual"]
    if not (isinstance(prediction_id, str) and PREDICTION_ID.fullmatch(prediction_id)):
        raise InvalidInput("prediction_id", "must be the 32 hexadecimal digits of an answer")
    if not isinstance(actual, str | int | float) or len(str(actual)) > MAX_TEXT:
        raise InvalidInput("actual", f"must be a number, a truth value or a text of at most {MAX_TEXT} characters")
    if isinstance(actual, float) and not math.isfinite(actual):
        raise InvalidInput("actual", "must be a finite number")
    return prediction_id, actual


def recorded(service: Service, first: bool) -> Reply:
    """That a label is written down; `first`: for the first time."""
    if first:
        service.telemetry.feedback.inc()
    return as_json({"status": "recorded", "first": first})


def told(answer: Answer) -> Reply:
    """The answer as our protocol tells it."""
    variant = answer.served.variant
    return Reply(orjson.dumps({
        "prediction": answer.prediction, "confidence": answer.confidence, "model_version": variant.version,
        "variant": variant.name, "prediction_id": answer.prediction_id,
    }))  # fmt: skip
