"""Measure performance: the champion on labelled rows that it never saw, and an estimate where labels are to come."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline.adapters.environment import code_digest, library_versions
from pipeline.adapters.store import Output, once
from pipeline.adapters.watch_store import Watched, WatchStore
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.digest import digest_of
from pipeline.core.verdict import Difference, Interval
from pipeline.monitoring_records import DetectDriftRecord, MeasurePerformanceRecord, PerformanceWindow, WorseSlice
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.adapters.champion_reference import ChampionReference
    from pipeline.adapters.performance_day import DayPerformance

MOST_WORSE = 20
"""Slices in the record; all of them are in its details."""


def measure_performance(
    drift: DetectDriftRecord, model: ModelConfig, context: RunContext, settings: Settings
) -> MeasurePerformanceRecord:
    """Measure the day that drift was looked for on, and say whether a decision is due.

    Raises as `detect_drift` does.
    """
    from pipeline.adapters.champion_reference import champion_as_of
    from pipeline.adapters.gauges_of import rest

    champion = champion_as_of(model, context.cutoff, settings)
    if champion is None or drift.day is None:
        if champion is not None:
            rest("performance", model, context, settings)
        return _nothing(drift, model)
    day = date.fromisoformat(drift.day)
    with WatchStore(settings.database_url) as store:
        digest = champion.register.digest
        found = store.days(model.name, "performance", day, day, digest)
        if found:
            kept = found[0]
        else:
            body = _measured(day, champion, model, context, store, settings)
            kept = store.keep(Watched(model.name, "performance", digest, day, champion.register.version, context.cutoff,
                                      context.kind, body))  # fmt: skip
    record = _record(kept, drift, champion, model, context, settings)
    _tell(record, kept, not found, model, context, settings)
    return record


def _measured(
    day: date, champion: ChampionReference, model: ModelConfig, context: RunContext, store: WatchStore,
    settings: Settings,
) -> dict[str, Any]:  # fmt: skip
    from pipeline.adapters.met_rows import met_rows, unseen
    from pipeline.adapters.observed import ONE_DAY
    from pipeline.adapters.performance_day import measure_day
    from pipeline.adapters.predecessors import against_predecessor
    from pipeline.adapters.watch_told import confirmed_alarms, grades
    from pipeline.core.alarms import AlarmState
    from pipeline.ledger import Ledger

    span = math.ceil(model.monitoring.windows_days[-1] + 2 * model.target.known_after_days + 30)
    first = day - timedelta(days=span)
    judged_until = champion.register.evaluate.train.prepare.test_until
    if judged_until is not None:
        first = min(first, datetime.fromisoformat(judged_until).date())
    history = met_rows(champion, model, first, day, context.cutoff, settings)
    rows = unseen(history, [champion.register])
    before = store.last(model.name, "performance", champion.register.digest, day)
    state = AlarmState.from_json(before.body["state"]) if before else AlarmState()
    with Ledger(settings.database_url) as ledger:
        known = grades(ledger, model.name)
        alarms = confirmed_alarms(ledger, model.name, champion.register.digest)
    ungraded = [alarm for alarm in alarms if alarm.kind != "performance" and alarm.episode not in known]
    found = measure_day(day, rows, history, champion, model, state, ungraded)
    primary = champion.register.evaluate.primary
    past = store.days(model.name, "performance", first, day - ONE_DAY, champion.register.digest)
    body = _body(found, against_predecessor(rows, champion, model, settings))
    return body | {"estimate_errors": _errors([*(one.body for one in past), body], primary)}


def _errors(bodies: Sequence[dict[str, Any]], primary: str) -> dict[str, list[float]]:
    """Estimates made when a window was new, beside what labels made of the same window later."""
    made = {(w["days"], w["last"]): w["estimates"].get(primary) for body in bodies for w in body["newest"]}
    pairs = {
        (w["days"], w["last"]): (made[w["days"], w["last"]], w["realised"]["metrics"].get(primary))
        for body in bodies
        for w in body["mature"]
        if w["realised"]["status"] == "mature" and made.get((w["days"], w["last"]))
    }
    known = [(estimate["value"], found["value"]) for estimate, found in pairs.values() if estimate and found]
    return {"estimated": [one for one, _ in known], "realised": [other for _, other in known]}


def _body(found: DayPerformance, predecessor: tuple[int, Difference] | None) -> dict[str, Any]:
    """A day as plain JSON."""
    finite = found.concept is not None and math.isfinite(found.concept.excess_error)
    return {
        "state": found.step.state.to_json(),
        "newest": [_window(window) for window in found.newest],
        "mature": [_window(window) for window in found.mature],
        "labelled_rows": found.labelled_rows,
        "looked_at": found.share,
        "labelled_until": found.labelled_until.isoformat() if found.labelled_until else None,
        "lag_days": found.lag_days,
        "concept": asdict(found.concept) if finite and found.concept else None,
        "worse": [{"name": h.slice.name, "now": h.candidate_loss, "then": h.champion_loss} for h in found.worse],
        "explanation": asdict(found.explanation) if found.explanation else None,
        "graded": [asdict(one) for one in found.graded],
        "predecessor": None if predecessor is None else {"version": predecessor[0], **asdict(predecessor[1])},
        "findings": [asdict(one) for one in found.step.findings],
        "raised": [one.episode for one in found.step.raised],
        "confirmed": [one.episode for one in found.step.confirmed],
        "resolved": [one.episode for one in found.step.resolved],
    }


def _window(window: Any) -> dict[str, Any]:
    return {
        "days": window.days, "first": window.first.isoformat(), "last": window.last.isoformat(),
        "realised": asdict(window.realised), "estimates": {n: asdict(e) for n, e in window.estimates.items()},
    }  # fmt: skip


def _record(
    kept: Watched, drift: DetectDriftRecord, champion: ChampionReference, model: ModelConfig, context: RunContext,
    settings: Settings,
) -> MeasurePerformanceRecord:  # fmt: skip
    section = model.model_dump(mode="json", include={"name", "monitoring", "retraining", "metrics"})
    key = digest_of("measure_performance", drift.key, kept.body, section, code_digest(), library_versions())
    return once(settings, "measure_performance", key, MeasurePerformanceRecord,
                lambda out: _write(kept, drift, champion, model, key, context, out))  # fmt: skip


def _write(
    kept: Watched, drift: DetectDriftRecord, champion: ChampionReference, model: ModelConfig, key: str,
    context: RunContext, out: Output,
) -> MeasurePerformanceRecord:  # fmt: skip
    from pipeline.adapters.due import due
    from pipeline.adapters.watch_told import open_alarms, told
    from pipeline.core.alarms import AlarmState

    body, primary = kept.body, champion.register.evaluate.primary
    out.path("details.json").write_text(json.dumps(body, indent=1, sort_keys=True), encoding="utf-8")
    why = body["explanation"] or {}
    gap = body["predecessor"]
    alarms = open_alarms(AlarmState.from_json(body["state"]))
    news = told(kept)
    share = body.get("looked_at", 1.0)
    windows = [_summary(window, primary, share) for window in _both(body)]
    return MeasurePerformanceRecord(
        key=key,
        status="ok",
        reason=news[0] if news else windows[0].told,
        primary=primary,
        registered=champion.registered[primary],
        windows=tuple(windows),
        concept_p=body["concept"]["p_value"] if body["concept"] else None,
        cause=why.get("cause", ""),
        cause_column=why.get("column"),
        explanation=why.get("told", ""),
        predecessor=Difference(**{k: v for k, v in gap.items() if k != "version"}) if gap else None,
        predecessor_version=gap["version"] if gap else None,
        alarms=alarms,
        told=news,
        due=due(drift, alarms, body, champion, model, context),
        details=out.named("details.json"),
        drift=drift,
        worse=tuple(WorseSlice(one["name"], one["then"], one["now"]) for one in body["worse"][:MOST_WORSE]),
        worse_slices=len(body["worse"]),
    )


def _both(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Newest windows, then the mature ones that are others."""
    newest: list[dict[str, Any]] = body["newest"]
    return newest + [window for window in body["mature"] if window not in newest]


