"""The loop closes by itself, under a real scheduler: a drift is seen on schedule, decided on, and learned from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
import pandas as pd
import pytest
from playwright.sync_api import expect

from local.airflow import REPOSITORY
from local.processes import free_port
from pipeline.adapters.registry import Registry
from pipeline.ledger import Ledger
from pipeline.monitoring_records import DetectDriftRecord
from pipeline.records import DeployRecord
from tests.conftest import MODEL, customers
from tests.deploy.live import alerting, missing_programs
from tests.local.conftest import LENIENT, moved, running, shoot

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAYS, DRIFT_DAYS = 60, 7
WATCHED = "monitoring: {min_rows: 50}\n"
IMPOSSIBLE = "validation: {expectations: [{expect: expect_table_row_count_to_be_between, min_value: 1000000}]}\n"
NIGHTLY = 'schedules: {drift_detection: "0 0 * * *"}\n'


def drifting() -> pd.DataFrame:
    """150 customers a day until tomorrow; for a week now, they are newer customers."""
    frame = customers(rows=150 * (DAYS + 1), days=DAYS + 1)
    begin = pd.Timestamp(TODAY - timedelta(days=DAYS))
    frame = moved(frame, begin - pd.Timestamp("2025-01-01", tz="UTC"))
    new = frame["event_time"] >= pd.Timestamp(TODAY - timedelta(days=DRIFT_DAYS))
    tenure = frame["tenure"].mask(new, frame["tenure"] // 4)
    return frame.assign(tenure=tenure, arrived_at=frame["event_time"] + pd.Timedelta(minutes=5))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two models of one drifting table, whose crons run."""
    folder = tmp_path_factory.mktemp("monitoring")
    drifting().to_parquet(folder / "table.parquet")
    (folder / "models").mkdir()
    write_models(folder)
    with running(folder, scheduled=True) as made:
        yield made


def write_models(folder: Path) -> None:
    common = MODEL.format(path=folder / "table.parquet").replace("test_share: 0.3", "test_days: 1")
    common = common.replace("known_after_days: 30", "known_after_days: 1")
    (folder / "models" / "drifting.yaml").write_text(common + LENIENT + WATCHED)
    (folder / "models" / "past.yaml").write_text(common + LENIENT + WATCHED + NIGHTLY)


def day(back: int) -> str:
    return (TODAY - timedelta(days=back)).isoformat()


def finished(world, dag_id: str, answers: dict) -> tuple[str, dict]:
    """A run by hand, and its tasks."""
    (run,) = world.finish(dag_id, [world.airflow.trigger(dag_id, answers)], seconds=300)
    assert run["state"] == "success"
    return run["dag_run_id"], world.airflow.tasks(dag_id, run["dag_run_id"])


def run_of_kind(world, dag_id: str, kind: str) -> dict:
    """The one run of this kind, once it has ended."""
    end = time.monotonic() + 240
    while not (runs := world.airflow.runs(dag_id, run_type=kind)):
        assert time.monotonic() < end, f"no {kind} run of {dag_id}"
        time.sleep(0.3)
    assert len(runs) == 1
    return world.finish(dag_id, [runs[0]["dag_run_id"]], seconds=300)[0]


def states(tasks: dict) -> dict[str, str]:
    return {name: task["state"] for name, task in tasks.items()}


def events(world, name: str) -> list[dict]:
    """What was announced; not before the run that it started has begun (Airflow 3.3.2, apache/airflow#71360)."""
    found = world.airflow.call("GET", "assets/events", params={"name_pattern": f"evergreen_decision_due_{name}"})
    return [event for event in found["asset_events"] if event["name"] == f"evergreen_decision_due_{name}"]


def said(world, dag_id: str, run_id: str, task_id: str) -> str:
    return "\n".join(world.airflow.log(dag_id, run_id, task_id, 1))


def test_before_the_first_champion_a_scheduled_check_ends_in_peace_and_says_so(world):
    dag_id = "drift_detection_past"
    run = run_of_kind(world, dag_id, "scheduled")
    assert run["state"] == "success"
    assert set(states(world.airflow.tasks(dag_id, run["dag_run_id"])).values()) == {"skipped"}
    assert "no champion" in said(world, dag_id, run["dag_run_id"], "detect_drift")


