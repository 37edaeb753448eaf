"""Who answers now, who answered before: read from the rollout and the ledger, so that an unchanged run stays quick."""

from __future__ import annotations

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
    """The ledger line with which a version was registered.

    Raises BadConfiguration where there is no such version.
    """
    line = ledger.last(model, "registered", version=version)
    if line is None:
        known = [str(found.version) for found in ledger.lines(model, "registered")]
        raise BadConfiguration(f"{model} has no version {version}; registered: {', '.join(known) or 'none'}")
    return line


def record_of(line: Line) -> RegisterRecord:
    """The record of a version, with all that came before it, as its ledger line holds it."""
    import json

    return RegisterRecord.from_json(json.dumps(line.body["record"]))