def _summary(window: dict[str, Any], primary: str, share: float) -> PerformanceWindow:
    realised = window["realised"]
    drop, found, estimate = realised["drop"], realised["metrics"].get(primary), window["estimates"].get(primary)
    return PerformanceWindow(
        days=window["days"], first=window["first"], last=window["last"], rows=realised["rows"],
        labelled=realised["labelled"], share_known=realised["share_known"], status=realised["status"],
        realised=Interval(**found) if found else None, drop=drop["value"] if drop else None,
        p_worse=drop["p_worse"] if drop else None,
        estimated=Interval(estimate["value"], estimate["low"], estimate["high"]) if estimate else None,
        told=realised["told"] + (f"; in a sample of {share:.2%} of the rows" if share < 1 else ""),
    )  # fmt: skip


def _nothing(drift: DetectDriftRecord, model: ModelConfig) -> MeasurePerformanceRecord:
    return MeasurePerformanceRecord(
        key=digest_of("measure_performance", drift.key), status=drift.status, reason=drift.reason,
        primary=model.primary_metric, registered=None, windows=(), concept_p=None, cause="", cause_column=None,
        explanation="", predecessor=None, predecessor_version=None, alarms=(), told=(), due=(), details=None,
        drift=drift,
    )  # fmt: skip


def _tell(
    record: MeasurePerformanceRecord, kept: Watched, fresh: bool, model: ModelConfig, context: RunContext,
    settings: Settings,
) -> None:  # fmt: skip
    """Into the ledger; outside, unless it is a backfill: gauges, and a call where a drop is confirmed."""
    from pipeline.adapters.gauges_of import performance_gauges
    from pipeline.adapters.watch_told import call_people, into_ledger
    from pipeline.gauges import GaugeStore

    into_ledger(kept, context, settings)
    if context.kind == "backfill":
        return
    with GaugeStore(settings.database_url) as gauges:
        gauges.replace(model.name, "performance", performance_gauges(kept, record, settings), context.cutoff,
                       datetime.now(UTC), rows=kept.body["labelled_rows"],
                       max_age_seconds=model.monitoring.max_silence_hours * 3600)  # fmt: skip
    if fresh:
        call_people(kept, record.explanation, ())
