"""Who answers now, who answered before: read from the rollout and the ledger, so that an unchanged run stays quick."""

from __future__ import annotations

from datetime import datetime

from pipeline.errors import BadConfiguration
from pipeline.ledger import Ledger, Line
from pipeline.records import RegisterRecord
from pipeline.rollout import RolloutStore, Variant
from pipeline.settings import Settings


def champion_of(model: str, settings: Settings) -> Variant | None:
    """The version that answers now; None before the first deployment."""
    with RolloutStore(settings.database_url) as store:
        rollout = store.get(model)
    return rollout.active.variants[0] if rollout.active else None


def registered(model: str, version: int, ledger: Ledger) -> Line:
    """The ledger line with which a version was registered; of several, as by a backfill, the one that knew most.

    Raises BadConfiguration where there is no such version.
    """
    lines = ledger.lines(model, "registered")
    own = [line for line in lines if line.version == version]
    if not own:
        known = ", ".join(str(number) for number in dict.fromkeys(line.version for line in lines))
        raise BadConfiguration(f"{model} has no version {version}; registered: {known or 'none'}")
    return max(own, key=lambda line: (datetime.fromisoformat(line.body["cutoff"]), line.number))


def record_of(line: Line) -> RegisterRecord:
    """The record of a version, with all that came before it, as its ledger line holds it."""
    import json

    return RegisterRecord.from_json(json.dumps(line.body["record"]))
