"""Watching on the command line: look for drift, measure, decide; and, where asked, do what was decided."""

from __future__ import annotations

import argparse
import json
import sys
import time

from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.monitoring_records import DecideRetrainingRecord
from pipeline.records import DeployRecord, Record
from pipeline.retraining import carry_out, report
from pipeline.run import outcome, prepared
from pipeline.settings import Settings
from pipeline.stages import MONITORING, STAGES, run_stage


def watch(parsed: argparse.Namespace) -> int:
    """The three stages that watch; with --act also a retraining or a roll back, where that was decided."""
    settings, model, context = prepared(parsed)
    decision = _chain(MONITORING, model, context, settings)
    assert isinstance(decision, DecideRetrainingRecord)
    done = act(decision, model, context, settings) if parsed.act else ""
    if parsed.json:
        print(json.dumps({**json.loads(decision.to_json()), "done": done}, sort_keys=True))
    else:
        print("\n".join(told(decision)))
        if done:
            print(f"done: {done}")
    return 0


def act(decision: DecideRetrainingRecord, model: ModelConfig, context: RunContext, settings: Settings) -> str:
    """Do what was decided; what came of it, in one line."""
    if decision.action != "retrain":
        return carry_out(decision, model, context, settings)
    deploy: Record | None = None
    try:
        deploy = _chain(STAGES, model, context, settings)
    finally:
        last = deploy if isinstance(deploy, DeployRecord) else None
        line = report(decision, last, model, context, settings)
    return line


def told(decision: DecideRetrainingRecord) -> list[str]:
    """What was found and decided, for people."""
    performance = decision.performance
    drift = performance.drift
    lines = ["", f"day {drift.day or '-'}, champion version {drift.champion_version or '-'}: {drift.reason}"]
    lines += [f"  {line}" for line in (*drift.events, *drift.findings)]
    for window in performance.windows:
        estimate = window.estimated
        also = f"; estimated {estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})" if estimate else ""
        lines.append(f"{window.first} to {window.last}: {window.told}{also}")
    if performance.explanation:
        lines.append(performance.explanation)
    if performance.worse:
        lines.append(f"slices that became worse: {performance.worse_slices}, the surest first")
        lines += [f"  {one.told}" for one in performance.worse]
        if performance.worse_slices > len(performance.worse):
            lines.append(f"  and {performance.worse_slices - len(performance.worse)} more, in {performance.details}")
    lines += ["", f"decision: {decision.action}", *(f"  {reason}" for reason in decision.reasons)]
    if drift.report:
        lines.append(f"report: {drift.report}")
    return lines


def _chain(stages: tuple[str, ...], model: ModelConfig, context: RunContext, settings: Settings) -> Record:
    record: Record | None = None
    for number, name in enumerate(stages, start=1):
        label = f"[{number}/{len(stages)}] {name.replace('_', '-')}"
        print(f"{label} ...", file=sys.stderr, flush=True)
        started = time.perf_counter()
        record = run_stage(name, model, context, settings, record)
        print(f"{label}: {outcome(record)} ({time.perf_counter() - started:.1f} s)", file=sys.stderr, flush=True)
    assert record is not None
    return record
