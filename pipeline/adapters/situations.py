"""The situation in which it is decided whether to retrain: what the monitors kept, and what the ledger knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from pipeline.adapters.champion_reference import ChampionReference, champion_as_of
from pipeline.adapters.promotion import is_withdrawn
from pipeline.adapters.watch_store import Watched, WatchStore
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.aftermath import did_it_help
from pipeline.core.alarms import Alarm, AlarmState, Finding
from pipeline.core.impact import error_of, lost_share
from pipeline.core.situation import (
    Breaker,
    BreakerCause,
    Cause,
    Champion,
    Drop,
    Explained,
    Policy,
    Retraining,
    Situation,
)
from pipeline.core.verdict import Difference
from pipeline.ledger import Event, Ledger, Line
from pipeline.monitoring_records import MeasurePerformanceRecord
from pipeline.settings import Settings

ABANDONED = timedelta(days=2)
"""A retraining that has not reported by then was interrupted."""


def policy_of(model: ModelConfig) -> Policy:
    """The model file's."""
    asked = model.retraining
    return Policy(
        asked.mode, asked.on_alarm, asked.on_performance, asked.max_age_days, asked.min_new_share,
        model.monitoring.min_rows, asked.cool_down_days, asked.budget_per_month, asked.breaker_after,
    )  # fmt: skip


def situation_of(
    performance: MeasurePerformanceRecord, model: ModelConfig, context: RunContext, ledger: Ledger, settings: Settings
) -> Situation:
    """Everything that the decision may know at this cut-off."""
    champion = champion_as_of(model, context.cutoff, settings)
    decisions = [d for d in ledger.lines(model.name, "decision") if _cutoff(d) < context.cutoff]
    if champion is None or performance.drift.day is None:
        return Situation(context.cutoff, context.kind, None, 0, breaker=kept_breaker(decisions, ledger, model.name))
    day = date.fromisoformat(performance.drift.day)
    digest = champion.register.digest
    with WatchStore(settings.database_url) as store:
        (drift,) = store.days(model.name, "drift", day, day, digest) or (None,)
        (measured,) = store.days(model.name, "performance", day, day, digest) or (None,)
        older = _alarms_of_the_one_before(decisions, digest, day, model.name, store)
    assert drift is not None
    assert measured is not None
    retrainings = list(_retrainings(decisions, performance, champion, ledger, context))
    running = [past for past in retrainings if not past.finished]
    until = measured.body["labelled_until"]
    return Situation(
        now=context.cutoff,
        kind=context.kind,
        champion=Champion(champion.cutoff, champion.since, champion.register.evaluate.train.prepare.train_rows),
        new_rows=measured.body["labelled_rows"],
        alarms=tuple(_explained(drift, measured, older)),
        findings=tuple(Finding(**one) for kept in (drift, measured) for one in kept.body["findings"]),
        realised=_realised(measured, champion),
        estimated=_estimated(measured, champion),
        learnable_until=_learnable(datetime.fromisoformat(until), champion, model) if until else None,
        retrainings=tuple(retrainings),
        running=bool(running),
        previous=performance.predecessor,
        breaker=kept_breaker(decisions, ledger, model.name),
        called=tuple(episode for line in decisions for episode in line.body["called_for"]),
    )


def _learnable(labelled_until: datetime, champion: ChampionReference, model: ModelConfig) -> datetime:
    """Of a change that began by then, a model trained now would learn from as many days as would judge it.

    The newest labelled rows judge, and the embargo lies before them: a change has to be older to be learned.
    """
    prepare = champion.register.evaluate.train.prepare
    if prepare.test_from is None or prepare.test_until is None:
        return labelled_until
    span = datetime.fromisoformat(prepare.test_until) - datetime.fromisoformat(prepare.test_from)
    return labelled_until - 2 * span - timedelta(days=model.embargo_days)


def _cutoff(line: Line) -> datetime:
    return datetime.fromisoformat(line.body["cutoff"])


def _alarms_of_the_one_before(
    decisions: list[Line], digest: str, day: date, model: str, store: WatchStore
) -> dict[tuple[str, str], Alarm]:
    """Alarms that stood when the champion changed: where one is back, it began then, not with the new champion."""
    others = [line.body["champion"] for line in decisions if line.body["champion"] not in (None, digest)]
    if not others:
        return {}
    last = store.last(model, "drift", others[-1], day)
    standing = AlarmState.from_json(last.body["state"]).at("confirmed") if last else ()
    return {(alarm.kind, alarm.subject): alarm for alarm in standing}


