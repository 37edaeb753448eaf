"""The people's commands: look at what was decided, and decide."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pipeline.adapters.promotion import answering
from pipeline.adapters.registry import Registry, Reign
from pipeline.config import load_model, model_names
from pipeline.context import parse_instant
from pipeline.ledger import MOVES, Event, Fault, Ledger
from pipeline.rollout import RolloutStore
from pipeline.settings import Settings, load_settings

WHEN = "%Y-%m-%d %H:%M:%S"


def status(parsed: argparse.Namespace) -> int:
    """Every model, or one: who answers, how it does, what stands against it, what was decided."""
    from pipeline.status import status_of, to_json
    from pipeline.status_page import show

    settings = _settings_of(parsed) if parsed.model else load_settings()
    now = datetime.now(UTC)
    found = status_of([parsed.model] if parsed.model else model_names(settings.models_dir), now, settings)
    if parsed.json:
        print(to_json(found))
    else:
        show(found, now)
    return 0


def history(parsed: argparse.Namespace) -> int:
    """Who was champion when, and why; with --at, at one instant."""
    settings = _settings_of(parsed)
    registry = Registry(parsed.model, settings)
    if parsed.at:
        at = parse_instant(parsed.at)
        reign = registry.champion_at(at)
        told = f"{parsed.model} had no champion at {at.isoformat()}" if reign is None else _reign(reign)
        return _print(parsed, None if reign is None else _plain(reign), told)
    reigns = registry.history()
    told = "\n".join(map(_reign, reigns)) or f"{parsed.model} has had no champion"
    return _print(parsed, [_plain(reign) for reign in reigns], told)


def _reign(reign: Reign) -> str:
    until = reign.until.strftime(WHEN) if reign.until else "now"
    how = "promoted" if reign.kind == "promoted" else "rolled back to"
    return (
        f"version {reign.version}: {reign.since.strftime(WHEN)} to {until} (UTC), {how} by {reign.by}, "
        f"ledger line {reign.line}: {reign.reason}"
    )


def _plain(reign: Reign) -> dict[str, Any]:
    fields = asdict(reign)
    return {**fields, "since": reign.since.isoformat(), "until": reign.until.isoformat() if reign.until else None}


def promote(parsed: argparse.Namespace) -> int:
    """Put a version on trial or make it champion."""
    registry = Registry(parsed.model, _settings_of(parsed))
    version = registry.promote(
        parsed.version, parsed.stage, by=parsed.by or getpass.getuser(), reason=parsed.reason, overrule=parsed.overrule
    )
    return _print(parsed, {"model": parsed.model, "version": version.number, "stage": parsed.stage},
                  f"version {version.number} of {parsed.model} is in {parsed.stage}")  # fmt: skip


def rollback(parsed: argparse.Namespace) -> int:
    """Let an earlier champion answer again."""
    registry = Registry(parsed.model, _settings_of(parsed))
    was, now = registry.rollback(to=parsed.to, by=parsed.by or getpass.getuser(), reason=parsed.reason)
    return _print(parsed, {"model": parsed.model, "from": was, "to": now},
                  f"{parsed.model}: version {now} answers again; {was} comes back only by `promote`")  # fmt: skip


def approve(parsed: argparse.Namespace) -> int:
    """Answer for a person; what is approved is promoted at once."""
    registry = Registry(parsed.model, _settings_of(parsed))
    by = parsed.by or getpass.getuser()
    line = registry.answer(parsed.version, approve=not parsed.reject, by=by, reason=parsed.reason)
    told = f"version {line.version} of {parsed.model}: {line.kind} by {by}, ledger line {line.number}"
    if not parsed.reject:
        registry.promote(line.version or 0, by=by, reason=parsed.reason)
        told += "; it answers now"
    return _print(parsed, {"model": parsed.model, "version": line.version, "answer": line.kind, "by": by}, told)


def verify_ledger(parsed: argparse.Namespace) -> int:
    """Check every seal, the chain, and the seals that the registry keeps."""
    settings = load_settings()
    with Ledger(settings.database_url) as ledger:
        faults = list(ledger.faults())
        count = ledger.count()
        faults += _unanchored(ledger, {fault.number for fault in faults}, settings)
    told = [f"line {fault.number}: {fault.reason}" for fault in faults]
    told.append(f"{count:,} lines, " + (f"{len(faults)} do not hold" if faults else "every seal holds"))
    _print(parsed, {"lines": count, "faults": [asdict(fault) for fault in faults]}, "\n".join(told))
    return 1 if faults else 0


def _unanchored(ledger: Ledger, known: set[int], settings: Settings) -> list[Fault]:
    """Lines that the registry remembers otherwise: the end cut off, or the whole chain written anew."""
    from pipeline.adapters.versions import anchors

    faults = []
    for number, seal, told in anchors(settings):
        if number not in known and ledger.hash_of(number) != seal:
            faults.append(Fault(number, f"is not the line that told {told}"))
    with RolloutStore(settings.database_url) as store:
        for model in store.all():
            champion, move = answering(store.get(model)), ledger.last(model, *MOVES)
            if champion is not None and (move is None or move.version != champion.version):
                told = f"version {move.version}" if move else "nobody"
                number = move.number if move else 0
                faults.append(
                    Fault(number, f"{model} is answered by version {champion.version}, the ledger says {told}")
                )
    return faults


def why(parsed: argparse.Namespace) -> int:
    """Trace a prediction back to model, run, data, code and decision."""
    from pipeline.adapters.trace import why as trace

    story = trace(parsed.prediction_id, load_settings())
    return _print(parsed, story, _told(story))


def _told(story: dict[str, Any], depth: int = 0) -> str:
    lines = []
    for name, value in story.items():
        label = "  " * depth + name.replace("_", " ")
        if isinstance(value, dict) and value:
            lines += [f"{label}:", _told(value, depth + 1)]
        elif isinstance(value, list):
            lines.append(f"{label}: {'; '.join(map(str, value))}")
        else:
            lines.append(f"{label}: {'-' if value is None else value}")
    return "\n".join(lines)


def reproduce(parsed: argparse.Namespace) -> int:
    """Make a version again and compare."""
    from pipeline.reproduce import reproduce as again

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    found = again(parsed.model, parsed.version, _settings_of(parsed), tell)
    lines = [f"{'equal' if p.equal else 'DIFFERS':<8} {p.name}: {p.told}" for p in (*found.inputs, *found.outputs)]
    first = found.first_difference
    lines.append(
        f"version {found.version} is reproduced" if first is None
        else f"version {found.version} is not reproduced; the first that differs is {first.name}: {first.told}"
    )  # fmt: skip
    _print(parsed, {**asdict(found), "equal": found.equal, "first_difference": asdict(first) if first else None},
           "\n".join(lines))  # fmt: skip
    return 0 if found.equal else 1


def close_breaker(parsed: argparse.Namespace) -> int:
    """Let retrainings begin again."""
    settings = _settings_of(parsed)
    by = parsed.by or getpass.getuser()
    with Ledger(settings.database_url) as ledger:
        line = ledger.append(Event(parsed.model, "breaker_closed", None, {
            "by": by, "reason": parsed.reason, "cutoff": datetime.now(UTC).isoformat(),
        }))  # fmt: skip
    told = f"{parsed.model}: the breaker is closed by {by}, ledger line {line.number}"
    return _print(parsed, {"model": parsed.model, "by": by, "line": line.number}, told)


def _settings_of(parsed: argparse.Namespace) -> Settings:
    """The settings, after making sure that there is such a model."""
    settings = load_settings()
    load_model(parsed.model, settings.models_dir)
    return settings


def _print(parsed: argparse.Namespace, content: Any, told: str) -> int:
    print(json.dumps(content, sort_keys=True) if parsed.json else told)
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "status": status, "history": history, "promote": promote, "rollback": rollback, "approve": approve,
    "verify-ledger": verify_ledger, "why": why, "reproduce": reproduce, "close-breaker": close_breaker,
}  # fmt: skip
