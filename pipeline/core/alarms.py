"""Alarms: of all that changed, what is real and matters, told once.

`step` takes the alarms from one day to the next. A measurement becomes an alarm only where it is changed, material
and weighed; it is suspected at first sight, confirmed when it is seen on k of the last n checked days and today,
and resolved after quiet days.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from typing import Any, Literal

Kind = Literal["column", "pair", "prediction", "performance"]
Level = Literal["suspected", "confirmed", "resolved"]
Outcome = Literal["alarm", "quiet", "not material", "no action"]

FORGET_DAYS = 90
"""An open alarm on something that nobody has checked for so long, such as a column that left the model, is closed."""
UNUSED = 0.0005
"""An importance below this reads 0.000: the model does not use the column."""


@dataclass(frozen=True)
class AlarmRules:
    """What a change must be to become an alarm, and how long alarms last."""

    min_effect: float = 0.1
    """Population stability index from which a change is material."""
    min_impact: float = 0.02
    """Estimated loss, as a share of the champion's error, from which a change is weighed."""
    confirm_days: int = 2
    of_days: int = 3
    """Confirmed when it is seen on `confirm_days` of the last `of_days` checked days, today among them."""
    resolve_after_days: int = 7
    """Checked days without a sight, one after the other, after which a confirmed alarm is resolved."""
    cool_down_days: int = 14
    """Days after that in which the same subject is not told again."""


@dataclass(frozen=True)
class Signal:
    """What one window of days says about one subject. A window that could not be judged has no signal."""

    kind: Kind
    subject: str
    """A column, `a × b` of a pair, `prediction` or `performance`."""
    window_days: int
    p_value: float
    """Before any correction."""
    level: float
    """From here down the p-value counts: the budget's level for this window, corrected already."""
    effect: float
    """Population stability index; of the performance, the share of the metric that is lost."""
    impact: float
    """Estimated loss in the primary metric, as a share of the champion's error."""
    told: str
    """The evidence in one line: what changed, from what to what."""
    importance: float | None = None
    """What the model would lose without the column, as a share of the champion's error; None: not known."""

    @property
    def changed(self) -> bool:
        """More than chance explains."""
        return self.p_value <= self.level

    def material(self, rules: AlarmRules) -> bool:
        """Large enough to matter. Of the performance, the impact alone tells."""
        return self.kind == "performance" or self.effect >= rules.min_effect

    def counts(self, rules: AlarmRules) -> bool:
        """Changed, material and weighed."""
        return self.changed and self.material(rules) and self.impact >= rules.min_impact


@dataclass(frozen=True)
class Alarm:
    """One episode of one subject, from the first sight on."""

    kind: Kind
    subject: str
    level: Level
    since: date
    """First seen."""
    last_seen: date
    last_checked: date
    days_checked: tuple[date, ...]
    """The last checked days, at most `of_days` of them."""
    days_seen: tuple[date, ...]
    """Those of them on which it was seen."""
    quiet_days: int
    """Checked days since it was last seen."""
    window_days: int
    """The window that saw it last, and strongest."""
    effect: float
    impact: float
    """At worst."""
    importance: float | None
    told: str
    """The evidence of the last sight."""
    confirmed_on: date | None = None
    resolved_on: date | None = None

    @property
    def name(self) -> str:
        """As people read it: the name of a column could also be `prediction`."""
        return f"column {self.subject}" if self.kind == "column" else self.subject

    @property
    def episode(self) -> str:
        """Names this alarm among all of a model, such as `column:tenure:2026-03-04`."""
        return f"{self.kind}:{self.subject}:{self.since}"

    @property
    def used(self) -> bool:
        """Whether the model leans on what changed, as far as is known."""
        return self.importance is None or self.importance >= UNUSED


