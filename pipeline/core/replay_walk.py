"""One policy walked through history: at every check it decides by what could be known then, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Literal, Protocol

from pipeline.core.aftermath import did_it_help
from pipeline.core.alarms import Alarm, Finding
from pipeline.core.replay_policies import NamedPolicy
from pipeline.core.retraining import decide_retraining
from pipeline.core.situation import Breaker, Champion, Decision, Drop, Explained, Retraining, Situation
from pipeline.core.verdict import Difference

PERSON_DAYS = 7
"""A person who is called has looked by then: the breaker is closed again, and data that was taken for broken is taken
for right, since it stands so in the history."""

CLOSED = Breaker()


@dataclass(frozen=True)
class Known:
    """What a model was trained on, and what became known after it."""

    trained_rows: int
    new_rows: int
    learnable_until: datetime | None
    """See `Situation.learnable_until`."""


@dataclass(frozen=True)
class Watched:
    """What the monitors say of a model at a check."""

    alarms: tuple[Explained, ...] = ()
    findings: tuple[Finding, ...] = ()
    confirmed: tuple[Alarm, ...] = ()
    """Told for the first time."""
    realised: Drop | None = None
    estimated: Drop | None = None


class History(Protocol):
    """The past, answering for every model and every check; a model is named by the day of its cut-off.

    No answer may rest on anything that was not known at the start of the check's day.
    """

    @property
    def checks(self) -> Sequence[date]:
        """Days at whose start is decided, ascending; the first is the first model's cut-off."""

    def known(self, model: date, now: date) -> Known:
        """Numbers of rows."""

    def drift(self, model: date, now: date) -> Watched:
        """Alarms about columns and predictions."""

    def performance(self, model: date, now: date) -> Watched:
        """Alarms about the metric and the concept."""

    def gap(self, previous: date, model: date, now: date) -> Difference | None:
        """How much better the previous model is on labelled rows that neither has seen."""

    def refused(self, candidate: date, champion: date) -> str | None:
        """Why the model trained then does not replace the champion; None: it does."""


@dataclass(frozen=True)
class Reign:
    """A model that answers from a day on, until the next one."""

    model: date
    since: date


@dataclass(frozen=True)
class Event:
    """Something that happened on the way."""

    day: date
    kind: Literal["retrained", "refused", "rolled back", "called", "alarm"]
    told: str


@dataclass(frozen=True)
class Walk:
    """What a policy did."""

    policy: str
    reigns: tuple[Reign, ...]
    events: tuple[Event, ...]
    decisions: int

    @property
    def retrainings(self) -> int:
        """Models made after the first, those that did not become champion among them."""
        return sum(event.kind in ("retrained", "refused") for event in self.events)

    def of(self, kind: str) -> tuple[Event, ...]:
        """Events of one kind."""
        return tuple(event for event in self.events if event.kind == kind)


@dataclass(frozen=True)
class _Standing:
    """What a policy carries from one check to the next."""

    reigns: tuple[Reign, ...]
    retrainings: tuple[Retraining, ...] = ()
    breaker: Breaker = CLOSED
    called: tuple[tuple[str, datetime], ...] = ()
    """Episodes for which a person was called, and when."""
    older: tuple[Alarm, ...] = ()
    """Confirmed on the model before: where one is back, it began then."""
    confirmed: tuple[Alarm, ...] = ()
    """On this model, at the last check."""
    events: tuple[Event, ...] = ()

    @property
    def reign(self) -> Reign:
        return self.reigns[-1]


def walk(named: NamedPolicy, history: History) -> Walk:
    """Turn the loop over history under one policy.

    The first model is trained at the first check; at every later one `decide_retraining` is asked. What it retrains
    answers from that day on. A retraining that a champion's successor is held against fresh labels of is known to
    have helped or not, as in the live loop.
    """
    standing = _Standing((Reign(history.checks[0], history.checks[0]),))
    for now in history.checks[1:]:
        standing = _checked(standing, now, named, history)
    return Walk(named.name, standing.reigns, standing.events, len(history.checks) - 1)