def _explained(drift: Watched, measured: Watched, older: dict[tuple[str, str], Alarm]) -> Iterator[Explained]:
    why = measured.body["explanation"]
    broken = {fault["column"] for fault in (*drift.body["faults"], *(why["faults"] if why else ()))}
    for kept in (drift, measured):
        for alarm in AlarmState.from_json(kept.body["state"]).alarms:
            if alarm.level == "resolved":
                continue
            before = older.get((alarm.kind, alarm.subject))
            cause: Cause | None = "data fault" if alarm.subject in broken else None
            if cause is None and why is not None and alarm.kind == "performance":
                cause = why["cause"]
            yield Explained(replace(alarm, since=min(alarm.since, before.since)) if before else alarm, cause)


def _realised(measured: Watched, champion: ChampionReference) -> Drop | None:
    """Of the longest window that is mature."""
    primary = champion.register.evaluate.primary
    error = error_of(primary, champion.registered[primary].value)
    for window in reversed(measured.body["mature"]):
        drop = window["realised"]["drop"]
        if window["realised"]["status"] == "mature" and drop is not None and error > 0:
            return Drop(drop["value"] / error, drop["low"] / error, drop["high"] / error)
    return None


def _estimated(measured: Watched, champion: ChampionReference) -> Drop | None:
    primary = champion.register.evaluate.primary
    for window in reversed(measured.body["newest"]):
        found: dict[str, Any] | None = window["estimates"].get(primary)
        if found is not None:
            before = champion.registered[primary].value
            low, high = sorted(lost_share(primary, before, found[end]) for end in ("low", "high"))
            return Drop(lost_share(primary, before, found["value"]), low, high, source="estimated")
    return None


def _retrainings(
    decisions: list[Line], performance: MeasurePerformanceRecord, champion: ChampionReference, ledger: Ledger,
    context: RunContext,
) -> Iterator[Retraining]:  # fmt: skip
    ended = {line.body["decision"]: line for line in ledger.lines(context.model, "retrained")}
    lines = [line for line in ledger.lines(context.model, "graded") if "decision" in line.body]
    graded = {line.body["decision"]: line for line in lines}
    for line in decisions:
        if line.body["action"] != "retrain":
            continue
        end, grade = ended.get(line.number), graded.get(line.number)
        if end is None:
            yield Retraining(_cutoff(line), finished=context.cutoff > _cutoff(line) + ABANDONED)
        elif grade is not None:
            yield Retraining(_cutoff(line), helped=grade.body["helped"])
        elif end.body["status"] not in ("deployed", "on_trial") or (
            end.body["status"] == "on_trial" and is_withdrawn(ledger, context.model, end.version)
        ):
            yield Retraining(_cutoff(line), helped=False)
        else:
            helped = None
            if end.version == champion.register.version:
                found = did_it_help(None, None, performance.predecessor)
                helped = found.helped
                if helped is not None and context.kind != "backfill":
                    _grade(line, end, helped, found.reason, performance.predecessor, ledger, context)
            yield Retraining(_cutoff(line), helped=helped)


def _grade(
    line: Line, end: Line, helped: bool, reason: str, gap: Difference | None, ledger: Ledger, context: RunContext
) -> None:
    """Labels have told whether a retraining helped: written down once."""
    ledger.append(Event(context.model, "graded", end.version, {
        "decision": line.number, "helped": helped, "reason": reason, "cutoff": context.cutoff.isoformat(),
        "difference": gap.value if gap else None, "run_id": context.run_id, "by": f"run {context.run_id}",
    }, once=f"retraining {line.number}"))  # fmt: skip


def kept_breaker(decisions: list[Line], ledger: Ledger, model: str) -> Breaker:
    """As the last decision left it, or a person who closed it since."""
    if not decisions:
        return Breaker()
    kept = decisions[-1].body["breaker"]
    closed = ledger.last(model, "breaker_closed")
    if closed is not None and closed.number > decisions[-1].number:
        return Breaker(False, _cutoff(closed))
    since = datetime.fromisoformat(kept["since"]) if kept["since"] else None
    if kept["is_open"] and kept.get("cause") is None:
        return _unexplained(decisions, since)
    return Breaker(kept["is_open"], since, kept.get("cause"), tuple(kept.get("episodes", ())))


def _unexplained(decisions: list[Line], since: datetime | None) -> Breaker:
    """An open breaker of a line that does not hold its cause: the line that opened it told why, and called for what."""
    for line in reversed(decisions):
        if line.body["action"] == "call a person" and _cutoff(line) == since:
            persists = line.body["reasons"][0].startswith("drift persists after retraining")
            cause: BreakerCause = "does not help" if persists else "data fault"
            return Breaker(True, since, cause, tuple(line.body["called_for"]))
    return Breaker(True, since)
