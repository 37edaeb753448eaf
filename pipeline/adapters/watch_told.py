"""What a monitor tells: alarms in a few words, lines of the ledger, calls to people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pipeline.adapters.notification import Note, notify
from pipeline.adapters.watch_store import Watched
from pipeline.context import RunContext
from pipeline.core.alarm_grades import Grade
from pipeline.core.alarms import Alarm, AlarmState
from pipeline.ledger import Event, Ledger
from pipeline.monitoring_records import OpenAlarm
from pipeline.settings import Settings, notification_settings

NEWS = ("raised", "confirmed", "resolved")


def open_alarms(state: AlarmState) -> tuple[OpenAlarm, ...]:
    """Suspicions and alarms that stand, the costly ones first."""
    standing = [alarm for alarm in state.alarms if alarm.level != "resolved"]
    return tuple(
        OpenAlarm(alarm.name, "confirmed" if alarm.level == "confirmed" else "suspected", alarm.since.isoformat(),
                  alarm.impact, alarm.told)
        for alarm in sorted(standing, key=lambda alarm: (-alarm.impact, alarm.name))
    )  # fmt: skip


def told(kept: Watched) -> tuple[str, ...]:
    """What began, was confirmed or was resolved on that day."""
    named = {alarm.episode: alarm for alarm in AlarmState.from_json(kept.body["state"]).alarms}
    return tuple(
        f"{'suspected' if news == 'raised' else news}: {named[episode].name}: {named[episode].told}"
        for news in NEWS
        for episode in kept.body[news]
        if episode in named
    )


def into_ledger(kept: Watched, context: RunContext, settings: Settings) -> None:
    """One line for each alarm that was confirmed, resolved or graded, however often its day is checked."""
    lines = [(level, episode) for level in ("confirmed", "resolved") for episode in kept.body[level]]
    grades = kept.body.get("graded", [])
    if not lines and not grades:
        return
    named = {alarm.episode: alarm for alarm in AlarmState.from_json(kept.body["state"]).alarms}
    with Ledger(settings.database_url) as ledger:
        for level, episode in lines:
            alarm = named[episode]
            ledger.append(Event(kept.model, "alarm", kept.version, {
                "level": level, "episode": episode, "kind": alarm.kind, "subject": alarm.name,
                "since": alarm.since.isoformat(), "impact": alarm.impact, "effect": alarm.effect,
                "reason": f"{level}: {alarm.name}: {alarm.told}", "day": kept.day.isoformat(),
                "champion": kept.champion, "alarm": AlarmState(kept.day, (alarm,)).to_json(),
                "run_id": context.run_id, "run_kind": context.kind,
                "by": f"run {context.run_id}",
            }, once=f"{kept.champion} {episode} {level} {kept.day}"))  # fmt: skip
        for one in grades:
            ledger.append(Event(kept.model, "graded", kept.version, {
                **one, "champion": kept.champion, "day": kept.day.isoformat(), "run_id": context.run_id,
                "run_kind": context.kind, "by": f"run {context.run_id}",
                "reason": f"the alarm {one['episode']} was {one['grade']}: {one['told']}",
            }, once=f"{kept.champion} {one['episode']}"))  # fmt: skip


def call_people(kept: Watched, explanation: str, broken: Sequence[str]) -> None:
    """Tell people, over every channel that is set up, what was confirmed or resolved, and what is broken."""
    news = [line for line in told(kept) if not line.startswith("suspected")]
    if not news and not broken:
        return
    grave = bool(broken) or any(line.startswith("confirmed") for line in news)
    lines = (*broken, *news, *([explanation] if explanation else []))
    note = Note(kept.model, "critical" if grave else "info", lines[0][:200], lines)
    notify(note, notification_settings(), datetime.now(UTC))


def confirmed_alarms(ledger: Ledger, model: str, champion: str | None = None) -> list[Alarm]:
    """Every alarm that was ever confirmed, as it stood then; of one champion or of all."""
    lines = [line for line in ledger.lines(model, "alarm") if line.body["level"] == "confirmed"]
    return [
        AlarmState.from_json(line.body["alarm"]).alarms[0]
        for line in lines
        if champion is None or line.body["champion"] == champion
    ]


def grades(ledger: Ledger, model: str) -> dict[str, Grade]:
    """What labels made of past alarms, by episode."""
    return {
        line.body["episode"]: line.body["grade"] for line in ledger.lines(model, "graded") if "episode" in line.body
    }
