"""The tables of the drift report: every column as its most telling window shows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.adapters.champion_reference import ChampionReference
from pipeline.adapters.drift_report_words import Seen, percent
from pipeline.config import ModelConfig
from pipeline.core.alarms import Alarm, Finding
from pipeline.core.drift_test import ColumnDrift, WindowDrift
from pipeline.core.impact import impact_of_change

Kind = Literal["column", "pair", "prediction"]
Tone = Literal["", "soft", "warn", "bad"]
View = tuple[ColumnDrift, WindowDrift]
"""A column, and the window that shows it."""


@dataclass(frozen=True)
class Chance:
    """The p-value of one window."""

    told: str
    changed: bool


@dataclass(frozen=True)
class ColumnRow:
    """A column in the table."""

    name: str
    change: str
    moved: str
    shift: str
    missing: str
    chances: tuple[Chance, ...]
    leans: str
    costs: str
    outcome: str
    tone: Tone
    told: str
    order: tuple[bool, bool, float, float]
    """The smaller, the more it matters."""


def columns(windows: Sequence[WindowDrift], min_effect: float) -> list[View]:
    """Each column as its most telling window shows it.

    That is the strongest evidence of a material change, else of any; where nothing changed, the longest window.
    """
    views: dict[str, list[View]] = {}
    for window in windows:
        for column in window.columns:
            views.setdefault(column.column, []).append((column, window))
    return [_telling(several, min_effect) for several in views.values()]


def _telling(views: Sequence[View], min_effect: float) -> View:
    telling = [view for view in views if is_changed(*view)]
    if telling:
        return min(telling, key=lambda view: (view[0].psi < min_effect, view[0].p_value / view[1].level, -view[0].psi))
    return max(views, key=lambda view: (view[1].status == "ok", view[1].days))


def is_changed(column: ColumnDrift, window: WindowDrift) -> bool:
    """Beyond chance, in a window that can be judged."""
    return window.status == "ok" and column.p_value <= window.level


def rows_of(found: Seen, champion: ChampionReference, model: ModelConfig) -> list[ColumnRow]:
    """Every column, and of the pairs those that changed; what matters most first."""
    made = []
    for view in columns(found.windows, model.monitoring.min_effect):
        if view[0].kind != "pair" or is_changed(*view):
            kind: Kind = "pair" if view[0].kind == "pair" else "column"
            made.append(row_of(kind, view, found, found.windows, champion, model))
    return sorted(made, key=lambda row: row.order)


def row_of(
    kind: Kind, view: View, found: Seen, windows: Sequence[WindowDrift], champion: ChampionReference, model: ModelConfig
) -> ColumnRow:
    """A column, or what the model says, as a row."""
    column, window = view
    alarm = alarm_of(kind, column.column, found.standing)
    leans = None if kind == "prediction" else _importance(column, champion)
    own = impact_of_change(leans or 0.0, column.total_variation)
    impact = alarm.impact if alarm else own
    outcome, tone, why = _outcome(kind, column, window, alarm, found.findings)
    pair, telling = column.kind == "pair", is_changed(column, window)
    return ColumnRow(
        name=column.column,
        change="-" if pair else f"{column.psi:.3f}",
        moved="-" if pair else percent(column.total_variation),
        shift=_shift(column.shift),
        missing=_missing(column),
        chances=tuple(_chance(column.column, one) for one in windows),
        leans="-" if leans is None else percent(leans),
        costs=percent(impact) if alarm or (leans is not None and telling) else "-",
        outcome=outcome,
        tone=tone,
        told=why or (column.told if telling else ""),
        order=(alarm is None, not telling, -impact if telling else 0.0, -(leans or 0.0)),
    )


def _outcome(
    kind: Kind, column: ColumnDrift, window: WindowDrift, alarm: Alarm | None, findings: Sequence[Finding]
) -> tuple[str, Tone, str]:
    """What became of it, how grave that is, and why."""
    for finding in findings:
        if (finding.kind, finding.subject) == (kind, column.column):
            why = finding.told.removeprefix(f"{finding.subject}: {finding.outcome}: ")
            if finding.outcome == "alarm" and alarm is not None:
                return alarm.level, "bad" if alarm.level == "confirmed" else "warn", why
            return finding.outcome, "", why
    if alarm is not None:
        return f"{alarm.level}, quiet", "warn", alarm.told
    return ("no change", "soft", "") if window.status == "ok" else ("not judged", "soft", "")


def alarm_of(kind: Kind, subject: str, standing: Sequence[Alarm]) -> Alarm | None:
    """The alarm that stands on it."""
    return next((alarm for alarm in standing if (alarm.kind, alarm.subject) == (kind, subject)), None)


def _importance(column: ColumnDrift, champion: ChampionReference) -> float:
    """Of a pair: of the one that matters less."""
    names = column.column.split(" × ") if column.kind == "pair" else [column.column]
    return max(0.0, min(champion.importance.get(name, 0.0) for name in names))


def _shift(shift: float | None) -> str:
    if shift is None:
        return "-"
    return f"{shift:+.2f}" if math.isfinite(shift) else "was constant"


def _missing(column: ColumnDrift) -> str:
    if column.kind == "pair" or max(column.missing_reference, column.missing_current) == 0:
        return "-"
    return f"{100 * column.missing_reference:.1f} → {percent(column.missing_current)}"


def _chance(name: str, window: WindowDrift) -> Chance:
    for column in window.columns:
        if column.column == name and window.status == "ok":
            p = column.p_value
            return Chance(f"{p:.3f}" if p >= 0.001 else f"{p:.0e}", p <= window.level)
    return Chance("-", False)
