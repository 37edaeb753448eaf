"""Time goes only forward, under a real scheduler: backfills and late runs never displace a newer champion."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import httpx
import mlflow

from pipeline.adapters.registry import Registry
from pipeline.ledger import Ledger
from pipeline.package_files import read_golden
from pipeline.records import DeployRecord
from pipeline.rollout import RolloutStore

DAG = "training_monthly"


def answers(world, rows) -> list:
    service = f"{world.addresses.serving}/models/monthly/predict"
    found = [httpx.post(service, json={"features": row}).json() for row in rows[:20]]
    return [(one["prediction"], one["confidence"], one["model_version"]) for one in found]


def test_a_champion_of_june_stays_through_a_backfill_of_march_to_may_and_a_late_run_of_may(world):
    (run,) = world.finish(DAG, [world.airflow.trigger(DAG, {"cutoff": "2025-06-15T00:00:00Z"})])
    assert run["state"] == "success"
    june = DeployRecord.from_json(world.airflow.returned(DAG, run["dag_run_id"], "deploy"))
    assert june.status == "deployed"
    rows, _ = read_golden(world.settings.home / june.register.package)
    before = answers(world, rows)
    with RolloutStore(world.settings.database_url) as store:
        rollout = store.get("monthly")
    runs_before = {run["dag_run_id"] for run in world.airflow.runs()}
    events_before = world.airflow.call("GET", "assets/events")["total_entries"]

    world.airflow.unpause(DAG)
    world.airflow.backfill(DAG, datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 5, 1, tzinfo=UTC), at_once=3)
    end = time.monotonic() + 240
    while len(world.airflow.runs(DAG)) < 4:
        assert time.monotonic() < end
        time.sleep(0.5)
    backfilled = [r["dag_run_id"] for r in world.airflow.runs(DAG) if r["run_type"] == "backfill"]
    runs = world.finish(DAG, backfilled, seconds=700)
    assert [run["state"] for run in runs] == ["success"] * 3
    records = [DeployRecord.from_json(world.airflow.returned(DAG, run_id, "deploy")) for run_id in backfilled]
    assert len({record.register.version for record in records} | {june.register.version}) == 4

    late_id = world.airflow.trigger(DAG, {"cutoff": "2025-05-20T00:00:00Z"})
    (late,) = world.finish(DAG, [late_id])
    assert late["state"] == "success"

    with Ledger(world.settings.database_url) as ledger:
        refused = ledger.lines("monthly", "refused")
        assert [line.body["code"] for line in refused] == ["backfill"] * 3 + ["stale_cutoff"]
        assert all(line.body["reason"].startswith("refused: ") for line in refused)
        assert list(ledger.faults()) == []
    with RolloutStore(world.settings.database_url) as store:
        assert store.get("monthly") == rollout
    client = mlflow.MlflowClient(world.settings.mlflow_uri)
    champion = client.get_model_version_by_alias("monthly", "champion")
    assert int(champion.version) == june.register.version == Registry("monthly", world.settings).get("champion").number
    assert answers(world, rows) == before
    assert {run["dag_run_id"] for run in world.airflow.runs()} - runs_before == {*backfilled, late_id}
    assert world.airflow.call("GET", "assets/events")["total_entries"] == events_before
