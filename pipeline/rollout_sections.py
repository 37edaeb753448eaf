"""The section of a model file about how traffic moves to a new champion."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.sections import Approval, AsTuple, Section


class RolloutSection(Section):
    """How a new version meets the traffic, and what it must show on the way."""

    strategy: Literal["direct", "shadow", "canary", "ab"] = "direct"
    """`direct`: all traffic at once. `shadow`: it answers too, unseen. `canary`: a ramp of shares. `ab`: one share."""
    shares: Annotated[tuple[float, ...], AsTuple] = Field(default=(0.01, 0.05, 0.25, 0.5), min_length=1)
    """canary: of the users, step by step. A first share of 0 is a step in shadow."""
    share: float = Field(default=0.5, gt=0, lt=1)
    """ab: of the users."""
    min_hours: float = Field(default=1, ge=0)
    """Of each step."""
    min_requests: int = Field(default=200, ge=1)
    """Answers of the challenger in each step."""
    min_labels: int = Field(default=100, ge=0)
    """Labelled users, or requests of nobody, in each arm in each step. 0: where no label is known yet, the guards
    (failed answers, latency) decide alone."""
    metric: str | None = None
    """A mean over rows; left out: the primary metric where it is one, else money where there is a payoff, else Brier
    score, log loss or squared error."""
    margin: float = Field(default=0.05, gt=0, lt=1)
    """Share of the champion's figure by which the challenger may be worse."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Chance that a challenger that is no worse is rolled back, over all steps and looks."""
    automatic: bool = True
    """Whether the verdict moves the ramp; false: it is only written down."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if sorted(set(self.shares)) != list(self.shares) or self.shares[0] < 0 or self.shares[-1] >= 1:
            raise ValueError("shares must rise, from 0 on and below 1, such as [0.01, 0.05, 0.25, 0.5]")
        if self.shares == (0.0,):
            raise ValueError("shares of 0 alone are a shadow; write strategy: shadow")
        return self

    @property
    def first_share(self) -> float:
        """At which a rollout begins."""
        return {"canary": self.shares[0], "ab": self.share}.get(self.strategy, 0.0)


class Deployment(Section):
    """How traffic moves to a new champion."""

    rollout: RolloutSection = RolloutSection()
    approval: Approval | None = None
    """Left out: the gate decides alone."""

    @model_validator(mode="before")
    @classmethod
    def _strategy(cls, content: Any) -> Any:
        """`deployment.strategy`, as it was written before there was a rollout."""
        if isinstance(content, dict) and "strategy" in content:
            rest = {key: value for key, value in content.items() if key != "strategy"}
            return {**rest, "rollout": {"strategy": content["strategy"], **rest.get("rollout", {})}}
        return content