def test_a_drift_that_a_scheduled_check_confirms_is_decided_on_and_learned_from_by_itself(world):
    finished(world, "training_drifting", {"cutoff": day(DRIFT_DAYS + 1)})
    registry = Registry("drifting", world.settings)
    assert registry.get("champion").number == 1
    watch, retrain = "drift_detection_drifting", "retraining_drifting"
    for back in (DRIFT_DAYS, DRIFT_DAYS - 1):
        run_id, tasks = finished(world, watch, {"cutoff": day(back)})
        assert states(tasks) == {"detect_drift": "success", "measure_performance": "success", "announce": "skipped"}
    seen = DetectDriftRecord.from_json(world.airflow.returned(watch, run_id, "detect_drift"))
    assert {alarm.level for alarm in seen.alarms} == {"suspected"}
    assert events(world, "drifting") == []

    file = world.settings.models_dir / "drifting.yaml"
    file.write_text(file.read_text() + NIGHTLY)
    world.airflow.read_again(world.airflow.dag(watch)["file_token"])
    check = run_of_kind(world, watch, "scheduled")
    assert check["state"] == "success"

    run = run_of_kind(world, retrain, "asset_triggered")
    assert run["state"] == "success"
    (event,) = events(world, "drifting")
    assert event["source_run_id"] == check["dag_run_id"]
    assert event["extra"]["run_kind"] == "scheduled"
    assert event["extra"]["reasons"]
    made = DeployRecord.from_json(world.airflow.returned(retrain, run["dag_run_id"], "deploy"))
    assert made.status == "deployed"
    assert made.register.evaluate.train.prepare.validate.ingest.cutoff == event["extra"]["cutoff"]
    assert registry.get("champion").number == made.register.version == 2
    tasks = states(world.airflow.tasks(retrain, run["dag_run_id"]))
    assert (tasks.pop("roll_back"), set(tasks.values())) == ("skipped", {"success"})
    with Ledger(world.settings.database_url) as ledger:
        lines = ledger.lines("drifting", "decision", "promoted", "retrained")
        assert [line.kind for line in lines] == ["promoted", "decision", "promoted", "retrained"]
        assert list(ledger.faults()) == []
    row = {"tenure": 3, "charge": 60.0, "plan": "basic"}
    answer = httpx.post(f"{world.addresses.serving}/models/drifting/predict", json={"features": row}).json()
    assert answer["model_version"] == 2


def test_the_report_of_a_check_is_a_page_behind_a_button_and_nothing_in_it_can_run(world):
    dag_id = "drift_detection_drifting"
    run_id = run_of_kind(world, dag_id, "scheduled")["dag_run_id"]
    path = f"dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/detect_drift/links"
    page = world.addresses.airflow + world.airflow.call("GET", path)["extra_links"]["Drift report"]
    shown = httpx.get(page)
    assert shown.status_code == 200
    assert shown.headers["content-type"].startswith("text/html")
    assert shown.headers["content-security-policy"].startswith("default-src 'none'")
    assert "tenure" in shown.text
    for other in ("nobody", "..%2F..%2F..%2Fetc%2Fpasswd"):
        missing = page.replace(quote(run_id, safe=""), other)
        assert missing != page
        assert httpx.get(missing).status_code == 404


def test_the_web_ui_leads_from_the_check_over_its_event_to_the_retraining_and_to_the_report(world, page):
    check = run_of_kind(world, "drift_detection_drifting", "scheduled")["dag_run_id"]
    retrained = run_of_kind(world, "retraining_drifting", "asset_triggered")["dag_run_id"]
    (event,) = events(world, "drifting")
    ui = world.addresses.airflow
    page.goto(f"{ui}/assets/{event['asset_id']}")
    expect(page.get_by_text("retraining_drifting").first).to_be_visible(timeout=60_000)
    shoot(page, "asset")
    for dag_id, run_id in (("drift_detection_drifting", check), ("retraining_drifting", retrained)):
        page.goto(f"{ui}/dags/{dag_id}/runs/{quote(run_id)}")
        page.get_by_role("button", name="Show Graph").click()
        expect(page.get_by_test_id("rf__wrapper").get_by_text("Success").first).to_be_visible(timeout=60_000)
        shoot(page, dag_id.removesuffix("_drifting").replace("_", "-"))
    page.goto(f"{ui}/dags/drift_detection_drifting/runs/{quote(check)}/tasks/detect_drift/details")
    page.get_by_role("link", name="Drift report").click()
    expect(page.get_by_text("column tenure").first).to_be_visible(timeout=60_000)
    shoot(page, "drift-report")


