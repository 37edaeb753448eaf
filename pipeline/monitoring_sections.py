"""The sections of a model file about what happens after deployment: watching the champion, and making a new one."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.sections import AsTuple, Section, Share


class Confirm(Section):
    """When a suspicion becomes an alarm that is told."""

    seen: int = Field(default=2, ge=1)
    """On so many days,"""
    of: int = Field(default=3, ge=1, le=31)
    """of the last so many that were checked, the last one among them."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.seen > self.of:
            raise ValueError(f"seen is {self.seen}, which is more than of, {self.of}")
        return self


class Volume(Section):
    """Rows of a day, against the median of the days before."""

    min_share: Share = 0.5
    max_share: float = Field(default=3.0, gt=1)


class Monitoring(Section):
    """How the champion is watched."""

    data: Literal["source", "predictions"] = "source"
    """What it meets. `source`: rows of the table on the day they arrive; `predictions`: what the service answered."""
    windows_days: Annotated[tuple[int, ...], AsTuple] = Field(default=(1, 7, 30), min_length=1)
    calibration: Literal["blocks", "independent"] = "blocks"
    """`blocks`: days differ by as much as those of the reference did; a reference without days is `not calibrated`.
    `independent`: rows are taken for independent, which real days seldom are."""
    false_alarms_per_year: float = Field(default=1.0, gt=0, le=50)
    """Budget over all columns, windows, days and the performance together."""
    min_rows: int = Field(default=100, ge=20)
    """A window with fewer is `insufficient`."""
    min_effect: float = Field(default=0.1, ge=0)
    """Population stability index of a column below which a change is too small to matter."""
    min_impact: Share = 0.02
    """Share of the champion's error that has to come on top before it matters."""
    confirm: Confirm = Confirm()
    cool_down_days: int = Field(default=7, ge=0)
    """A column that was resolved is quiet for so long."""
    resolve_after_days: int = Field(default=3, ge=1)
    """Days without a finding after which an alarm is resolved."""
    labels_known_share: float = Field(default=0.95, gt=0, le=1)
    """A window of which fewer labels are known is immature: corrected, marked, never alarmed."""
    max_bad_share: Share = 0.01
    """Unseen categories, values outside of the known range or of no readable type: more of a day are an event."""
    volume: Volume = Volume()
    max_silence_hours: float = Field(default=36, gt=0)
    """Age of the newest row beyond which the data counts as late."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if sorted(set(self.windows_days)) != list(self.windows_days) or self.windows_days[0] < 1:
            raise ValueError("windows_days must rise, from 1 on, such as [1, 7, 30]")
        if self.windows_days[-1] > 366:
            raise ValueError("windows_days: a window is at most 366 days")
        return self


class Retraining(Section):
    """When a new model is made by itself."""

    mode: Literal["enabled", "dry_run", "disabled"] = "enabled"
    """`dry_run`: decide and write down, but do nothing. `disabled`: do not decide."""
    on_alarm: bool = True
    on_performance: bool = True
    max_age_days: float | None = Field(default=60, gt=0)
    """Age of the champion's cut-off from which it is made anew, whatever the monitors see: a champion that was bad when
    it was registered never falls below that. null: age alone is no reason."""
    min_new_share: float | None = Field(default=None, gt=0)
    """New labelled rows as a share of those it learned from; left out: they alone are no reason."""
    cool_down_days: float = Field(default=7, ge=0)
    budget_per_month: int = Field(default=4, ge=1)
    """Retrainings in any 30 days."""
    breaker_after: int = Field(default=2, ge=1)
    """After so many in a row that did not help it stops, and a person is called."""
