"""What the monitors found, as values for Prometheus under the names of `pipeline.gauge_names`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from pipeline.adapters.situations import policy_of
from pipeline.adapters.watch_store import Watched
from pipeline.adapters.watch_told import confirmed_alarms, grades
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.alarm_grades import Graded, scorecard
from pipeline.core.alarms import AlarmState
from pipeline.core.estimation import estimate_error
from pipeline.core.experiment import RolloutVerdict
from pipeline.core.retraining import MONTH
from pipeline.core.situation import Decision, Situation
from pipeline.gauges import Gauge, GaugeStore
from pipeline.ledger import Ledger
from pipeline.monitoring_records import MeasurePerformanceRecord
from pipeline.settings import Settings


def rest(monitor: str, model: ModelConfig, context: RunContext, settings: Settings) -> None:
    """No day is new to the champion: the monitor lives, and what it said of the champion before is over."""
    if context.kind == "backfill":
        return
    with GaugeStore(settings.database_url) as gauges:
        gauges.replace(model.name, monitor, [], context.cutoff, datetime.now(UTC), rows=0,
                       max_age_seconds=model.monitoring.max_silence_hours * 3600)  # fmt: skip


def drift_gauges(kept: Watched, settings: Settings) -> list[Gauge]:
    """Of the newest checked day."""
    return list(_drift(kept, settings))


def _drift(kept: Watched, settings: Settings) -> Iterator[Gauge]:
    model, body = kept.model, kept.body
    for window in (*body["windows"], *body["predictions"]):
        days = str(window["days"])
        for column in sorted(window["columns"], key=lambda one: str(one["column"])):
            if column["kind"] == "pair":
                continue
            labels = {"feature_name": column["column"], "window_days": days}
            yield Gauge("model_feature_drift", model, labels, column["psi"])
            yield Gauge("model_feature_drift_p_value", model, labels, column["p_value"])
    for window in body["windows"]:
        labels = {"window_days": str(window["days"]), "status": window["status"].replace(" ", "_")}
        yield Gauge("model_drift_window_status", model, labels, 1.0)
    yield from _standing("model_drift_alarms", kept)
    for (kind, severity), count in Counter((e["kind"], e["severity"]) for e in body["events"]).items():
        yield Gauge("model_schema_events", model, {"kind": kind, "severity": severity}, float(count))
    with Ledger(settings.database_url) as ledger:
        confirmed = len([a for a in confirmed_alarms(ledger, model) if a.kind != "performance"])
    yield Gauge("model_alarms_total", model, {"level": "confirmed"}, float(confirmed))


def _standing(name: str, kept: Watched) -> Iterator[Gauge]:
    for alarm in AlarmState.from_json(kept.body["state"]).alarms:
        if alarm.level != "resolved":
            yield Gauge(name, kept.model, {"subject": alarm.name, "level": alarm.level}, 1.0)


def performance_gauges(kept: Watched, record: MeasurePerformanceRecord, settings: Settings) -> list[Gauge]:
    """Of the longest windows: realised where labels are known, estimated for the newest rows."""
    found = list(_performance(kept, record))
    with Ledger(settings.database_url) as ledger:
        alarms, graded = confirmed_alarms(ledger, kept.model), grades(ledger, kept.model)
    drift = [Graded(alarm, graded.get(alarm.episode, "open")) for alarm in alarms if alarm.kind != "performance"]
    card = scorecard(drift, [alarm for alarm in alarms if alarm.kind == "performance"])
    for name, share in (("model_alarm_precision", card.precision), ("model_alarm_recall", card.recall)):
        if share is not None:
            found.append(Gauge(name, kept.model, {}, share.value))
    return found


def _performance(kept: Watched, record: MeasurePerformanceRecord) -> Iterator[Gauge]:
    model, body = kept.model, kept.body
    primary = {"metric": record.primary}
    if record.registered is not None:
        yield Gauge("model_performance_registered", model, primary, record.registered.value)
    if body["mature"]:
        realised = body["mature"][-1]["realised"]
        yield Gauge("model_performance_mature", model, {}, float(realised["status"] == "mature"))
        for metric, interval in realised["metrics"].items():
            yield from _band("model_performance_realised", model, metric, interval)
        if realised["drop"] is not None:
            yield from _band("model_performance_drop", model, realised["drop"]["metric"], realised["drop"])
    if body["newest"]:
        newest = body["newest"][-1]
        for metric, estimate in newest["estimates"].items():
            yield from _band("model_performance_estimated", model, metric, estimate)
        rows = newest["realised"]["rows"]
        if rows:
            yield Gauge("model_labels_known_share", model, {}, newest["realised"]["labelled"] / rows)
        yield Gauge("model_labels_expected_share", model, {}, newest["realised"]["share_known"])
    if body["lag_days"] is not None:
        for quantile, days in zip(("0.5", "0.9"), body["lag_days"], strict=True):
            if math.isfinite(days):
                yield Gauge("model_label_lag_days", model, {"quantile": quantile}, days)
    error = body.get("estimate_errors") or {"estimated": [], "realised": []}
    if error["estimated"]:
        yield Gauge("model_performance_estimate_error", model, primary,
                    estimate_error(error["estimated"], error["realised"]))  # fmt: skip
    yield from _standing("model_performance_alarms", kept)


def _band(name: str, model: str, metric: str, found: dict[str, float]) -> Iterator[Gauge]:
    for ending, end in (("", "value"), ("_low", "low"), ("_high", "high")):
        if math.isfinite(found[end]):
            yield Gauge(name + ending, model, {"metric": metric}, found[end])


def retraining_gauges(decision: Decision, situation: Situation, model: ModelConfig) -> list[Gauge]:
    """As of the newest decision."""
    policy = policy_of(model)
    ended = Counter(_ended(past.finished, past.helped) for past in situation.retrainings)
    recent = [p for p in situation.retrainings if p.cutoff > situation.now - MONTH]
    used = len(recent) + (decision.action == "retrain")
    found = [Gauge("model_retrainings_total", model.name, {"result": name}, float(n)) for name, n in ended.items()]
    found.append(Gauge("model_retraining_breaker_open", model.name, {}, float(decision.breaker.is_open)))
    found.append(Gauge("model_retraining_budget_left", model.name, {}, float(max(0, policy.budget_per_month - used))))
    if situation.champion is not None:
        champion = situation.champion
        for name, instant in (("since", champion.since), ("cutoff", champion.cutoff)):
            found.append(Gauge(f"model_champion_{name}_timestamp_seconds", model.name, {}, instant.timestamp()))
    return found


def rollout_gauges(model: ModelConfig, verdict: RolloutVerdict | None) -> list[Gauge]:
    """Of the newest look at a trial; none where nothing is on trial."""
    if verdict is None:
        return []
    found = [Gauge("model_rollout_decision", model.name, {"decision": verdict.decision}, 1.0)]
    if verdict.labels_needed is not None:
        found.append(Gauge("model_rollout_labels_needed", model.name, {}, float(verdict.labels_needed)))
    if "difference" in verdict.figures:
        ends = {"value": "difference", "low": "difference_low", "high": "difference_high"}
        band = {end: verdict.figures[figure] for end, figure in ends.items()}
        found += _band("model_rollout_difference", model.name, model.rollout_metric, band)
    return found


def _ended(finished: bool, helped: bool | None) -> str:
    if not finished:
        return "running"
    return "open" if helped is None else "helped" if helped else "did_not_help"
