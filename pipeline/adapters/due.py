"""Whether a decision about retraining is due, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.adapters.champion_reference import ChampionReference
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.monitoring_records import DetectDriftRecord, OpenAlarm


def due(
    drift: DetectDriftRecord, alarms: Sequence[OpenAlarm], body: dict[str, Any], champion: ChampionReference,
    model: ModelConfig, context: RunContext,
) -> tuple[str, ...]:  # fmt: skip
    """Every reason, in words; none: nothing has to be decided."""
    if model.retraining.mode == "disabled":
        return ()
    return tuple(_reasons(drift, alarms, body, champion, model, context))


def _reasons(
    drift: DetectDriftRecord, alarms: Sequence[OpenAlarm], body: dict[str, Any], champion: ChampionReference,
    model: ModelConfig, context: RunContext,
) -> Iterator[str]:  # fmt: skip
    policy = model.retraining
    for alarm in (*drift.alarms, *alarms):
        if alarm.level == "confirmed":
            yield f"alarm since {alarm.since}: {alarm.subject}: {alarm.told}"
    gap = body["predecessor"]
    if gap is not None and gap["low"] > 0:
        yield f"version {gap['version']}, which answered before, is better by {gap['value']:.4f} on the same fresh rows"
    age = (context.cutoff - champion.cutoff).total_seconds() / 86_400
    if policy.max_age_days is not None and age >= policy.max_age_days:
        yield f"the champion's cut-off is {age:.0f} days old, the model file allows {policy.max_age_days:g}"
    trained = champion.register.evaluate.train.prepare.train_rows
    if policy.min_new_share is not None and body["labelled_rows"] >= policy.min_new_share * trained:
        yield f"{body['labelled_rows']:,} labelled rows are new, {policy.min_new_share:.0%} of those it learned from"
