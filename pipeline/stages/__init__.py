"""The stages: one public function a file, and the one way in which every runner calls them."""

from __future__ import annotations

import importlib
import os
import typing
from pathlib import Path

from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.errors import BadConfiguration
from pipeline.records import Record
from pipeline.settings import Settings

STAGES = ("ingest", "validate", "prepare", "train", "evaluate", "register", "deploy")
"""Names of the stages of a training run, in order. Each is the function of that name in the module of that name."""


def run_stage(
    stage: str, model: ModelConfig, context: RunContext, settings: Settings, upstream: Record | None = None
) -> Record:
    """Run one stage; without `upstream`, on the record that the stage before it left for this cut-off.

    The returned record is also left under `settings.runs`, for the next stage, whoever runs it.
    Raises BadConfiguration where the stage before it has not run for this cut-off.
    """
    function = getattr(importlib.import_module(f"pipeline.stages.{stage}"), stage)
    position = STAGES.index(stage)
    if position == 0:
        record = function(model, context, settings)
    else:
        if upstream is None:
            upstream = _left_by(STAGES[position - 1], context, settings)
        record = function(upstream, model, context, settings)
    _leave(record, record_file(stage, context, settings))
    return typing.cast(Record, record)


def record_type(stage: str) -> type[Record]:
    """The record that a stage returns."""
    module = importlib.import_module("pipeline.records")
    return typing.cast(type[Record], getattr(module, f"{stage.title()}Record"))


def record_file(stage: str, context: RunContext, settings: Settings) -> Path:
    """Where a stage leaves its record for this model and cut-off."""
    return settings.runs / context.model / context.label / f"{stage}.json"


def _left_by(stage: str, context: RunContext, settings: Settings) -> Record:
    path = record_file(stage, context, settings)
    if not path.is_file():
        raise BadConfiguration(
            f"{stage} has not run for {context.model} at {context.cutoff.isoformat()}; first run "
            f"`python -m pipeline {stage} --model {context.model} --cutoff {context.cutoff.isoformat()}`"
        )
    return record_type(stage).from_json(path.read_text(encoding="utf-8"))


def _leave(record: Record, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(record.to_json() + "\n", encoding="utf-8")
    temporary.replace(path)
