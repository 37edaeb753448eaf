"""From a prediction back to everything that made it: variant, model, run, data, code, and why it was champion."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pipeline.adapters.watch_store import WatchStore
from pipeline.adapters.watch_told import open_alarms
from pipeline.core.alarms import AlarmState
from pipeline.errors import BadConfiguration
from pipeline.ledger import MOVES, Ledger
from pipeline.prediction_rows import find
from pipeline.settings import Settings


def why(prediction_id: str, settings: Settings) -> dict[str, Any]:
    """The story of one prediction, as plain JSON.

    Raises BadConfiguration where it is not in the log, or its version not in the ledger.
    """
    entry = find(prediction_id, settings.log)
    model, version = str(entry["model"]), int(entry["version"])
    answered = datetime.fromtimestamp(entry["time"], UTC)
    with Ledger(settings.database_url) as ledger:
        registered = ledger.last(model, "registered", version=version)
        if registered is None:
            raise BadConfiguration(f"the ledger does not know version {version} of {model}, which answered")
        move = ledger.last(model, *MOVES, version=version, until=answered)
        answer = ledger.last(model, "approved", "rejected", version=version, until=answered)
    record = registered.body["record"]
    evaluate = record["evaluate"]
    train = evaluate["train"]
    prepare = train["prepare"]
    return {
        "prediction": {
            "id": prediction_id,
            "at": answered.isoformat(),
            "answer": entry["prediction"],
            "confidence": entry["confidence"],
            "user_id": entry["user_id"],
            "features": entry["features"],
        },
        "model": model,
        "variant": entry["variant"],
        "version": version,
        "package_sha256": entry["digest"],
        "same_package_as_registered": entry["digest"] == record["digest"],
        "run": {
            "id": registered.body["run_id"],
            "kind": registered.body["run_kind"],
            "cutoff": registered.body["cutoff"],
            "mlflow_run": train["mlflow_run"],
        },
        "data": {
            "snapshot_md5": prepare["validate"]["ingest"]["digest"],
            "snapshot": prepare["validate"]["ingest"]["snapshot"],
            "train_rows": prepare["train_rows"],
            "train_until": prepare["train_until"],
            "judged_on": [prepare["test_from"], prepare["test_until"]],
        },
        "code": {"commit": registered.body["code_version"], "sources_sha256": registered.body["code_digest"]},
        "gate": {
            "decision": evaluate["verdict"]["decision"],
            "reasons": evaluate["verdict"]["reasons"],
            "compared_with_version": evaluate["champion_version"],
            "difference": evaluate["difference"],
            "ledger_line": registered.number,
        },
        "champion": None if move is None else {
            "since": move.at, "how": move.kind, "by": move.body["by"], "reason": move.body["reason"],
            "ledger_line": move.number,
        },
        "drift": _drift(model, str(entry["digest"]), answered, settings),
        "approval": None if answer is None else {
            "answer": answer.kind, "by": answer.body["by"], "at": answer.at, "ledger_line": answer.number,
        },
    }  # fmt: skip


def _drift(model: str, champion: str, answered: datetime, settings: Settings) -> dict[str, Any] | None:
    """Alarms that stood when it was answered, as of the newest day that had been checked; None: none had been."""
    with WatchStore(settings.database_url) as store:
        last = store.last(model, "drift", champion, answered.date())
    if last is None:
        return None
    alarms = open_alarms(AlarmState.from_json(last.body["state"]))
    return {"checked_day": last.day.isoformat(), "alarms": [f"{a.level}: {a.subject}: {a.told}" for a in alarms]}
