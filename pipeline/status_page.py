"""The page that `status` prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from pipeline.status import Measured, ModelStatus

MOST_ALARMS = 3
"""Of each model, on the page; `--json` has all of them."""
MOST_WORSE = 3
"""Slices of each model, on the page; `--json` has all of them."""
MOST_CHARACTERS = 150
"""Of a reason, on the page."""
Tone = Literal["", "good", "warn", "bad"]
STYLES = {"": "", "good": "green", "warn": "yellow", "bad": "bold red"}


@dataclass(frozen=True)
class Row:
    """A line of the page."""

    label: str
    text: str
    tone: Tone = ""


def rows(one: ModelStatus, now: datetime) -> tuple[Row, ...]:
    """The page's lines about a model."""
    return tuple(_rows(one, now))


def _rows(one: ModelStatus, now: datetime) -> Iterator[Row]:
    if one.fault:
        yield Row("model file", one.fault, "bad")
    if one.champion is None or one.since is None or one.cutoff is None:
        yield Row("champion", f"none; {_count(one.versions, 'version')} registered", "warn")
    else:
        since = f"since {_minute(one.since)} ({_ago(now - one.since)})"
        knows = f"knows all up to {_minute(one.cutoff)} ({_ago(now - one.cutoff)})"
        yield Row("champion", f"version {one.champion} of {one.versions}, {since}; {knows}")
        yield from _trial(one, now)
        yield Row("watched", _watched(one, now), "bad" if any(m.stale for m in one.monitors) else "good")
        yield from _alarms(one)
        yield from _performance(one)
        yield from _retraining(one)
    if one.decision is not None:
        yield Row("decision", f"{_minute(one.decision.at)}: {_short(one.decision.told)}")
    if one.last is not None:
        of = f" version {one.last.version}" if one.last.version is not None else ""
        yield Row("versions", f"{_minute(one.last.at)}: {one.last.kind.replace('_', ' ')}{of}: {_short(one.last.told)}")


def _watched(one: ModelStatus, now: datetime) -> str:
    parts = []
    for found in one.monitors:
        if found.at is None or found.cutoff is None:
            parts.append(f"{found.monitor} never")
            continue
        stale = f" STALE, the limit is {found.limit_hours:g} hours" if found.stale else ""
        parts.append(f"{found.monitor} {_ago(now - found.at)} (cut-off {_minute(found.cutoff)}){stale}")
    day = f"last day checked {one.last_day}" if one.last_day else "no day of this champion is checked yet"
    return f"{', '.join(parts)}; {day}"


def _trial(one: ModelStatus, now: datetime) -> Iterator[Row]:
    trial = one.trial
    if trial is None:
        return
    shown = "shown to nobody" if trial.strategy == "shadow" else f"met by {trial.share:.4g} of the users"
    yield Row("on trial", f"version {trial.version}: {trial.strategy}, step {trial.step}, {shown}, "
              f"began {_ago(now - trial.since)}")  # fmt: skip
    verdict = "not judged in this step yet"
    if trial.judged is not None:
        verdict = f"{_minute(trial.judged.at)}: {_short(trial.judged.told)}"
    yield Row("", verdict, "" if trial.judged is None or trial.judged.told.startswith("advance") else "warn")


def _alarms(one: ModelStatus) -> Iterator[Row]:
    if not one.alarms:
        yield Row("alarms", "none" if one.last_day else "not known", "good" if one.last_day else "warn")
    ordered = sorted(one.alarms, key=lambda alarm: (alarm.level != "confirmed", -alarm.impact))
    for number, alarm in enumerate(ordered[:MOST_ALARMS]):
        told = f"{alarm.level}: {alarm.subject} since {alarm.since}, estimated loss {alarm.impact:.1%} of the error"
        tone: Tone = "bad" if alarm.level == "confirmed" else "warn"
        yield Row("" if number else "alarms", f"{told}: {_short(alarm.told)}", tone)
    if len(ordered) > MOST_ALARMS:
        yield Row("", f"and {len(ordered) - MOST_ALARMS} more")


def _performance(one: ModelStatus) -> Iterator[Row]:
    before = f"; {one.registered.value:.4f} at registration" if one.registered else ""
    if one.realised is not None:
        found = one.realised
        about = _span(found) if found.value else f"{_span(found)}: {_short(found.told)}"
        tone: Tone = "good" if found.status == "mature" else "warn"
        yield Row("realised", f"{_metric(one, found)}, {about}, {found.status}{before}", tone)
    if one.estimated is not None:
        yield Row("estimated", f"{_metric(one, one.estimated)}, {_span(one.estimated)}, without labels{before}")
    for number, slice_ in enumerate(one.worse[:MOST_WORSE]):
        yield Row("" if number else "worse on", _short(slice_.told), "warn")
    if len(one.worse) > MOST_WORSE:
        yield Row("", f"and {len(one.worse) - MOST_WORSE} more slices")


def _metric(one: ModelStatus, found: Measured) -> str:
    if found.value is None:
        return f"{one.primary} not known"
    return f"{one.primary} {found.value.value:.4f} ({found.value.low:.4f} to {found.value.high:.4f})"


def _span(found: Measured) -> str:
    return f"{found.first} to {found.last}"


def _retraining(one: ModelStatus) -> Iterator[Row]:
    until = one.retrainings_until
    of = "" if one.budget is None else f", {one.budget_left} of {one.budget} left"
    breaker = "; the breaker is OPEN: it waits for a person, then `close-breaker`" if one.breaker_open else ""
    made = "nothing decided yet" if until is None else f"{len(one.retrainings)} in the 30 days to {until:%Y-%m-%d}"
    mode = "" if one.mode in (None, "enabled") else f"; retraining is {one.mode} in the model file"
    yield Row("retrainings", f"{made}{of}{mode}{breaker}",
              "bad" if one.breaker_open else "")  # fmt: skip
    for past in one.retrainings:
        made = f" version {past.version}" if past.version is not None else ""
        helped = {True: ", helped", False: ", did not help", None: ""}[past.helped]
        yield Row("", f"{_minute(past.cutoff)}: {past.outcome}{made}{helped}: {_short(past.told)}",
                  "warn" if past.helped is False or past.outcome == "failed" else "")  # fmt: skip


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _minute(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M}"


def _ago(delta: timedelta) -> str:
    """A span for people.

    >>> _ago(timedelta(minutes=59)), _ago(timedelta(hours=30)), _ago(timedelta(days=3, hours=1))
    ('59 minutes ago', '30 hours ago', '3 days ago')
    """
    minutes = int(delta.total_seconds() // 60)
    for size, noun, most in ((1, "minute", 120), (60, "hour", 48 * 60)):
        if minutes < most:
            return f"{_count(minutes // size, noun)} ago"
    return f"{_count(delta.days, 'day')} ago"


def _short(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= MOST_CHARACTERS else one_line[: MOST_CHARACTERS - 3] + "..."


def show(found: Sequence[ModelStatus], now: datetime) -> None:
    """Print the page: in colour on a terminal, else plain."""
    if not found:
        print("there is no model file yet; `python -m pipeline new NAME --data FILE --target COLUMN` writes one")
    for one in found:
        if sys.stdout.isatty():
            _coloured(one, now)
        else:
            print(one.model)
            print("".join(f"  {row.label:<13}{row.text}\n" for row in rows(one, now)))


def _coloured(one: ModelStatus, now: datetime) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for row in rows(one, now):
        table.add_row("", Text(row.label, style="dim"), Text(row.text, style=STYLES[row.tone]))
    console = Console(highlight=False)
    console.print(Text(one.model, style="bold"))
    console.print(table)
    console.print()
