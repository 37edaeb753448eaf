"""Detect drift: the newest complete day, and the windows that end with it, against the champion's reference."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline.adapters.environment import code_digest, library_versions
from pipeline.adapters.store import Output, once
from pipeline.adapters.watch_store import Watched, WatchStore
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.digest import digest_of
from pipeline.monitoring_records import DetectDriftRecord, WindowSummary
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.adapters.champion_reference import ChampionReference
    from pipeline.adapters.drift_day import DayDrift

log = logging.getLogger("evergreen.detect_drift")
PROGRESS_SECONDS = 2.0
"""At least, between two lines about the progress."""
MOST_FINDINGS = 20
"""In the record; all of them are in its details."""


def detect_drift(model: ModelConfig, context: RunContext, settings: Settings) -> DetectDriftRecord:
    """Check every complete day that the champion did not know and that was not checked yet, up to the cut-off.

    Raises BadConfiguration where rows belong to no day, SourceUnreadable, OutsideFailure.
    """
    from pipeline.adapters.champion_reference import champion_as_of
    from pipeline.adapters.gauges_of import rest
    from pipeline.adapters.observed import ONE_DAY, day_start

    champion = champion_as_of(model, context.cutoff, settings)
    if champion is None:
        told = f"no champion of {model.name} knew nothing after {context.cutoff.isoformat()}; deploy one, then watch it"
        return _nothing("no champion", told, model, context, None)
    last = context.cutoff.date() - ONE_DAY
    first = champion.cutoff.date()
    if day_start(first) < champion.cutoff:
        first += ONE_DAY
    if last < first:
        told = f"version {champion.register.version} knows all up to {champion.cutoff.isoformat()}: no day is new to it"
        rest("drift", model, context, settings)
        return _nothing("no new day", told, model, context, champion)
    with WatchStore(settings.database_url) as store:
        kept, fresh = _checked(first, last, champion, model, context, store, settings)
    record = _record(kept, champion, model, context, settings)
    _tell(record, kept, fresh, model, context, settings)
    return record


def _checked(
    first: date, last: date, champion: ChampionReference, model: ModelConfig, context: RunContext, store: WatchStore,
    settings: Settings,
) -> tuple[Watched, list[Watched]]:  # fmt: skip
    """The last day as it was found, now or before; and the days that were checked now."""
    from pipeline.adapters.day_sketches import sketch_day
    from pipeline.adapters.drift_day import SETTLED_DAYS, check_day
    from pipeline.adapters.observed import ONE_DAY, observed_days
    from pipeline.adapters.watch_told import into_ledger
    from pipeline.core.alarms import AlarmState

    digest = champion.register.digest
    before = store.last(model.name, "drift", digest, last + ONE_DAY)
    if before is not None:
        into_ledger(before, context, settings)  # a process may have died between keeping a day and writing it down
        if before.day == last:
            return before, []
    state = AlarmState.from_json(before.body["state"]) if before else AlarmState()
    day = before.day + ONE_DAY if before else first
    reach = max(model.monitoring.windows_days[-1], SETTLED_DAYS + 1)
    observed = list(observed_days(model, champion.schema, day - timedelta(days=reach), last, settings))
    fresh: list[Watched] = []
    begun, spoke = day, time.monotonic()
    while True:
        seen = [d for d in observed if first <= d.day <= day][-reach:]
        past = [d.arrived for d in observed if d.day < day]
        sketched = [sketch_day(d, champion, settings) for d in seen]
        found = check_day(day, sketched, past, champion, model, state)
        state = found.step.state
        kept = store.keep(Watched(
            model.name, "drift", digest, day, champion.register.version, context.cutoff, context.kind,
            _body(found, sketched[-1].features.rows),
        ))  # fmt: skip
        into_ledger(kept, context, settings)
        fresh.append(kept)
        if day == last:
            return kept, fresh
        if time.monotonic() - spoke >= PROGRESS_SECONDS:
            log.info("drift: %d of %d days checked, to %s", len(fresh), (last - begun).days + 1, day)
            spoke = time.monotonic()
        day += ONE_DAY


def _body(found: DayDrift, rows: int) -> dict[str, Any]:
    """A day as plain JSON."""
    plain: dict[str, Any] = finite({
        "rows": rows,
        "state": found.step.state.to_json(),
        "windows": [asdict(window) for window in found.windows],
        "predictions": [asdict(window) for window in found.predictions],
        "estimated": asdict(found.estimated) if found.estimated else None,
        "faults": [asdict(one) for one in found.faults],
        "findings": [asdict(one) for one in found.step.findings],
        "events": [asdict(one) for one in found.events],
        "raised": [one.episode for one in found.step.raised],
        "confirmed": [one.episode for one in found.step.confirmed],
        "resolved": [one.episode for one in found.step.resolved],
    })  # fmt: skip
    return plain


def finite(plain: Any) -> Any:
    """Plain JSON with null for what is not a finite number, such as the shift of a column that was constant."""
    if isinstance(plain, dict):
        return {name: finite(value) for name, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [finite(value) for value in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def _record(
    kept: Watched, champion: ChampionReference, model: ModelConfig, context: RunContext, settings: Settings
) -> DetectDriftRecord:
    section = model.model_dump(mode="json", include={"name", "monitoring"})
    key = digest_of("detect_drift", kept.champion, kept.day.isoformat(), context.cutoff.isoformat(), kept.body, section,
                    code_digest(), library_versions())  # fmt: skip
    return once(settings, "detect_drift", key, DetectDriftRecord,
                lambda out: _write(kept, champion, model, context, settings, key, out))  # fmt: skip


def _write(
    kept: Watched, champion: ChampionReference, model: ModelConfig, context: RunContext, settings: Settings, key: str,
    out: Output,
) -> DetectDriftRecord:  # fmt: skip
    from pipeline.adapters.drift_report import drift_report
    from pipeline.adapters.watch_told import open_alarms, told
    from pipeline.core.alarms import AlarmState

    news = told(kept)
    out.path("details.json").write_text(json.dumps(kept.body, indent=1, sort_keys=True), encoding="utf-8")
    record = DetectDriftRecord(
        key=key,
        status="ok",
        reason=news[0] if news else "nothing new",
        day=kept.day.isoformat(),
        cutoff=context.cutoff.isoformat(),
        champion=kept.champion,
        champion_version=kept.version,
        rows=kept.body["rows"],
        windows=tuple(map(_summary, zip(kept.body["windows"], kept.body["predictions"], strict=True))),
        alarms=open_alarms(AlarmState.from_json(kept.body["state"])),
        told=news,
        findings=tuple(one["told"] for one in kept.body["findings"][:MOST_FINDINGS]),
        events=tuple(f"{one['severity']}: {one['told']}" for one in kept.body["events"][:MOST_FINDINGS]),
        details=out.named("details.json"),
        report=out.named("drift.html"),
    )
    out.path("drift.html").write_text(drift_report(record, kept, champion, model, settings), encoding="utf-8")
    return record


def _summary(pair: tuple[dict[str, Any], dict[str, Any]]) -> WindowSummary:
    features = pair[0]
    changed = [
        column["column"] for window in pair for column in window["columns"] if column["p_value"] <= window["level"]
    ]
    return WindowSummary(features["days"], features["rows"], features["status"], features["level"], tuple(changed))


def _nothing(
    status: Any, reason: str, model: ModelConfig, context: RunContext, champion: ChampionReference | None
) -> DetectDriftRecord:
    digest = champion.register.digest if champion else None
    return DetectDriftRecord(
        key=digest_of("detect_drift", model.name, status, digest, context.cutoff.isoformat()), status=status,
        reason=reason, day=None, cutoff=context.cutoff.isoformat(), champion=digest,
        champion_version=champion.register.version if champion else None, rows=0, windows=(), alarms=(), told=(),
        findings=(), events=(), details=None, report=None,
    )  # fmt: skip


def _tell(
    record: DetectDriftRecord,
    kept: Watched,
    fresh: list[Watched],
    model: ModelConfig,
    context: RunContext,
    settings: Settings,
) -> None:
    """Outside, unless it is a backfill: gauges, and a call where an alarm is confirmed or the data is broken."""
    if context.kind == "backfill":
        return
    from pipeline.adapters.gauges_of import drift_gauges
    from pipeline.adapters.watch_told import call_people
    from pipeline.gauges import GaugeStore

    with GaugeStore(settings.database_url) as gauges:
        gauges.replace(model.name, "drift", drift_gauges(kept, settings), context.cutoff, datetime.now(UTC),
                       rows=record.rows, max_age_seconds=model.monitoring.max_silence_hours * 3600)  # fmt: skip
    for day in fresh:
        broken = [event["told"] for event in day.body["events"] if event["severity"] == "error"]
        call_people(day, "", broken)