@dataclass(frozen=True)
class AlarmState:
    """All alarms that are open or in their cool-down, and the day they stand at."""

    day: date | None = None
    alarms: tuple[Alarm, ...] = ()

    def at(self, level: Level) -> tuple[Alarm, ...]:
        """Those of one level."""
        return tuple(alarm for alarm in self.alarms if alarm.level == level)

    def to_json(self) -> str:
        """Canonical: sorted keys, days as ISO dates."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)

    @classmethod
    def from_json(cls, text: str) -> AlarmState:
        """The inverse of `to_json`."""
        content = json.loads(text)
        return cls(_date(content["day"]), tuple(_alarm(plain) for plain in content["alarms"]))


@dataclass(frozen=True)
class Finding:
    """What became of a change that was seen, and why."""

    kind: Kind
    subject: str
    outcome: Outcome
    told: str


@dataclass(frozen=True)
class Step:
    """The state of the day, and what is new in it."""

    state: AlarmState
    raised: tuple[Alarm, ...]
    """Newly suspected."""
    confirmed: tuple[Alarm, ...]
    """To be told: newly confirmed, once an episode."""
    resolved: tuple[Alarm, ...]
    findings: tuple[Finding, ...]
    """One for every subject that changed, strongest window first in its text."""


def step(state: AlarmState, day: date, signals: Sequence[Signal], rules: AlarmRules) -> Step:
    """The alarms of `day`, from those of an earlier day and the signals of today.

    `day`: the date of the cut-off that the check ran at. `signals`: one for every subject and window that could be
    judged, changed or not. Where none is given, as for too few rows or a reference without calibration, the day
    neither confirms nor resolves; nor does a quiet window shorter than the one that saw the alarm.

    The same state, day and signals give the same step, in whatever order the signals come. Raises ValueError for a
    day that is not after the state's.

    >>> seen = Signal("column", "tenure", 7, 1e-9, 1e-6, 0.31, 0.12, "mean 32 -> 41", importance=0.4)
    >>> first = step(AlarmState(), date(2026, 3, 4), [seen], AlarmRules())
    >>> second = step(first.state, date(2026, 3, 5), [seen], AlarmRules())
    >>> [a.level for a in first.raised], [(a.level, str(a.since)) for a in second.confirmed]
    (['suspected'], [('confirmed', '2026-03-04')])
    >>> step(second.state, date(2026, 3, 6), [seen], AlarmRules()).confirmed
    ()
    """
    if state.day is not None and day <= state.day:
        raise ValueError(f"the alarms stand at {state.day}, so {day} is no day to step to; start from an earlier state")
    kept = [alarm for alarm in state.alarms if not _cooled_down(alarm, day, rules)]
    known = {(alarm.kind, alarm.subject): alarm for alarm in kept}
    today: dict[tuple[Kind, str], list[Signal]] = {}
    for signal in signals:
        today.setdefault((signal.kind, signal.subject), []).append(signal)
    findings: list[Finding] = []
    pairs: list[tuple[Alarm | None, Alarm]] = []
    for key in sorted(known.keys() | today.keys()):
        before, views = known.get(key), today.get(key, [])
        after = _advance(before, views, day, rules)
        if after is not None:
            pairs.append((before, after))
        findings += _findings(after, views, rules)
    return Step(
        AlarmState(day, tuple(after for _, after in pairs)),
        raised=tuple(new for old, new in pairs if old is None and new.level == "suspected"),
        confirmed=tuple(new for _, new in pairs if new.confirmed_on == day),
        resolved=tuple(new for _, new in pairs if new.resolved_on == day),
        findings=tuple(findings),
    )


def _advance(alarm: Alarm | None, views: Sequence[Signal], day: date, rules: AlarmRules) -> Alarm | None:
    """One subject from its last state to today's; None: nothing to keep."""
    seen = _strongest([view for view in views if view.counts(rules)])
    if alarm is None:
        if seen is None:
            return None
        alarm = Alarm(seen.kind, seen.subject, "suspected", day, day, day, (), (), 0, seen.window_days,
                      seen.effect, seen.impact, seen.importance, seen.told)  # fmt: skip
    elif seen is None and max((view.window_days for view in views), default=0) < alarm.window_days:
        return _unchecked(alarm, day)
    checked = (*alarm.days_checked, day)[-rules.of_days :]
    sights = (*alarm.days_seen, day) if seen else alarm.days_seen
    alarm = replace(alarm, last_checked=day, days_checked=checked,
                    days_seen=tuple(d for d in sights if d in checked),
                    quiet_days=0 if seen else alarm.quiet_days + 1)  # fmt: skip
    if seen is None:
        if alarm.level == "suspected" and not set(alarm.days_seen) & set(checked[1 - rules.of_days :]):
            return None  # from tomorrow on no sight would be among the last days
        if alarm.level == "confirmed" and alarm.quiet_days >= rules.resolve_after_days:
            return replace(alarm, level="resolved", resolved_on=day)
        return alarm
    alarm = replace(alarm, last_seen=day, window_days=seen.window_days, effect=max(alarm.effect, seen.effect),
                    impact=max(alarm.impact, seen.impact), importance=seen.importance, told=seen.told)  # fmt: skip
    if alarm.level == "confirmed" or len(alarm.days_seen) < rules.confirm_days:
        return alarm
    # What comes back in its cool-down is the same episode: confirmed again, and not told again.
    return replace(alarm, level="confirmed", confirmed_on=alarm.confirmed_on or day, resolved_on=None)


