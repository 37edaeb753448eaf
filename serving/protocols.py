"""What requests and answers look like."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Value = str | int | float | bool | None
Label = str | int | float | bool
MAX_FEATURES = 10_000
MAX_TEXT = 10_000
MAX_USER_ID = 256
PREDICTION_ID = re.compile(r"[0-9a-f]{32}")


class Message(BaseModel):
    """Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class PredictResponse(Message):
    """The answer."""

    prediction: Label
    confidence: float | None = Field(description="Probability of the prediction; null for regression")
    model_version: int
    variant: str
    prediction_id: str = Field(description="Names this answer in the log, and takes its label at /feedback")


class FeedbackRequest(Message):
    """What came true."""

    prediction_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    actual: Annotated[str, Field(max_length=MAX_TEXT)] | int | float | bool


class FeedbackResponse(Message):
    """Whether this label was the first for its prediction."""

    status: str
    first: bool


class Reason(Message):
    """Why a request was refused."""

    feature: str | None = None
    reason: str


class Problem(Message):
    """The body of every refusal."""

    error: Reason


def problem(reason: str, feature: str | None = None) -> dict[str, Any]:
    """The body of every refusal."""
    return {"error": {"feature": feature, "reason": reason}}
