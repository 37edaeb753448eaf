"""What Alertmanager sends: version 4 of its webhook, as far as it is used. What it adds later is let through."""

from __future__ import annotations

import re
from datetime import UTC
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, Field

MODEL = re.compile(r"[a-z][a-z0-9_]{0,63}")
Text = Annotated[str, Field(max_length=10_000)]


class Alert(BaseModel):
    """One alert, and what is made of it."""

    status: Literal["firing", "resolved"]
    labels: dict[Text, Text] = Field(max_length=100)
    annotations: dict[Text, Text] = Field(default={}, max_length=100)
    startsAt: AwareDatetime  # noqa: N815
    fingerprint: str = Field(pattern=r"^[0-9a-f]{1,32}$")

    @property
    def name(self) -> str:
        """As the rule calls it."""
        return self.labels.get("alertname", "an alert without a name")

    @property
    def model(self) -> str | None:
        """The model it is about; None where that is no name of a model."""
        name = self.labels.get("model", "")
        return name if MODEL.fullmatch(name) else None

    @property
    def run_id(self) -> str:
        """The same for every repeat of one alert, another when it begins anew."""
        begun = self.startsAt.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%f")
        return f"alert__{self.fingerprint}__{begun}Z"

    @property
    def reason(self) -> str:
        """For people, who read it in the DAG run."""
        return f"{self.name}: {self.annotations.get('summary', 'no summary')}".strip()


class Webhook(BaseModel):
    """A group of alerts."""

    version: Literal["4"]
    truncatedAlerts: int = Field(default=0, ge=0)  # noqa: N815
    alerts: list[Alert] = Field(max_length=1000)