def _unchecked(alarm: Alarm, day: date) -> Alarm:
    if alarm.level == "resolved" or (day - alarm.last_checked).days <= FORGET_DAYS:
        return alarm
    told = f"{alarm.told} (closed: not checked since {alarm.last_checked})"
    return replace(alarm, level="resolved", resolved_on=day, told=told)


def _cooled_down(alarm: Alarm, day: date, rules: AlarmRules) -> bool:
    return alarm.resolved_on is not None and day > alarm.resolved_on + timedelta(days=rules.cool_down_days)


def _strongest(views: Sequence[Signal]) -> Signal | None:
    """The most evidence against its own level; then the larger effect, then the longer window."""
    if not views:
        return None
    return min(views, key=lambda v: (v.p_value / v.level if v.level else 0.0, -v.effect, -v.window_days))


def _findings(alarm: Alarm | None, views: Sequence[Signal], rules: AlarmRules) -> Iterator[Finding]:
    """Why what changed is an alarm, or is none."""
    changed = [view for view in views if view.changed]
    counted = [view for view in changed if view.counts(rules)]
    view = _strongest(counted or changed)
    if view is None:
        return
    windows = ", ".join(str(days) for days in sorted(v.window_days for v in counted or changed))
    evidence = f"{view.told} (windows of days: {windows})"
    outcome: Outcome = "no action"
    if not view.material(rules):
        outcome, why = "not material", f"psi {view.effect:.3f} is below {rules.min_effect:g}"
    elif not counted and view.importance is not None and view.importance < UNUSED:
        why = f"the model does not use it (importance {max(view.importance, 0):.3f})"
    elif not counted:
        why = f"its estimated loss, {view.impact:.1%} of the champion's error, is below {rules.min_impact:.1%}"
    elif alarm is not None and alarm.level == "resolved":
        outcome, why = "quiet", f"resolved on {alarm.resolved_on}, and told only after {rules.cool_down_days} days"
    else:
        assert alarm is not None
        outcome, why = "alarm", f"{alarm.level} since {alarm.since}, estimated loss {view.impact:.1%}"
    yield Finding(view.kind, view.subject, outcome, f"{view.subject}: {outcome}: {why}; {evidence}")


def _date(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)


def _alarm(plain: Mapping[str, Any]) -> Alarm:
    dates = {name: _date(plain[name]) for name in ("since", "last_seen", "last_checked", "confirmed_on", "resolved_on")}
    days = {name: tuple(map(date.fromisoformat, plain[name])) for name in ("days_checked", "days_seen")}
    return Alarm(**{**plain, **dates, **days})
