"""Decide retraining: nothing, retrain, roll back or call a person; with every reason, in the ledger."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from pipeline.adapters.environment import code_digest
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.digest import digest_of
from pipeline.core.retraining import decide_retraining as decide
from pipeline.core.situation import Decision, Situation
from pipeline.ledger import Event, Ledger, Line
from pipeline.monitoring_records import DecideRetrainingRecord, MeasurePerformanceRecord
from pipeline.settings import Settings


def decide_retraining(
    performance: MeasurePerformanceRecord, model: ModelConfig, context: RunContext, settings: Settings
) -> DecideRetrainingRecord:
    """Weigh what the monitors found against the policy of the model file. The same cut-off again is the same decision.

    Raises OutsideFailure (database).
    """
    from pipeline.adapters.situations import policy_of, situation_of

    with Ledger(settings.database_url) as ledger:
        situation = situation_of(performance, model, context, ledger, settings)
        decision = decide(situation, policy_of(model))
        if context.kind == "backfill":
            return _record(decision, performance, model, None)
        line = ledger.append(_event(decision, situation, performance, model, context))
    if line.body["run_id"] == context.run_id:
        _tell(decision, situation, model, context, settings)
    return _record(decision, performance, model, line)


def _event(
    decision: Decision, situation: Situation, performance: MeasurePerformanceRecord, model: ModelConfig,
    context: RunContext,
) -> Event:  # fmt: skip
    drift = performance.drift
    breaker, since = decision.breaker, decision.breaker.since
    return Event(model.name, "decision", drift.champion_version, {
        "action": decision.action, "judged": decision.judged, "reasons": list(decision.reasons),
        "reason": f"{decision.action}: {decision.reasons[0]}", "mode": model.retraining.mode,
        "breaker": {"is_open": breaker.is_open, "since": since.isoformat() if since else None,
                    "cause": breaker.cause, "episodes": list(breaker.episodes)},
        "called_for": list(decision.called_for), "champion": drift.champion, "due": list(performance.due),
        "realised": asdict(situation.realised) if situation.realised else None,
        "estimated": asdict(situation.estimated) if situation.estimated else None,
        "cutoff": context.cutoff.isoformat(), "run_id": context.run_id, "run_kind": context.kind,
        "performance_key": performance.key, "by": f"run {context.run_id}",
    }, once=f"{context.cutoff.isoformat()} {drift.champion}")  # fmt: skip


def _record(
    decision: Decision, performance: MeasurePerformanceRecord, model: ModelConfig, line: Line | None
) -> DecideRetrainingRecord:
    """What was written down holds, also where this run would now decide otherwise."""
    action = line.body["action"] if line else decision.action
    reasons = tuple(line.body["reasons"]) if line else decision.reasons
    is_open = line.body["breaker"]["is_open"] if line else decision.breaker.is_open
    return DecideRetrainingRecord(
        key=digest_of("decide_retraining", performance.key, action, list(reasons), code_digest()),
        action=action,
        reasons=reasons,
        mode=model.retraining.mode,
        breaker="open" if is_open else "closed",
        line=line.number if line else None,
        performance=performance,
    )


def _tell(
    decision: Decision, situation: Situation, model: ModelConfig, context: RunContext, settings: Settings
) -> None:
    """Gauges, and a call where a person is wanted or the traffic goes back."""
    from pipeline.adapters.gauges_of import retraining_gauges
    from pipeline.adapters.notification import Note, notify
    from pipeline.gauges import ONLY_WHEN_DUE, GaugeStore
    from pipeline.settings import notification_settings

    now = datetime.now(UTC)
    with GaugeStore(settings.database_url) as gauges:
        gauges.replace(model.name, "retraining", retraining_gauges(decision, situation, model), context.cutoff, now,
                       rows=situation.new_rows, max_age_seconds=ONLY_WHEN_DUE)  # fmt: skip
    if decision.action in ("call a person", "roll back"):
        note = Note(model.name, "critical", f"{decision.action}: {decision.reasons[0]}"[:200],
                    decision.reasons)  # fmt: skip
        notify(note, notification_settings(), now)
