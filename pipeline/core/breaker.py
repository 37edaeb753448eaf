"""The breaker: where retraining does not help, stop and call a person."""

from __future__ import annotations

from datetime import datetime, timedelta

from pipeline.core.alarms import Alarm
from pipeline.core.situation import Breaker, Policy, Situation


def settled(situation: Situation) -> Breaker:
    """The breaker as it stands: an open one closes by itself when no alarm from before its opening is left."""
    breaker = situation.breaker
    if not breaker.is_open or breaker.since is None:
        return breaker
    left = [alarm for alarm in situation.confirmed if alarm.since <= breaker.since.date()]
    return breaker if left else Breaker(False, situation.now)


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
