"""Runs on the command line: one stage, or the whole chain with its progress and its outcome."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import ModelConfig, load_model, override
from pipeline.context import RunContext, parse_instant, run_context
from pipeline.errors import BadConfiguration
from pipeline.records import DeployRecord, Record
from pipeline.settings import Settings, load_settings
from pipeline.stages import STAGES, run_stage


def run(parsed: argparse.Namespace) -> int:
    """The whole chain; 3 where the gate refused."""
    settings, model, context = prepared(parsed)
    seconds: dict[str, float] = {}
    records: dict[str, Record] = {}
    record: Record | None = None
    for number, stage_name in enumerate(STAGES, start=1):
        print(f"[{number}/{len(STAGES)}] {stage_name} ...", file=sys.stderr, flush=True)
        started = time.perf_counter()
        record = run_stage(stage_name, model, context, settings, record)
        seconds[stage_name] = time.perf_counter() - started
        records[stage_name] = record
        print(
            f"[{number}/{len(STAGES)}] {stage_name}: {outcome(record)} ({seconds[stage_name]:.1f} s)",
            file=sys.stderr,
            flush=True,
        )
    assert isinstance(record, DeployRecord)
    if parsed.json:
        print(json.dumps(summary(record, records, seconds), sort_keys=True))
    else:
        print(_people(record))
    return 3 if record.status == "refused" else 0


def stage(parsed: argparse.Namespace) -> int:
    """One stage, on what the stage before it left."""
    settings, model, context = prepared(parsed)
    if getattr(parsed, "repin", False):
        from pipeline.adapters.schemas import unpin

        unpin(model, settings)
    record = run_stage(parsed.stage, model, context, settings)
    if parsed.record:
        path = Path(parsed.record)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record.to_json() + "\n", encoding="utf-8")
    print(record.to_json() if parsed.json else f"{parsed.stage}: {outcome(record)}")
    return 3 if isinstance(record, DeployRecord) and record.status == "refused" else 0


def prepared(parsed: argparse.Namespace) -> tuple[Settings, ModelConfig, RunContext]:
    """Settings, model and context of a command.

    Raises BadConfiguration for a cut-off in the future, and for an override that cannot be.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("evergreen").setLevel(logging.INFO)
    settings = load_settings()
    model = override(load_model(parsed.model, settings.models_dir), dict(_change(text) for text in parsed.overrides))
    now = datetime.now(UTC)
    context = run_context(
        model.name,
        run_id=f"cli-{uuid.uuid4().hex[:12]}",
        kind="manual",
        triggered_at=now,
        requested_cutoff=parsed.cutoff,
    )
    if parsed.cutoff and parse_instant(parsed.cutoff) > now:
        raise BadConfiguration(f"--cutoff {parsed.cutoff} lies in the future; nothing can be known of it yet")
    return settings, model, context


def _change(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise BadConfiguration(f"--set {text!r} is not KEY=VALUE; write for instance --set training.seed=9")
    return key, yaml.safe_load(value)


def outcome(record: Record) -> str:
    """What came out of a stage, in a few words."""
    from pipeline import monitoring_records as m
    from pipeline import records as r
    from pipeline.rollout_records import JudgeRolloutRecord

    match record:
        case m.DetectDriftRecord():
            return f"{record.rows:,} rows of {record.day}: {record.reason}" if record.day else record.reason
        case m.MeasurePerformanceRecord():
            worse = f"; slices that became worse: {record.worse_slices}" if record.worse_slices else ""
            return record.reason + worse
        case m.DecideRetrainingRecord():
            return f"{record.action}: {record.reasons[0]}"
        case JudgeRolloutRecord():
            return f"{record.decision}: {record.reasons[0]}"
        case r.IngestRecord():
            return f"{record.rows:,} rows known, {record.rejected_rows:,} rejected, {record.later_rows:,} not yet known"
        case r.ValidateRecord():
            return f"{record.rows:,} rows passed, {record.quarantined_rows:,} in quarantine"
        case r.PrepareRecord():
            return f"{record.train_rows:,} rows to train, {record.test_rows:,} later ones to judge"
        case r.TrainRecord():
            return f"model {record.digest[:12]}, MLflow run {record.mlflow_run[:12]}"
        case r.EvaluateRecord():
            return f"{record.verdict.decision}: {record.verdict.reasons[-1]}"
        case r.RegisterRecord():
            return f"version {record.version}, served as {record.form}"
        case r.DeployRecord():
            return f"{record.status}: {record.reason}"
    raise TypeError(type(record))


def summary(last: DeployRecord, records: dict[str, Record], seconds: dict[str, float]) -> dict[str, Any]:
    """Every stage's record, the metrics by name, the verdict: one object."""
    evaluate = last.register.evaluate
    return {
        "model": Path(last.register.package).parent.name,
        "stages": {name: _own_fields(record) for name, record in records.items()},
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "metrics": {name: interval.value for name, interval in evaluate.metrics.items()},
        "verdict": evaluate.verdict.decision,
        "reasons": list(evaluate.verdict.reasons),
        "status": last.status,
        "reason": last.reason,
        "version": last.register.version,
        "champion": last.champion,
    }


def _own_fields(record: Record) -> dict[str, Any]:
    """A record without the one before it, which stands beside it."""
    fields = json.loads(record.to_json())
    return {name: value for name, value in fields.items() if name not in STAGES}


def _people(record: DeployRecord) -> str:
    evaluate = record.register.evaluate
    lines = ["", f"{'metric':<28}{'value':>10}   interval"]
    lines += [f"{n:<28}{i.value:>10.4f}   {i.low:.4f} to {i.high:.4f}" for n, i in sorted(evaluate.metrics.items())]
    lines += ["", f"verdict: {evaluate.verdict.decision}", *(f"  {reason}" for reason in evaluate.verdict.reasons)]
    return "\n".join([*lines, f"version {record.register.version}: {record.status}, {record.reason}"])
