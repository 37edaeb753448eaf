"""Where every model stands: who answers, whether it is watched, how it does, what was decided.

Read from the database alone, so that it is there at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pipeline.adapters.trials import judged
from pipeline.adapters.watch_store import Watched, WatchStore
from pipeline.config import load_model
from pipeline.core.alarms import AlarmState
from pipeline.core.verdict import Interval
from pipeline.errors import BadConfiguration
from pipeline.gauges import GaugeStore, Monitor
from pipeline.ledger import MOVES, Kind, Ledger, Line
from pipeline.monitoring_records import OpenAlarm, WorseSlice
from pipeline.monitoring_sections import Retraining
from pipeline.rollout import RolloutStore
from pipeline.settings import Settings

MONTH = timedelta(days=30)
WATCHING = ("drift", "performance")
OF_VERSIONS: tuple[Kind, ...] = ("refused", "approved", "rejected", "rollout_started", "advanced", "withdrawn")


@dataclass(frozen=True)
class Success:
    """When a monitor last did its work."""

    monitor: str
    at: datetime | None
    """None: never."""
    cutoff: datetime | None
    """Up to when it knew anything."""
    limit_hours: float | None
    stale: bool


@dataclass(frozen=True)
class Measured:
    """The primary metric on a window of events."""

    first: str
    last: str
    value: Interval | None
    status: str
    """mature, immature or insufficient; of an estimate, its method."""
    told: str


@dataclass(frozen=True)
class Retrained:
    """A retraining that was decided on, and what came of it."""

    cutoff: datetime
    outcome: str
    """running, or deployed, refused, unchanged, failed."""
    version: int | None
    helped: bool | None
    """None: labels have not told yet."""
    told: str


@dataclass(frozen=True)
class Decided:
    """A line of the ledger in short."""

    at: datetime
    kind: str
    version: int | None
    told: str


@dataclass(frozen=True)
class Trial:
    """A version on trial beside the champion."""

    version: int
    strategy: str
    share: float
    """Of the users that meet it."""
    step: int
    since: datetime
    """When the step began."""
    judged: Decided | None
    """The last verdict about this step."""


@dataclass(frozen=True)
class ModelStatus:
    """Everything about one model."""

    model: str
    champion: int | None
    since: datetime | None
    cutoff: datetime | None
    """Of the champion."""
    versions: int
    trial: Trial | None
    monitors: tuple[Success, ...]
    last_day: date | None
    """The newest day on which drift of this champion was looked for."""
    alarms: tuple[OpenAlarm, ...]
    primary: str | None
    registered: Interval | None
    realised: Measured | None
    estimated: Measured | None
    worse: tuple[WorseSlice, ...]
    """Slices that became worse, the surest first."""
    retrainings: tuple[Retrained, ...]
    """Of the 30 days before the last decision."""
    retrainings_until: datetime | None
    mode: str | None
    """Of retraining: enabled, dry_run or disabled; None: the model file cannot be read."""
    budget: int | None
    budget_left: int | None
    breaker_open: bool
    decision: Decided | None
    """About retraining."""
    last: Decided | None
    """About versions."""
    fault: str
    """What is wrong with the model file; empty where nothing is."""


def status_of(names: Sequence[str], now: datetime, settings: Settings) -> tuple[ModelStatus, ...]:
    """Of these models. Raises OutsideFailure (database)."""
    with (
        Ledger(settings.database_url) as ledger,
        GaugeStore(settings.database_url) as gauges,
        WatchStore(settings.database_url) as store,
    ):
        monitors = {(one.model, one.monitor): one for one in gauges.read()}
        return tuple(_status(name, ledger, monitors, store, now, settings) for name in names)


def _status(
    name: str, ledger: Ledger, monitors: dict[tuple[str, str], Monitor], store: WatchStore, now: datetime,
    settings: Settings,
) -> ModelStatus:  # fmt: skip
    move = ledger.last(name, *MOVES)
    made = ledger.last(name, "registered", version=move.version) if move else None
    record = made.body["record"] if made else None
    primary = record["evaluate"]["primary"] if record else None
    found = record["evaluate"]["metrics"].get(primary) if record else None
    drift = store.last(name, "drift", record["digest"], date.max) if record else None
    measured = store.last(name, "performance", record["digest"], date.max) if record else None
    decisions = ledger.lines(name, "decision")
    until = _cutoff(decisions[-1]) if decisions else None
    retrainings = tuple(_retrainings(name, decisions, until, ledger)) if until else ()
    policy, fault = _policy(name, settings)
    budget = policy.budget_per_month if policy else None
    return ModelStatus(
        model=name,
        champion=move.version if move else None,
        since=move.instant if move else None,
        cutoff=_cutoff(made) if made else None,
        versions=len({line.version for line in ledger.lines(name, "registered")}),
        trial=_trial(name, ledger, settings),
        monitors=tuple(_success(monitor, monitors.get((name, monitor)), now) for monitor in WATCHING),
        last_day=drift.day if drift else None,
        alarms=tuple(alarm for kept in (drift, measured) if kept for alarm in _standing(kept)),
        primary=primary,
        registered=Interval(**found) if found else None,
        realised=_realised(measured.body, primary) if measured else None,
        estimated=_estimated(measured.body, primary) if measured else None,
        worse=tuple(_worse(measured.body)) if measured else (),
        retrainings=retrainings,
        retrainings_until=until,
        mode=policy.mode if policy else None,
        budget=budget,
        budget_left=None if budget is None else max(0, budget - len(retrainings)),
        breaker_open=_breaker_open(name, decisions, ledger),
        decision=_decided(decisions[-1]) if decisions else None,
        last=_decided(ledger.last(name, *MOVES, *OF_VERSIONS)),
        fault=fault,
    )


def _cutoff(line: Line) -> datetime:
    return datetime.fromisoformat(line.body["cutoff"])


def _success(name: str, found: Monitor | None, now: datetime) -> Success:
    if found is None:
        return Success(name, None, None, None, stale=True)
    stale = (now - found.written_at).total_seconds() > found.max_age_seconds
    return Success(name, found.written_at, found.as_of, found.max_age_seconds / 3600, stale)


def _trial(name: str, ledger: Ledger, settings: Settings) -> Trial | None:
    with RolloutStore(settings.database_url) as store:
        plan = store.get(name).active
    if plan is None or plan.challenger is None:
        return None
    since = datetime.fromtimestamp(plan.began, UTC)
    verdict = _decided(judged(ledger, name, plan))
    return Trial(plan.challenger.version, plan.strategy, plan.share, plan.step, since, verdict)


def _standing(kept: Watched) -> Iterator[OpenAlarm]:
    for alarm in AlarmState.from_json(kept.body["state"]).alarms:
        if alarm.level != "resolved":
            yield OpenAlarm(alarm.name, alarm.level, alarm.since.isoformat(), alarm.impact, alarm.told)


def _realised(body: dict[str, Any], primary: str | None) -> Measured | None:
    """Of the longest window that is mature; where none is, of the longest that ends with the day."""
    ripe = [window for window in body["mature"] if window["realised"]["status"] == "mature"]
    for window in (*reversed(ripe), *reversed(body["newest"])):
        realised = window["realised"]
        found = realised["metrics"].get(primary)
        if found or window is body["newest"][0]:
            value = Interval(**found) if found else None
            return Measured(window["first"], window["last"], value, realised["status"], realised["told"])
    return None


def _estimated(body: dict[str, Any], primary: str | None) -> Measured | None:
    for window in reversed(body["newest"]):
        found = window["estimates"].get(primary)
        if found:
            value = Interval(found["value"], found["low"], found["high"])
            return Measured(window["first"], window["last"], value, found["method"], "without labels")
    return None


def _worse(body: dict[str, Any]) -> Iterator[WorseSlice]:
    for one in body.get("worse", ()):
        yield WorseSlice(one["name"], one["then"], one["now"])


def _retrainings(name: str, decisions: Sequence[Line], until: datetime, ledger: Ledger) -> Iterator[Retrained]:
    ended = {line.body["decision"]: line for line in ledger.lines(name, "retrained")}
    graded = {line.body["decision"]: line for line in ledger.lines(name, "graded") if "decision" in line.body}
    for line in decisions:
        if line.body["action"] != "retrain" or _cutoff(line) <= until - MONTH:
            continue
        end, grade = ended.get(line.number), graded.get(line.number)
        if end is None:
            yield Retrained(_cutoff(line), "running", None, None, "has not reported yet")
            continue
        last = grade or end
        helped = grade.body["helped"] if grade else None
        yield Retrained(_cutoff(line), end.body["status"], end.version, helped, last.body["reason"])


def _breaker_open(name: str, decisions: Sequence[Line], ledger: Ledger) -> bool:
    if not decisions or not decisions[-1].body["breaker"]["is_open"]:
        return False
    closed = ledger.last(name, "breaker_closed")
    return closed is None or closed.number < decisions[-1].number


def _policy(name: str, settings: Settings) -> tuple[Retraining | None, str]:
    """The model file's rules for retraining; or what is wrong with it."""
    try:
        return load_model(name, settings.models_dir).retraining, ""
    except BadConfiguration as error:
        return None, str(error)


def _decided(line: Line | None) -> Decided | None:
    return None if line is None else Decided(line.instant, line.kind, line.version, line.body["reason"])


def to_json(found: Sequence[ModelStatus]) -> str:
    """Everything, as a list of objects."""
    return json.dumps([asdict(one) for one in found], sort_keys=True, default=lambda instant: instant.isoformat())
