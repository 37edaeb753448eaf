"""What the drift report says in sentences: the verdict of the day, its figures, its limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.adapters.champion_reference import ChampionReference
from pipeline.adapters.watch_store import Watched
from pipeline.config import ModelConfig
from pipeline.core.alarms import Alarm, AlarmState, Finding
from pipeline.core.drift_bins import MOST_IN_PAIRS
from pipeline.core.drift_test import ColumnDrift, WindowDrift
from pipeline.core.estimation import Estimate
from pipeline.core.faults import Fault
from pipeline.core.impact import error_of
from pipeline.core.metric_names import higher_is_better
from pipeline.core.schema_events import SchemaEvent
from pipeline.monitoring_records import DetectDriftRecord

Tone = Literal["good", "warn", "bad"]


@dataclass(frozen=True)
class Seen:
    """What was seen on a day, as the monitor kept it."""

    windows: tuple[WindowDrift, ...]
    predictions: tuple[WindowDrift, ...]
    standing: tuple[Alarm, ...]
    """Suspicions and alarms, confirmed ones first, then by what they cost."""
    estimated: Estimate | None
    faults: tuple[Fault, ...]
    """Columns whose values look like a fault, whether or not they changed."""
    findings: tuple[Finding, ...]
    events: tuple[SchemaEvent, ...]

    @property
    def confirmed(self) -> tuple[Alarm, ...]:
        """Alarms proper."""
        return tuple(alarm for alarm in self.standing if alarm.level == "confirmed")

    @property
    def judged(self) -> tuple[WindowDrift, ...]:
        """Windows of features that could be judged."""
        return tuple(window for window in self.windows if window.status == "ok")


@dataclass(frozen=True)
class Verdict:
    """The day in a word and in a sentence."""

    word: str
    tone: Tone
    told: str


@dataclass(frozen=True)
class Tile:
    """A figure and what it is."""

    value: str
    label: str


def seen(kept: Watched) -> Seen:
    """Read what was kept."""
    body = kept.body
    standing = [alarm for alarm in AlarmState.from_json(body["state"]).alarms if alarm.level != "resolved"]
    return Seen(
        tuple(map(_window, body["windows"])),
        tuple(map(_window, body["predictions"])),
        tuple(sorted(standing, key=lambda alarm: (alarm.level != "confirmed", -alarm.impact, alarm.name))),
        Estimate(**body["estimated"]) if body["estimated"] else None,
        tuple(Fault(**one) for one in body["faults"]),
        tuple(Finding(**one) for one in body["findings"]),
        tuple(SchemaEvent(**one) for one in body["events"]),
    )


def _window(plain: dict[str, Any]) -> WindowDrift:
    return WindowDrift(**{**plain, "columns": tuple(ColumnDrift(**column) for column in plain["columns"])})


def broken(found: Seen, model: ModelConfig) -> tuple[Fault, ...]:
    """Faults of columns that changed materially, or have an alarm: chance and seasons, too, look like another unit."""
    least = model.monitoring.min_effect
    columns = {c.column for window in found.windows for c in window.changed if c.psi >= least}
    columns |= {alarm.subject for alarm in found.standing if alarm.kind == "column"}
    return tuple(fault for fault in found.faults if fault.column in columns)


def verdict(found: Seen, model: ModelConfig) -> Verdict:
    """The worst that is true of the day, first what a retraining would not mend."""
    faults = broken(found, model)
    known = {fault.column for fault in faults}
    errors = [event for event in found.events if event.severity == "error" and event.column not in known]
    alarms = f" {_stand(found.confirmed)}" if found.confirmed else ""
    wrong = [*(f"{fault.column}: {fault.told}" for fault in faults), *(event.told for event in errors)]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        told = f"The data looks broken: {wrong[0]}{more}. Mend it before anything learns from it.{alarms}"
        return Verdict("BROKEN DATA", "bad", told)
    if found.confirmed:
        worst = max(found.confirmed, key=lambda alarm: alarm.impact)
        told = (
            f"{_stand(found.confirmed)} At worst that costs an estimated {percent(worst.impact)} of the model's error."
        )
        return Verdict("ALARM", "bad", told)
    if found.standing:
        rule = model.monitoring.confirm
        told = (
            f"A change is suspected in {_list([alarm.subject for alarm in found.standing])}. It becomes an alarm once "
            f"it is seen on {rule.seen} of {rule.of} checked days; until then nothing is done."
        )
        return Verdict("SUSPECTED", "warn", told)
    if not found.judged:
        return _not_judged(found, model)
    changed = {(finding.kind, finding.subject) for finding in found.findings}
    few = f" {_unjudged(found)}" if len(found.judged) < len(found.windows) else ""
    if changed:
        beyond = f"{_count(len(changed), 'column')} {'differs' if len(changed) == 1 else 'differ'} beyond chance"
        return Verdict("QUIET", "good", f"Nothing that matters changed: {beyond}, but not by enough.{few}")
    return Verdict("QUIET", "good", f"Nothing changed beyond what chance explains.{few}")


def _stand(alarms: Sequence[Alarm]) -> str:
    named = _list([f"{alarm.subject} (since {alarm.since})" for alarm in alarms])
    return f"{_count(len(alarms), 'alarm')} {'stands' if len(alarms) == 1 else 'stand'}: {named}."


def _not_judged(found: Seen, model: ModelConfig) -> Verdict:
    if any(window.status == "not calibrated" for window in found.windows):
        told = (
            "Changes were measured but cannot be judged: the reference has too few days to tell how much days differ "
            "from each other without drift. Train on a longer span, or set monitoring.calibration to independent."
        )
        return Verdict("NOT CALIBRATED", "warn", told)
    rows = max(window.rows for window in found.windows)
    told = f"Too little was seen to judge: {_count(rows, 'row')} so far; {model.monitoring.min_rows:,} are needed."
    if rows >= model.monitoring.min_rows:
        told = f"Too little was seen to judge: no window is complete yet. {_unjudged(found)}"
    return Verdict("INSUFFICIENT", "warn", told)


def _unjudged(found: Seen) -> str:
    named = [f"{_count(w.days, 'day')} ({w.status})" for w in found.windows if w.status != "ok"]
    return f"Not judged: the window of {_list(named)}."


def tiles(found: Seen, record: DetectDriftRecord, champion: ChampionReference) -> tuple[Tile, ...]:
    """The day in figures."""
    told = ", ".join(f"{_count(window.days, 'day')} {window.status}" for window in found.windows)
    suspected = len(found.standing) - len(found.confirmed)
    also = f", and {_count(suspected, 'suspicion')}" if suspected else ""
    return (
        Tile(f"{record.rows:,}", f"rows of {record.day}"),
        Tile(f"{len(found.judged)} of {len(found.windows)}", f"windows judged: {told}"),
        Tile(f"{len(found.confirmed)}", f"{'alarm' if len(found.confirmed) == 1 else 'alarms'}{also}"),
        _estimate(found, champion),
    )


def _estimate(found: Seen, champion: ChampionReference) -> Tile:
    metric = champion.register.evaluate.primary
    before = champion.registered[metric]
    if found.estimated is None:
        return Tile(number(before.value), f"{spoken(metric)} at registration; nothing calls for a new estimate")
    now = found.estimated
    label = f"{spoken(metric)}, estimated without labels ({number(now.low)} to {number(now.high)})"
    return Tile(number(now.value), f"{label}; {number(before.value)} at registration")


def cost(impact: float, champion: ChampionReference) -> str:
    """An estimated loss, in the metric too."""
    metric = champion.register.evaluate.primary
    before = champion.registered[metric].value
    way = "lower" if higher_is_better(metric) else "higher"
    points = impact * error_of(metric, before)
    return f"{percent(impact)} of the model's error: {spoken(metric)} {way} by about {number(points)}"


def limits(found: Seen, champion: ChampionReference, model: ModelConfig) -> Iterator[str]:
    """What this page cannot tell, for this model on this day."""
    days = model.target.known_after_days
    yield (
        "It looks at what goes in and what comes out, not at what became true. Where the same features begin to mean "
        f"something else (a change of concept), nothing here moves; labels tell that, after {days:g} days."
    )
    yield (
        "What a change costs is estimated before any label is known: from how much the model leans on the column and "
        "how many rows moved, and from the rows that judged it, weighed to look like the new ones."
    )
    for window in found.windows:
        if window.status == "insufficient":
            yield f"The window of {_count(window.days, 'day')} has too few rows or is not complete yet: not judged."
        elif window.status == "not calibrated":
            yield (
                f"The window of {_count(window.days, 'day')} is measured but not judged: the reference has too few "
                "stretches of that length to tell how much they differ without drift."
            )
    if model.monitoring.calibration == "independent":
        yield "Rows count as independent. Real days differ more, so more false alarms come than the budget says."
    numbers = len(champion.features.bins.numbers)
    if numbers > MOST_IN_PAIRS:
        yield f"Changes between two columns are looked for among the first {MOST_IN_PAIRS} of {numbers} numeric ones."
    hashed = [name for name, one in champion.features.bins.categories.items() if one.hashed]
    if hashed:
        yield f"{_list(hashed)}: so many values that they are counted in groups; new ones cannot be told."


def terms(found: Seen, model: ModelConfig) -> tuple[tuple[str, str], ...]:
    """Words of the tables, in a line each."""
    watch = model.monitoring
    levels = ", ".join(f"{window.level:.0e} for {_count(window.days, 'day')}" for window in found.windows)
    alike = (
        "none beyond chance; where a figure beside it is large, the days of before differed as much among themselves"
    )
    return (
        ("change", f"population stability index (PSI): 0 is the same, {watch.min_effect:g} is where this model file "
                   "begins to care, 0.25 is large"),
        ("moved", "share of the rows that would need another value to look like before"),
        ("shift", "how far the mean moved, in standard deviations of before; from 0.5 on anybody sees it"),
        ("chance", f"probability of so large a difference if nothing had changed. It counts below {levels}: so low "
                   "that all columns, windows and days together give at most "
                   f"{watch.false_alarms_per_year:g} false alarms a year"),
        *((("no change", alike),) if watch.calibration == "blocks" else ()),
        ("leans on it", "how much larger the model's error would be without the column"),
        ("would cost", "estimated loss, as a share of the model's error; of an alarm the largest so far. "
                       f"From {percent(watch.min_impact)} on it is worth one"),
    )  # fmt: skip


def spoken(metric: str) -> str:
    """A metric's name for people."""
    return metric.replace("_", " ")


def percent(share: float) -> str:
    """A share for people.

    >>> percent(0.1234), percent(0.00002)
    ('12.3 %', '0.0 %')
    """
    return f"{100 * share:.1f} %"


def number(value: float) -> str:
    """A figure for people.

    >>> number(0.86391), number(12345.6)
    ('0.8639', '12,346')
    """
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"


def _count(many: int, noun: str) -> str:
    return f"{many:,} {noun}" if many == 1 else f"{many:,} {noun}s"


def _list(names: Sequence[str]) -> str:
    """At most three of them.

    >>> _list(["a", "b"]), _list(["a", "b", "c", "d"])
    ('a and b', 'a, b, c and 1 more')
    """
    if len(names) > 3:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
