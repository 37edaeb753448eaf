"""The stages: one public function a file, and the one way in which every runner calls them."""

from __future__ import annotations

import importlib
import os
import typing
from datetime import datetime
from pathlib import Path

from pipeline.config import ModelConfig
from pipeline.context import RunContext, cutoff_of
from pipeline.errors import BadConfiguration
from pipeline.records import Record
from pipeline.settings import Settings

STAGES = ("ingest", "validate", "prepare", "train", "evaluate", "register", "deploy")
"""Names of the stages of a training run, in order. Each is the function of that name in the module of that name."""
MONITORING = ("detect_drift", "measure_performance", "decide_retraining")
"""Names of the stages that watch a champion, in order."""
ROLLOUT = ("judge_rollout",)
"""What judges a challenger on live traffic: a chain of one."""
DECIDES = "decide_retraining"
"""It may run between two checks, as when an alert calls: on what the newest check before its cut-off has left."""


def run_stage(
    stage: str, model: ModelConfig, context: RunContext, settings: Settings, upstream: Record | None = None
) -> Record:
    """Run one stage; without `upstream`, on the record that the stage before it left for this cut-off.

    The returned record is also left under `settings.runs`, for the next stage, whoever runs it.
    Raises BadConfiguration where the stage before it has not run for this cut-off.
    """
    function = getattr(importlib.import_module(f"pipeline.stages.{stage}"), stage)
    earlier = before(stage)
    if earlier is None:
        record = function(model, context, settings)
    else:
        if upstream is None and stage == DECIDES:
            upstream = newest_left(earlier, context.model, context.cutoff, settings)
        if upstream is None:
            upstream = left_by(earlier, context, settings)
        record = function(upstream, model, context, settings)
    _leave(record, record_file(stage, context, settings))
    return typing.cast(Record, record)


def before(stage: str) -> str | None:
    """The stage whose record this one takes; None for the first of its chain.

    >>> before("train"), before("ingest"), before("measure_performance")
    ('prepare', None, 'detect_drift')
    """
    chain = next(chain for chain in (MONITORING, ROLLOUT, STAGES) if stage in chain)
    position = chain.index(stage)
    return chain[position - 1] if position else None


def record_type(stage: str) -> type[Record]:
    """The record that a stage returns.

    >>> record_type("detect_drift").__name__
    'DetectDriftRecord'
    """
    name = "monitoring_records" if stage in MONITORING else "rollout_records" if stage in ROLLOUT else "records"
    module = importlib.import_module(f"pipeline.{name}")
    return typing.cast(type[Record], getattr(module, stage.title().replace("_", "") + "Record"))


def record_file(stage: str, context: RunContext, settings: Settings) -> Path:
    """Where a stage leaves its record for this model and cut-off."""
    return settings.runs / context.model / context.label / f"{stage}.json"


def left_by(stage: str, context: RunContext, settings: Settings) -> Record:
    """What a stage left for this model and cut-off.

    Raises BadConfiguration where it has not run.
    """
    path = record_file(stage, context, settings)
    if not path.is_file():
        at = context.cutoff.isoformat()
        raise BadConfiguration(
            f"{stage} has not run for {context.model} at {at}; first run "
            f"`python -m pipeline {stage.replace('_', '-')} --model {context.model} --cutoff {at}`"
        )
    return record_type(stage).from_json(path.read_text(encoding="utf-8"))


def newest_left(stage: str, model: str, cutoff: datetime, settings: Settings) -> Record | None:
    """What a stage found at the newest cut-off that is not after this one; None where it has found nothing yet."""
    folders = [path.parent for path in (settings.runs / model).glob(f"*/{stage}.json")]
    dated = [(cutoff_of(folder.name), folder) for folder in folders]
    for _, folder in sorted(((at, folder) for at, folder in dated if at <= cutoff), reverse=True):
        record = record_type(stage).from_json((folder / f"{stage}.json").read_text(encoding="utf-8"))
        if getattr(record, "status", "ok") == "ok":
            return record
    return None


def _leave(record: Record, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(record.to_json() + "\n", encoding="utf-8")
    temporary.replace(path)