def test_the_alarm_reaches_airflow_through_prometheus_and_alertmanager_as_one_run_which_decides_again(world, tmp_path):
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)} (Debian packages prometheus and prometheus-alertmanager)")
    ports = {name: free_port(0) for name in ("prometheus", "alertmanager", "receiver")}
    ports["serving"] = httpx.URL(world.addresses.serving).port
    dag_id = "retraining_drifting"
    with alerting(tmp_path, ports, {"EVERGREEN_AIRFLOW_URL": world.addresses.airflow}):
        run = run_of_kind(world, dag_id, "manual")
        assert run["dag_run_id"].startswith("alert__")
        time.sleep(5)  # in which it is told again, several times
        assert [one["dag_run_id"] for one in world.airflow.runs(dag_id, run_type="manual")] == [run["dag_run_id"]]
    assert run["conf"]["reasons"] == ["DriftConfirmed: Drift of drifting is confirmed: column tenure"]
    assert run["state"] == "success", said(world, dag_id, run["dag_run_id"], "decide_retraining")
    with Ledger(world.settings.database_url) as ledger:
        line = ledger.last("drifting", "decision")
    assert (line.body["run_id"], line.body["action"], line.version) == (run["dag_run_id"], "nothing", 2)
    assert Registry("drifting", world.settings).get("champion").number == 2


STRANGER = """
from airflow.api_fastapi.app import init_auth_manager
from fastapi.testclient import TestClient
from plugins.drift_report import app
init_auth_manager()
page = "/dags/drift_detection_churn/runs/some/drift-report"
print([TestClient(app).get(page, headers=headers).status_code for headers in ({}, {"Authorization": "Bearer x"})])
"""


def test_nobody_who_is_not_signed_in_sees_a_report(tmp_path):
    environ = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False"}
    done = subprocess.run(
        [sys.executable, "-c", STRANGER], cwd=REPOSITORY, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "[401, 403]"


def test_the_same_days_as_a_backfill_fill_in_the_reports_and_ask_for_nothing(world):
    finished(world, "training_past", {"cutoff": day(DRIFT_DAYS + 1)})
    dag_id = "drift_detection_past"
    begin, end = (datetime.fromisoformat(day(back)) for back in (DRIFT_DAYS + 1, DRIFT_DAYS - 1))
    world.airflow.backfill(dag_id, begin, end, at_once=3)
    waiting = time.monotonic() + 240
    while len(runs := world.airflow.runs(dag_id, run_type="backfill")) < 3:
        assert time.monotonic() < waiting
        time.sleep(0.3)
    runs = world.finish(dag_id, [run["dag_run_id"] for run in runs])
    assert [run["state"] for run in runs] == ["success"] * 3
    for run in runs:
        tasks = states(world.airflow.tasks(dag_id, run["dag_run_id"]))
        assert tasks == {"detect_drift": "success", "measure_performance": "success", "announce": "skipped"}
        record = DetectDriftRecord.from_json(world.airflow.returned(dag_id, run["dag_run_id"], "detect_drift"))
        assert record.rows > 100
        assert json.loads((world.settings.home / record.details).read_text())
        assert (world.settings.home / record.report).is_file()
    assert {alarm.level for alarm in record.alarms} == {"confirmed"}
    assert "a backfill asks for no decision" in said(world, dag_id, runs[-1]["dag_run_id"], "announce")
    assert events(world, "past") == []
    assert world.airflow.runs("retraining_past") == []
    assert Registry("past", world.settings).get("champion").number == 1


def test_a_decision_asked_for_before_anything_was_measured_fails_and_says_what_to_do(world):
    run_id = world.airflow.trigger("retraining_past", {"reasons": ["somebody was worried"], "cutoff": day(50)})
    (run,) = world.finish("retraining_past", [run_id])
    assert run["state"] == "failed"
    log = said(world, "retraining_past", run_id, "decide_retraining")
    assert "somebody was worried" in log
    assert "measure_performance has not run" in log
    assert states(world.airflow.tasks("retraining_past", run_id))["ingest"] == "upstream_failed"


def test_a_retraining_of_which_a_stage_fails_is_red_and_the_ledger_says_so(world):
    dag_id, file = "retraining_past", world.settings.models_dir / "past.yaml"
    file.write_text(file.read_text() + IMPOSSIBLE)
    _, checked = finished(world, "drift_detection_past", {"cutoff": day(0)})
    assert states(checked)["announce"] == "success"
    run = run_of_kind(world, dag_id, "asset_triggered")
    assert run["state"] == "failed", said(world, dag_id, run["dag_run_id"], "go_ahead")
    tasks = states(world.airflow.tasks(dag_id, run["dag_run_id"]))
    assert (tasks["go_ahead"], tasks["validate"], tasks["deploy"]) == ("success", "failed", "upstream_failed")
    assert tasks["report"] == "failed"
    assert "validate failed" in said(world, dag_id, run["dag_run_id"], "report")
    with Ledger(world.settings.database_url) as ledger:
        assert ledger.last("past", "retrained").body["status"] == "failed"
    assert Registry("past", world.settings).get("champion").number == 1