def _checked(standing: _Standing, now: date, named: NamedPolicy, history: History) -> _Standing:
    at, model = _start(now), standing.reign.model
    nothing = Watched()
    drift = history.drift(model, now) if named.wants_drift else nothing
    measured = history.performance(model, now) if named.wants_performance else nothing
    alarms = tuple(_explained(one, standing, at) for one in (*drift.alarms, *measured.alarms))
    gap = _gap(standing, now, history) if named.wants_drift or named.wants_performance else None
    standing = _graded(standing, gap)
    known = history.known(model, now)
    situation = Situation(
        now=at,
        kind="scheduled",
        champion=Champion(_start(model), _start(standing.reign.since), known.trained_rows),
        new_rows=known.new_rows,
        alarms=alarms,
        findings=(*drift.findings, *measured.findings),
        realised=measured.realised,
        estimated=drift.estimated,
        learnable_until=known.learnable_until,
        retrainings=standing.retrainings,
        previous=gap,
        breaker=_answered(standing.breaker, at),
        called=tuple(episode for episode, _ in standing.called),
    )
    decision = decide_retraining(situation, named.policy)
    told = tuple(Event(now, "alarm", f"{a.name}: {a.told}") for a in (*drift.confirmed, *measured.confirmed))
    standing = replace(
        standing, breaker=decision.breaker, events=standing.events + told, confirmed=situation.confirmed,
        called=standing.called + tuple((episode, at) for episode in decision.called_for),
    )  # fmt: skip
    return _done(standing, decision, now, history)


def _done(standing: _Standing, decision: Decision, now: date, history: History) -> _Standing:
    """What was decided, carried out."""
    why = "; ".join(decision.reasons)
    if decision.action == "call a person":
        return replace(standing, events=(*standing.events, Event(now, "called", why)))
    if decision.action == "roll back":
        return _succeeded(standing, standing.reigns[-2].model, now, Event(now, "rolled back", why))
    if decision.action == "nothing":
        return standing
    refusal = history.refused(now, standing.reign.model)
    helped = None if refusal is None else False
    standing = replace(standing, retrainings=(*standing.retrainings, Retraining(_start(now), helped=helped)))
    if refusal is not None:
        return replace(standing, events=(*standing.events, Event(now, "refused", refusal)))
    return _succeeded(standing, now, now, Event(now, "retrained", why))


def _succeeded(standing: _Standing, model: date, now: date, event: Event) -> _Standing:
    return replace(standing, reigns=(*standing.reigns, Reign(model, now)), events=(*standing.events, event),
                   older=standing.confirmed, confirmed=())  # fmt: skip


def _explained(one: Explained, standing: _Standing, at: datetime) -> Explained:
    """The alarm since when it really stands; data that a person has looked at is not broken."""
    alarm = one.alarm
    for before in standing.older:
        if (before.kind, before.subject) == (alarm.kind, alarm.subject):
            alarm = replace(alarm, since=min(alarm.since, before.since))
    looked_at = any(e == alarm.episode and at >= when + timedelta(days=PERSON_DAYS) for e, when in standing.called)
    return Explained(alarm, None if looked_at and one.cause == "data fault" else one.cause)


def _gap(standing: _Standing, now: date, history: History) -> Difference | None:
    if len(standing.reigns) < 2:
        return None
    return history.gap(standing.reigns[-2].model, standing.reign.model, now)


def _graded(standing: _Standing, gap: Difference | None) -> _Standing:
    """Whether the retraining that made this champion helped, once labels tell."""
    if not standing.retrainings or gap is None:
        return standing
    last = standing.retrainings[-1]
    if last.helped is not None or last.cutoff != _start(standing.reign.model):
        return standing
    graded = replace(last, helped=did_it_help(None, None, gap).helped)
    return replace(standing, retrainings=(*standing.retrainings[:-1], graded))


def _answered(breaker: Breaker, at: datetime) -> Breaker:
    if breaker.is_open and breaker.since is not None and at >= breaker.since + timedelta(days=PERSON_DAYS):
        return Breaker(False, at)
    return breaker


def _start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
