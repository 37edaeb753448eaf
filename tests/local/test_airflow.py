"""The loop under a real Airflow: scheduler, API server and DAG processor of this very installation."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import mlflow
import pytest

from local.airflow import REPOSITORY
from pipeline.errors import BadConfiguration
from pipeline.records import DeployRecord
from pipeline.stages import STAGES
from tests.conftest import MODEL
from tests.local.conftest import KINDS, SCHEDULE

CUTOFF = "2025-10-01T00:00:00+00:00"


def digests(record: DeployRecord) -> dict[str, str]:
    evaluate = record.register.evaluate
    prepare = evaluate.train.prepare
    return {
        "data": prepare.validate.ingest.digest,
        "clean": prepare.validate.digest,
        "model": evaluate.train.digest,
        "predictions": evaluate.predictions_digest,
        "package": record.register.digest,
    }


def test_airflow_dvc_and_the_command_line_give_equal_data_models_and_predictions(world, tmp_path):
    run_id = world.airflow.trigger("training_churn", {"cutoff": CUTOFF})
    (run,) = world.finish("training_churn", [run_id])
    assert run["state"] == "success"
    under_airflow = DeployRecord.from_json(world.airflow.returned("training_churn", run_id, "deploy"))
    assert under_airflow.status == "deployed"
    assert under_airflow.servers == 1

    links = world.airflow.call("GET", f"dags/training_churn/dagRuns/{quote(run_id)}/taskInstances/train/links")
    mlflow_run = under_airflow.register.evaluate.train.mlflow_run
    assert links["extra_links"]["MLflow run"] == f"{world.addresses.mlflow}/#/runs/{mlflow_run}"

    def call(home: str, *command: str, cwd: Path = REPOSITORY) -> None:
        environ = {**os.environ, **world.variables, "EVERGREEN_HOME": home, "PYTHONPATH": str(REPOSITORY)}
        environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
        done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]

    def left(home: Path) -> DeployRecord:
        return DeployRecord.from_json((home / "runs" / "churn" / "20251001T000000Z" / "deploy.json").read_text())

    by_hand, by_dvc = tmp_path / "by_hand", tmp_path / "by_dvc"
    call(str(by_hand), sys.executable, "-m", "pipeline", "run", "--model", "churn", "--cutoff", CUTOFF)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("dvc.yaml", ".dvc", ".dvcignore"):
        source = REPOSITORY / name
        shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy(source, copy / name)
    for name in ("pipeline", "models"):
        shutil.copytree(REPOSITORY / name if name == "pipeline" else world.folder / "models", copy / name)
    (copy / "params.yaml").write_text(f'cutoff: "{CUTOFF}"\n')
    call(str(by_dvc), "git", "init", "--quiet", cwd=copy)
    call(str(by_dvc), "dvc", "repro", "--quiet", cwd=copy)
    assert digests(left(by_hand)) == digests(under_airflow)
    assert digests(left(by_dvc)) == digests(under_airflow)


def test_backfilled_days_move_no_traffic_even_where_nothing_answers_yet(world):
    dag_id = "training_backfilled"
    begin, end = datetime(2025, 8, 30, tzinfo=UTC), datetime(2025, 8, 31, tzinfo=UTC)
    world.airflow.unpause(dag_id)
    world.airflow.backfill(dag_id, begin, end, at_once=2)
    waiting = time.monotonic() + 240
    while len(world.airflow.runs(dag_id)) < 2:
        assert time.monotonic() < waiting
        time.sleep(0.5)
    runs = world.finish(dag_id, [run["dag_run_id"] for run in world.airflow.runs(dag_id)], seconds=900)
    assert [run["state"] for run in runs] == ["success"] * 2
    folders = sorted(path.name for path in (world.settings.runs / "backfilled").iterdir())
    assert folders == ["20250831T000000Z", "20250901T000000Z"]
    records = [
        DeployRecord.from_json((world.settings.runs / "backfilled" / f / "deploy.json").read_text()) for f in folders
    ]
    assert {record.status for record in records} == {"refused"}
    assert all(record.reason.startswith("refused: a backfill moves no traffic") for record in records)
    client = mlflow.MlflowClient(world.settings.mlflow_uri)
    assert "champion" not in client.get_registered_model("backfilled").aliases
    tasks = world.airflow.tasks(dag_id, runs[0]["dag_run_id"])
    assert tasks["deploy"]["state"] == "skipped"


def test_the_form_refuses_what_cannot_be(world):
    for answers in (
        {"cutoff": "yesterday"},
        {"seed": -1},
        {"estimator": "os.system"},
        {"overrides": {"training.sed": 1}},
    ):
        with pytest.raises(BadConfiguration, match="400"):
            _refused(world, answers)


def _refused(world, answers) -> None:
    try:
        world.airflow.trigger("training_churn", answers)
    except BadConfiguration as error:
        raise BadConfiguration(f"400: {error}") from error


def test_bad_data_fails_its_task_at_once_and_says_why(world):
    run_id = world.airflow.trigger("training_churn", {"cutoff": "2020-01-01T00:00:00Z"})
    (run,) = world.finish("training_churn", [run_id])
    assert run["state"] == "failed"
    task = world.airflow.tasks("training_churn", run_id)["ingest"]
    assert task["try_number"] == 1
    log = "\n".join(world.airflow.log("training_churn", run_id, "ingest", 1))
    assert "earliest became known at 2025-01-0" in log


def test_a_broken_model_file_is_an_import_error_of_its_own(world):
    errors = world.airflow.call("GET", "importErrors")["import_errors"]
    assert len(errors) == 1
    assert "broken.yaml" in errors[0]["stack_trace"]
    assert "'binary'" in errors[0]["stack_trace"]


def following(world, dag_id: str) -> dict[str, set[str]]:
    """Every task of a DAG, with those right behind it."""
    tasks = world.airflow.call("GET", f"dags/{dag_id}/tasks")["tasks"]
    return {task["task_id"]: set(task["downstream_task_ids"]) for task in tasks}


IN_A_ROW = {stage: {after} for stage, after in itertools.pairwise(STAGES)}


def test_the_stages_stand_in_a_row_in_the_dag(world):
    assert following(world, "training_churn") == IN_A_ROW | {"deploy": set()}


def test_watching_ends_with_the_announcement_and_the_decision_comes_before_the_same_stages(world):
    assert following(world, "drift_detection_churn") == {
        "detect_drift": {"measure_performance"}, "measure_performance": {"announce"}, "announce": set(),
    }  # fmt: skip
    assert following(world, "retraining_churn") == IN_A_ROW | {
        "decide_retraining": {"go_ahead", "roll_back"}, "roll_back": set(), "go_ahead": {"ingest"},
        "deploy": {"report"}, "report": set(),
    }  # fmt: skip
    asking = following(world, "retraining_asked")
    assert asking["register"] == {"ask", "deploy"}
    assert asking["approve"] == {"deploy"}


def test_only_the_form_of_a_retraining_takes_what_an_alert_sends(world):
    forms = {kind: world.airflow.call("GET", f"dags/{kind}_churn/details")["params"] for kind in KINDS}
    assert set(forms["drift_detection"]) == {"cutoff"}
    assert set(forms["retraining"]) == {"cutoff", "reasons"}
    assert "reasons" not in forms["training"]
    for answers in ({"reasons": "drift"}, {"reasons": [1]}, {"cutoff": "yesterday"}):
        with pytest.raises(BadConfiguration):
            world.airflow.trigger("retraining_churn", answers)


PARSE = """
import json, sys, time
import airflow.sdk, airflow.providers.standard.operators.hitl
started = time.process_time()
import dags.training, dags.drift_detection, dags.retraining
print(json.dumps([time.process_time() - started,
                  [n for n in ("pandas", "numpy", "sklearn", "mlflow", "great_expectations") if n in sys.modules]]))
"""


def test_reading_the_dag_files_of_twenty_models_loads_no_heavy_library_and_is_soon_done(tmp_path):
    (tmp_path / "models").mkdir()
    for number in range(20):
        (tmp_path / "models" / f"model{number}.yaml").write_text(MODEL.format(path="x.parquet") + SCHEDULE)
    environ = {**os.environ, "EVERGREEN_MODELS": str(tmp_path / "models"), "AIRFLOW_HOME": str(tmp_path / "airflow")}
    done = subprocess.run(
        [sys.executable, "-c", PARSE], cwd=REPOSITORY, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seconds, heavy = json.loads(done.stdout.splitlines()[-1])
    assert heavy == []
    assert seconds < 6
