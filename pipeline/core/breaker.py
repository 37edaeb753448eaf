"""The breaker: where the data is at fault, or retraining does not help, stop and call a person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from pipeline.core.alarms import Alarm
from pipeline.core.situation import Breaker, Policy, Situation


def settled(situation: Situation) -> Breaker:
    """The breaker as it stands: an open one closes by itself when nothing that it opened for is left."""
    breaker = situation.breaker
    if not breaker.is_open or breaker.since is None or holding(situation):
        return breaker
    return Breaker(False, situation.now)


def holding(situation: Situation) -> tuple[Alarm, ...]:
    """Confirmed alarms that keep the breaker open: those that it opened for.

    A data fault lets go when its alarm is resolved, or is seen and is no data fault any longer; a day on which it was
    not seen does not tell. Which alarms a breaker without a cause opened for is not known: all keep it open.
    """
    breaker = situation.breaker
    if not breaker.is_open or breaker.since is None:
        return ()
    standing = [one for one in situation.alarms if one.alarm in situation.confirmed]
    left = [one for one in standing if _opened_for(one.alarm, breaker, breaker.since.date())]
    if breaker.cause == "data fault":
        left = [one for one in left if one.cause == "data fault" or one.alarm.last_seen < situation.now.date()]
    return tuple(one.alarm for one in left)


def _opened_for(alarm: Alarm, breaker: Breaker, opened: date) -> bool:
    if breaker.cause is None:
        return alarm.since <= opened
    # The first day of an alarm moves where the champion changes; what the alarm is on does not.
    subjects = {episode.rpartition(":")[0] for episode in breaker.episodes}
    again = alarm.since <= opened and f"{alarm.kind}:{alarm.subject}" in subjects
    return again or alarm.episode in breaker.episodes


def opened_by_fault(breaker: Breaker, faults: Sequence[Alarm], now: datetime) -> Breaker:
    """Open because of these data faults; one that is open already stays so for what it opened for before as well."""
    episodes = tuple(alarm.episode for alarm in faults)
    if not breaker.is_open or breaker.since is None:
        return Breaker(True, now, "data fault", episodes)
    if breaker.cause is None:
        return breaker
    return Breaker(True, breaker.since, breaker.cause, tuple(dict.fromkeys((*breaker.episodes, *episodes))))


def why_open(situation: Situation) -> tuple[str, ...]:
    """Why the breaker is open, what keeps it so, and what closes it."""
    breaker = situation.breaker
    why, closes = {
        "data fault": ("a data fault", "its alarm is resolved, or is seen and is no data fault"),
        "does not help": ("drift persists after retraining", "the alarm is resolved"),
        None: ("for a cause that was not written down", "every alarm from before is resolved"),
    }[breaker.cause]
    return (
        f"the breaker is open since {breaker.since:%Y-%m-%d %H:%M}: {why}, a person was called",
        *(f"{one.subject}: since {one.since}, last seen on {one.last_seen}: {one.told}" for one in holding(situation)),
        f"it closes by a person (close-breaker), or when {closes}",
    )


def persisting(situation: Situation, cutoff: datetime) -> tuple[Alarm, ...]:
    """Confirmed alarms from before a retraining at `cutoff` that were seen again after it."""
    day = cutoff.date()
    return tuple(alarm for alarm in situation.confirmed if alarm.since <= day < alarm.last_seen)


def failures(situation: Situation, policy: Policy) -> int:
    """Retrainings in a row, up to now, that did not help while the alarm persists.

    One whose help is not known counts from the end of the cool-down on: an alarm that is seen that long after it is
    answer enough. Those before the breaker was last closed do not count.
    """
    closed = situation.breaker.since
    count = 0
    for past in sorted(situation.retrainings, key=lambda one: one.cutoff, reverse=True):
        if not past.finished:
            continue
        if past.helped or (closed is not None and past.cutoff <= closed) or not persisting(situation, past.cutoff):
            break
        early = situation.now < past.cutoff + timedelta(days=policy.cool_down_days)
        count += not (early and past.helped is None)
    return count
