"""Whether to retrain: what was seen, why that asks for a retraining or not, and when one could be next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from pipeline.core.aftermath import undoing
from pipeline.core.alarms import Alarm
from pipeline.core.breaker import failures, opened_by_fault, persisting, settled, why_open
from pipeline.core.situation import Breaker, Champion, Decision, Policy, Retraining, Situation

MONTH = timedelta(days=30)


@dataclass(frozen=True)
class Trigger:
    """Something that asks for a retraining, and what it has to wait for."""

    kind: Literal["drift", "performance", "age", "volume"]
    told: str
    waits: str | None = None


def decide_retraining(situation: Situation, policy: Policy) -> Decision:
    """Nothing, retrain, roll back or call a person; every reason is told, those for doing nothing too.

    Questions are asked in this order, and the first that has an answer decides: is this run one that may ask for
    anything (never a backfill, nor one whose cut-off is not after the champion's and the last retraining's); is the
    data at fault (then the breaker opens and a person is called, once: what learns from broken data breaks); is the
    predecessor better; did the last retrainings not help (then the breaker opens, and a person is called, once); does
    one run already; is there a trigger, and what holds it back.

    A trigger is an alarm that was seen after the champion's cut-off, an age, or a number of new rows. All wait for
    new labelled rows, for the cool-down, and for the budget of any 30 days. Where the budget allows two or more, its
    last one is kept for a performance that is worse beyond doubt by mature labels; and a performance alarm need not
    wait for the cool-down once it is known whether the last retraining helped.

    Pure: the caller keeps `breaker` and `called_for`, and hands them back the next time.

    >>> from datetime import UTC
    >>> june = datetime(2026, 6, 1, tzinfo=UTC)
    >>> champion = Champion(june - timedelta(days=100), june - timedelta(days=99), trained_rows=5000)
    >>> decide_retraining(Situation(june, "scheduled", champion, 900), Policy(max_age_days=90)).action
    'retrain'
    >>> decide_retraining(Situation(june, "backfill", champion, 900), Policy(max_age_days=90)).reasons
    ('a backfill requests no retraining',)
    """
    if policy.mode == "disabled":
        return Decision("nothing", ("retraining is disabled in the model file",), situation.breaker)
    decision = _decide(situation, policy)
    if policy.mode == "enabled" or decision.action == "nothing":
        return decision
    told = f"retraining only looks on (dry_run); it would have said {decision.action}"
    return Decision("nothing", (told, *decision.reasons), situation.breaker, judged=decision.action)


def _decide(situation: Situation, policy: Policy) -> Decision:
    champion = situation.champion
    if champion is None:
        return Decision(
            "nothing",
            ("there is no champion yet, or no day that is new to it; training makes the first",),
            situation.breaker,
        )
    misplaced = _misplaced(situation, champion)
    if misplaced is not None:
        return Decision("nothing", (misplaced,), situation.breaker)
    situation = replace(situation, breaker=settled(situation))
    at_fault = _data_fault(situation)
    if at_fault is not None:
        return at_fault
    undo = undoing(situation, policy)
    if undo is not None:
        return Decision("roll back", (undo,), situation.breaker)
    stopped = _breaker(situation, policy)
    if stopped is not None:
        return stopped
    if situation.running:
        return Decision("nothing", ("a retraining is running; one at a time",), situation.breaker)
    return _weigh(situation, champion, policy)


def _misplaced(situation: Situation, champion: Champion) -> str | None:
    """Why a run at this place in time may ask for nothing."""
    if situation.kind == "backfill":
        return "a backfill requests no retraining"
    if champion.cutoff >= situation.now:
        return f"the champion was trained at {_at(champion.cutoff)}, which is this cut-off or a later one"
    last = _last(situation)
    if last is not None and last.cutoff >= situation.now:
        return f"there was a retraining at {_at(last.cutoff)}, which is this cut-off or a later one"
    return None


def _data_fault(situation: Situation) -> Decision | None:
    faults = [e.alarm for e in situation.alarms if e.cause == "data fault" and e.alarm in situation.confirmed]
    if not faults:
        return None
    told = tuple(f"{alarm.subject}: data fault since {alarm.since}: {alarm.told}" for alarm in faults)
    known = any(alarm.episode in situation.called for alarm in faults)
    new = tuple(  # what the fault does to the performance is no other fault
        alarm.episode
        for alarm in faults
        if alarm.episode not in situation.called and not (known and alarm.kind == "performance")
    )
    if not new:
        return Decision("nothing", (*told, "a person was called; no retraining on such data"), situation.breaker)
    why = "mend the source: a model that is trained on broken data is broken too"
    breaker = opened_by_fault(situation.breaker, faults, situation.now)
    return Decision("call a person", (*told, why), breaker, called_for=new)


def _breaker(situation: Situation, policy: Policy) -> Decision | None:
    breaker = situation.breaker
    if breaker.is_open and breaker.since is not None:
        return Decision("nothing", why_open(situation), breaker)
    failed = failures(situation, policy)
    last = max((past.cutoff for past in situation.retrainings if past.finished), default=None)
    if last is None or failed < policy.breaker_after:
        return None
    left = persisting(situation, last)
    reasons = (
        "drift persists after retraining: stop and call a person",
        f"the last {failed} retrainings did not help, the latest of {_at(last)}",
        *(f"{alarm.subject}: since {alarm.since}, seen again on {alarm.last_seen}: {alarm.told}" for alarm in left),
    )
    called = tuple(alarm.episode for alarm in left)
    opened = Breaker(True, situation.now, "does not help", called)
    return Decision("call a person", reasons, opened, called_for=called)


def _weigh(situation: Situation, champion: Champion, policy: Policy) -> Decision:
    """Retrain where there is a trigger that nothing holds back."""
    triggers = [_held_back(t, situation, policy) for t in _triggers(situation, champion, policy)]
    free = [t.told for t in triggers if t.waits is None]
    if free:
        known = [f"{drop}" for drop in (situation.realised, situation.estimated) if drop is not None]
        used = f"{len(_in_month(situation))} of {policy.budget_per_month} retrainings of 30 days are used"
        return Decision("retrain", (*free, *known, used), situation.breaker)
    told = [f"{t.told}; {t.waits}" for t in triggers] or [_nothing_asks(situation, champion, policy)]
    told += _looked_past(situation, champion, policy)
    return Decision("nothing", tuple(told), situation.breaker)


def _triggers(situation: Situation, champion: Champion, policy: Policy) -> list[Trigger]:
    triggers = []
    for alarm in situation.confirmed:
        wanted = policy.on_performance if alarm.kind == "performance" else policy.on_alarm
        if not wanted or _answered(alarm, champion):
            continue
        told = f"{alarm.subject}: confirmed, since {alarm.since}, estimated loss {alarm.impact:.1%}: {alarm.told}"
        if alarm.kind == "performance":
            triggers.append(Trigger("performance", told))
            continue
        until = situation.learnable_until
        waits = None
        if until is not None and until.date() < alarm.since:
            waits = f"a model trained now would learn what was so until {_at(until)}: too early to learn the change"
        triggers.append(Trigger("drift", told, waits))
    age = (situation.now - champion.cutoff) / timedelta(days=1)
    if policy.max_age_days is not None and age >= policy.max_age_days:
        triggers.append(Trigger("age", f"the champion is {age:.0f} days old, {policy.max_age_days:g} are allowed"))
    if policy.min_new_share is not None and situation.new_rows >= policy.min_new_share * champion.trained_rows:
        told = f"{situation.new_rows:,} new labelled rows, it was trained on {champion.trained_rows:,}"
        triggers.append(Trigger("volume", told))
    return triggers


def _held_back(trigger: Trigger, situation: Situation, policy: Policy) -> Trigger:
    """The trigger with what it has to wait for, if anything."""
    if trigger.waits is not None:
        return trigger
    for waits in (
        _rows(situation, policy),
        _cool_down(trigger, situation, policy),
        _budget(trigger, situation, policy),
    ):
        if waits is not None:
            return replace(trigger, waits=waits)
    return trigger


def _rows(situation: Situation, policy: Policy) -> str | None:
    if situation.new_rows >= policy.min_rows:
        return None
    return f"only {situation.new_rows:,} new labelled rows, {policy.min_rows:,} are needed to learn anything new"


def _cool_down(trigger: Trigger, situation: Situation, policy: Policy) -> str | None:
    last = _last(situation)
    if last is None or (trigger.kind == "performance" and last.finished and last.helped is not None):
        return None
    until = last.cutoff + timedelta(days=policy.cool_down_days)
    return (
        f"cooling down after the retraining of {_at(last.cutoff)} until {_at(until)}" if situation.now < until else None
    )


def _budget(trigger: Trigger, situation: Situation, policy: Policy) -> str | None:
    used = _in_month(situation)
    limit, kept = policy.budget_per_month, ""
    if policy.on_performance and limit >= 2 and not (trigger.kind == "performance" and _beyond_doubt(situation)):
        limit, kept = limit - 1, ", the last is kept for a performance that is worse beyond doubt"
    if len(used) < limit:
        return None
    if limit <= 0:
        return "the model file allows no retraining"
    free = used[len(used) - limit].cutoff + MONTH
    return f"{len(used)} of {policy.budget_per_month} retrainings of 30 days are used{kept}; next from {_at(free)} on"


def _beyond_doubt(situation: Situation) -> bool:
    drop = situation.realised
    return drop is not None and drop.mature and drop.source == "realised" and drop.low > 0


def _in_month(situation: Situation) -> list[Retraining]:
    """Retrainings of the last 30 days, the oldest first; one of exactly 30 days ago is none of them."""
    recent = (past for past in situation.retrainings if past.cutoff > situation.now - MONTH)
    return sorted(recent, key=lambda past: past.cutoff)


def _last(situation: Situation) -> Retraining | None:
    return max(situation.retrainings, key=lambda past: past.cutoff, default=None)


def _answered(alarm: Alarm, champion: Champion) -> bool:
    """Not seen on data that the champion has not learned from."""
    return alarm.last_seen <= champion.cutoff.date()


def _nothing_asks(situation: Situation, champion: Champion, policy: Policy) -> str:
    age = (situation.now - champion.cutoff) / timedelta(days=1)
    allowed = "" if policy.max_age_days is None else f" of {policy.max_age_days:g}"
    return f"nothing asks for it: the champion is {age:.0f} days old{allowed}, {situation.new_rows:,} new labelled rows"


def _looked_past(situation: Situation, champion: Champion, policy: Policy) -> list[str]:
    """What was seen and is no trigger, and why."""
    told = [f.told for f in situation.findings if f.outcome != "alarm"]
    for alarm in (explained.alarm for explained in situation.alarms):
        wanted = policy.on_performance if alarm.kind == "performance" else policy.on_alarm
        why = None
        if alarm.level == "suspected":
            why = f"suspected since {alarm.since}, not confirmed"
        elif alarm.level == "confirmed" and not alarm.used:
            why = f"no action: the model does not use it (importance {max(alarm.importance or 0, 0):.3f})"
        elif alarm.level == "confirmed" and _answered(alarm, champion):
            why = f"not seen again since the champion was trained at {_at(champion.cutoff)}"
        elif alarm.level == "confirmed" and not wanted:
            why = "the policy does not retrain on it"
        if why is not None:
            told.append(f"{alarm.subject}: {why}: {alarm.told}")
    return told


def _at(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M}"
