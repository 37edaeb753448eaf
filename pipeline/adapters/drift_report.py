"""The drift report: one HTML page that says which feature changed, how, since when, and how much it matters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.adapters.champion_reference import ChampionReference
from pipeline.adapters.day_sketches import SketchedDay, sketch_day, together
from pipeline.adapters.drift_pictures import STRIP_DAYS, Daily, NamePicture, NumberPicture, Strip, picture, strip, value
from pipeline.adapters.drift_report_rows import Kind, alarm_of, columns, is_changed, row_of, rows_of
from pipeline.adapters.drift_report_words import Seen, broken, cost, limits, percent, seen, terms, tiles, verdict
from pipeline.adapters.observed import ONE_DAY, observed_days
from pipeline.adapters.watch_store import Watched, WatchStore
from pipeline.config import ModelConfig
from pipeline.core.alarms import Alarm
from pipeline.core.drift_test import WindowDrift
from pipeline.core.sketch import Sketch
from pipeline.monitoring_records import DetectDriftRecord
from pipeline.settings import Settings

TEMPLATE = "drift_report.html.j2"
MOST_ROWS = 40
MOST_PICTURES = 4
WEEK = 7
"""Days of the windows whose history is drawn, or the nearest that the model file has."""


@dataclass(frozen=True)
class Standing:
    """A suspicion or an alarm."""

    name: str
    level: str
    since: date
    first_day: date
    """Of the rows in which it was first seen."""
    told: str
    costs: str
    leans: str
    progress: str


@dataclass(frozen=True)
class Figure:
    """A column in pictures."""

    name: str
    told: str
    typical: str
    """Where the middle was and is; empty for categories."""
    days: int
    """Of the window that is drawn."""
    spread: NumberPicture | NamePicture | None
    shape: Literal["number", "names", "none"]
    month: Strip


def drift_report(
    record: DetectDriftRecord, kept: Watched, champion: ChampionReference, model: ModelConfig, settings: Settings
) -> str:
    """The page of a checked day. Raises as `observed_days` does, and OutsideFailure (database)."""
    found = seen(kept)
    rows = rows_of(found, champion, model)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    evaluate = champion.register.evaluate
    said = [view for view in columns(found.predictions, model.monitoring.min_effect) if view[0].kind != "pair"]
    return environment.get_template(TEMPLATE).render(
        record=record,
        model=model,
        day=kept.day,
        title=model.description or f"Model {model.name}",
        since=champion.since.strftime("%d %B %Y, %H:%M UTC"),
        verdict=verdict(found, model),
        tiles=tiles(found, record, champion),
        news=record.told,
        standing=[_standing(alarm, champion, model) for alarm in found.standing],
        broken=broken(found, model),
        windows=found.windows,
        rows=rows[:MOST_ROWS],
        rows_left=len(rows) - len(rows[:MOST_ROWS]),
        figures=list(_figures(_pictured(found, model), found.windows, found, kept, champion, model, settings)),
        strip_days=min(model.monitoring.windows_days, key=lambda days: abs(days - WEEK)),
        events=found.events,
        predictions=[row_of("prediction", view, found, found.predictions, champion, model) for view in said],
        predicted=list(_figures([("prediction", one.column) for one, _ in said], found.predictions, found, kept,
                                champion, model, settings)),
        limits=list(limits(found, champion, model)),
        terms=list(terms(found, model)),
        origin=[
            ("day checked", f"{kept.day} (UTC), with everything known at {kept.cutoff.isoformat()}"),
            ("held against", f"{champion.features.sketch.rows:,} rows that version {kept.version} learned from or was "
                             f"judged on, up to {champion.cutoff.isoformat()}"),
            ("predictions against", f"{champion.prediction.sketch.rows:,} rows that judged it"),
            ("rows are", "those that the service answered" if model.monitoring.data == "predictions"
                         else "those of the source, on the day they arrived"),
            ("days differ", "as much as those of the reference did" if model.monitoring.calibration == "blocks"
                            else "by chance alone (monitoring.calibration: independent)"),
            ("primary metric", f"{evaluate.primary} {evaluate.metrics[evaluate.primary].value:.4f} at registration"),
            ("package (SHA-256)", kept.champion),
            ("run", kept.run_kind),
        ],
    )  # fmt: skip


def _standing(alarm: Alarm, champion: ChampionReference, model: ModelConfig) -> Standing:
    rule = model.monitoring
    if alarm.level == "suspected":
        days = len(alarm.days_seen)
        progress = f"seen on {days} of {rule.confirm.of} days; an alarm from {rule.confirm.seen} on"
    elif alarm.quiet_days:
        progress = f"not seen for {alarm.quiet_days} of the {rule.resolve_after_days} days after which it is resolved"
    else:
        progress = f"confirmed on {alarm.confirmed_on}, still seen"
    leans = "" if alarm.importance is None else percent(max(0.0, alarm.importance))
    return Standing(alarm.name, alarm.level, alarm.since, alarm.since - ONE_DAY, alarm.told,
                    cost(alarm.impact, champion), leans, progress)  # fmt: skip


def _pictured(found: Seen, model: ModelConfig) -> list[tuple[Kind, str]]:
    """Columns worth a picture: those of alarms, then those that changed, by how much."""
    alarms: list[tuple[Kind, str]] = [("column", alarm.subject) for alarm in found.standing if alarm.kind == "column"]
    views = sorted(columns(found.windows, model.monitoring.min_effect), key=lambda view: -view[0].psi)
    changed: list[tuple[Kind, str]] = [("column", c.column) for c, w in views if c.kind != "pair" and is_changed(c, w)]
    return list(dict.fromkeys([*alarms, *changed]))[:MOST_PICTURES]


def _figures(
    subjects: Sequence[tuple[Kind, str]], windows: Sequence[WindowDrift], found: Seen, kept: Watched,
    champion: ChampionReference, model: ModelConfig, settings: Settings,
) -> Iterator[Figure]:  # fmt: skip
    """The columns in pictures, from the sketches of the days and from what was kept of the month."""
    views = {column.column: (column, window) for column, window in columns(windows, model.monitoring.min_effect)}
    if not any(name in views for _, name in subjects):
        return
    longest = max(window.days for _, window in views.values())
    days = _sketched(kept.day, longest, champion, model, settings)
    with WatchStore(settings.database_url) as store:
        first = kept.day - timedelta(days=STRIP_DAYS - 1)
        month = store.days(model.name, "drift", first, kept.day, kept.champion)
    for kind, name in subjects:
        column, window = views[name]
        alarm = alarm_of(kind, name, found.standing)
        began = alarm.since - ONE_DAY if alarm else None
        recent = days[-window.days :]
        side = champion.prediction if kind == "prediction" else champion.features
        current = together(side, [day.prediction if kind == "prediction" else day.features for day in recent])
        spread = picture(name, side.sketch, current)
        shape = {NumberPicture: "number", NamePicture: "names"}.get(type(spread), "none")
        history = _history(kind, name, month, model)
        yield Figure(name, column.told, _median(name, side.sketch, current), window.days, spread, shape,  # type: ignore[arg-type]
                     strip(history, kept.day, model.monitoring.min_effect, began))  # fmt: skip


def _median(column: str, reference: Sketch, current: Sketch) -> str:
    if column not in reference.bins.numbers:
        return ""
    (then,), (now,) = (sketch.quantiles(column, (0.5,)) for sketch in (reference, current))
    return f"median {value(then)} → {value(now)}" if math.isfinite(then) and math.isfinite(now) else ""


def _sketched(
    day: date, days: int, champion: ChampionReference, model: ModelConfig, settings: Settings
) -> list[SketchedDay]:
    """The days of a window that ends with `day`, as far as the champion had not known them."""
    first = max(day - timedelta(days=days - 1), champion.cutoff.date())
    observed = observed_days(model, champion.schema, first, day, settings)
    return [sketch_day(one, champion, settings) for one in observed]


def _history(kind: Kind, name: str, month: Sequence[Watched], model: ModelConfig) -> list[Daily]:
    return [daily for kept in month if (daily := _daily(name, kept.day, _week(kind, seen(kept), model), model))]


def _week(kind: Kind, found: Seen, model: ModelConfig) -> WindowDrift:
    windows = found.predictions if kind == "prediction" else found.windows
    return min(windows, key=lambda window: abs(window.days - WEEK))


def _daily(name: str, day: date, window: WindowDrift, model: ModelConfig) -> Daily | None:
    for column in window.columns:
        if column.column != name:
            continue
        if window.status != "ok":
            return Daily(day, column.psi, "not judged")
        if not is_changed(column, window):
            return Daily(day, column.psi, "quiet")
        return Daily(day, column.psi, "material" if column.psi >= model.monitoring.min_effect else "changed")
    return None
