"""The service as its callers meet it: a real process, a real database, a real port."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest

from pipeline.config import override
from pipeline.core.package import rows_to_columns
from pipeline.package_files import read_golden, read_package
from pipeline.rollout import Plan, RolloutStore, Variant
from pipeline.stages import run_stage
from tests.conftest import LENIENT, at, customers, turn
from tests.predictions import logged
from tests.serving.live_service import serving, wait_until


@pytest.fixture
def deployed(write_model, settings):
    return turn(write_model(customers()), settings, "2025-10-01")


def row_of(record, settings):
    rows, scores = read_golden(settings.home / record.register.package)
    return rows[0], scores[0]


def test_an_answer_is_the_registered_one_in_both_forms_and_is_written_down(deployed, settings):
    row, scores = row_of(deployed, settings)
    with serving(settings) as address:
        named = httpx.post(f"{address}/predict", json={"features": row, "user_id": "u1"}).json()
        ordered = httpx.post(f"{address}/models/churn/predict", json={"features": list(row.values())}).json()
        assert httpx.get(f"{address}/ready").json()["models"]["churn"]["version"] == 1
    assert set(named) == {"prediction", "confidence", "model_version", "variant", "prediction_id"}
    assert named["prediction"] == ordered["prediction"] == int(scores[1] >= 0.5)
    assert named["confidence"] == pytest.approx(max(scores), abs=1e-9)
    entries = {entry["prediction_id"]: entry for entry in logged(settings.log)}
    assert set(entries) == {named["prediction_id"], ordered["prediction_id"]}
    entry = entries[named["prediction_id"]]
    assert entry["features"] == row
    assert entry["user_id"] == "u1"
    assert entry["version"] == 1
    assert entry["scores"] == pytest.approx(list(scores))


def test_bad_requests_are_refused_by_the_name_of_what_is_wrong(deployed, settings):
    row, _ = row_of(deployed, settings)
    with serving(settings) as address:

        def refused(path="/predict", **body):
            answer = httpx.post(f"{address}{path}", json=body)
            return answer.status_code, answer.json()["error"]

        status, error = refused(features={**row, "charge": "cheap"})
        assert (status, error["feature"]) == (422, "charge")
        assert "must be a number" in error["reason"]
        assert refused(features={k: v for k, v in row.items() if k != "plan"})[1]["feature"] == "plan"
        assert "did you mean tenure" in refused(features={**row, "tenur": 1})[1]["reason"]
        assert refused(features={**row, "charge": [1]})[1]["feature"] == "charge"
        assert refused(feature=row)[1]["feature"] == "feature"
        assert refused(user_id="u1")[1]["feature"] == "features"
        assert refused(features=row, colour="red")[1]["feature"] == "colour"
        assert refused(path="/models/other/predict", features=row)[0] == 404
        assert refused(features={"x": "y" * 9_000_000})[0] == 413
        chunks = (b"x" * 60_000 for _ in range(150))
        assert httpx.post(f"{address}/predict", content=chunks).status_code == 413
    assert logged(settings.log) == []


def test_a_label_that_comes_twice_counts_once(deployed, settings):
    row, _ = row_of(deployed, settings)
    with serving(settings) as address:
        prediction = httpx.post(f"{address}/predict", json={"features": row}).json()["prediction_id"]
        firsts = [
            httpx.post(f"{address}/feedback", json={"prediction_id": prediction, "actual": a}).json()["first"]
            for a in (0, 1, 1)
        ]
        assert httpx.post(f"{address}/feedback", json={"prediction_id": "../x", "actual": 1}).status_code == 422
    assert firsts == [True, False, False]
    assert RolloutStore(settings.database_url).feedback_count() == 1


def test_a_server_without_a_model_is_healthy_but_not_ready_and_answers_once_one_is_deployed(write_model, settings):
    model = write_model(customers())
    registered = turn(model, settings, "2025-10-01", until="register")
    with serving(settings) as address:
        assert httpx.get(f"{address}/health").json() == {"status": "healthy"}
        assert httpx.get(f"{address}/ready").status_code == 503
        assert httpx.post(f"{address}/predict", json={"features": []}).status_code == 503
        run_stage("deploy", model, at(model, "2025-10-01"), settings, registered)
        wait_until(lambda: httpx.get(f"{address}/ready").status_code == 200, 5)


def test_metrics_of_two_workers_add_up(deployed, settings):
    row, _ = row_of(deployed, settings)
    with serving(settings, "--workers", "2") as address:
        wait_until(lambda: len(RolloutStore(settings.database_url).servers("churn")) == 2)
        for _ in range(40):
            assert httpx.post(f"{address}/predict", json={"features": row}).status_code == 200
        text = httpx.get(f"{address}/metrics").text
    assert 'model_predictions_total{model="churn",variant="champion",version="1"} 40.0' in text
    assert 'model_prediction_latency_seconds_count{model="churn",version="1"} 40.0' in text
    assert len(logged(settings.log)) == 40


def test_a_damaged_version_is_refused_by_the_server_and_the_old_one_answers_on(deployed, write_model, settings):
    row, _ = row_of(deployed, settings)
    store = RolloutStore(settings.database_url)
    rollout = store.get("churn")
    bad = Variant("champion", 2, rollout.active.variants[0].package, "0" * 64, "", "2026-01-01", None)
    with serving(settings) as address:
        staged = store.stage("churn", Plan("direct", (bad,)), rollout.generation)
        wait_until(lambda: [s.staged_state for s in store.servers("churn")] == ["failed"])
        assert "the rollout names" in store.servers("churn")[0].detail
        answer = httpx.post(f"{address}/predict", json={"features": row})
        assert answer.json()["model_version"] == 1
        store.unstage("churn", staged.generation)


def test_five_versions_deploy_under_load_without_a_failed_or_a_mixed_answer(write_model, settings):
    model = write_model(customers())
    cutoffs = ["2025-08-01", "2025-08-15", "2025-09-01", "2025-09-15", "2025-10-01", "2025-10-15"]
    variants = [
        override(model, {**LENIENT, "training.parameters": {"C": c}}) for c in (1.0, 0.01, 0.3, 0.003, 0.1, 0.03)
    ]
    deployed = [turn(variants[0], settings, cutoffs[0])]
    rows, _ = read_golden(settings.home / deployed[0].register.package)
    answers: list[tuple[int, int, float]] = []
    failures: list[str] = []
    stop = threading.Event()

    def ask(address: str, seed: int) -> None:
        rng = np.random.default_rng(seed)
        with httpx.Client() as client:
            while not stop.wait(0.02):
                i = int(rng.integers(len(rows)))
                answer = client.post(f"{address}/predict", json={"features": rows[i]})
                if answer.status_code != 200:
                    failures.append(answer.text)
                else:
                    answers.append((i, answer.json()["model_version"], answer.json()["confidence"]))

    with serving(settings, "--workers", "2") as address:
        wait_until(lambda: len(RolloutStore(settings.database_url).servers("churn")) == 2)
        callers = [threading.Thread(target=ask, args=(address, seed)) for seed in range(4)]
        for caller in callers:
            caller.start()
        started = time.monotonic()
        for variant, cutoff in zip(variants[1:], cutoffs[1:], strict=True):
            deployed.append(turn(variant, settings, cutoff))
            stop.wait(0.5)
        seconds = time.monotonic() - started
        stop.set()
        for caller in callers:
            caller.join()
    assert [(record.status, record.servers) for record in deployed[1:]] == [("deployed", 2)] * 5
    truth = {}
    for record in deployed:
        predictor = read_package(settings.home / record.register.package).predictor
        truth[record.champion] = predictor.predict(rows_to_columns(rows, predictor.signature)).confidences
    assert failures == []
    assert {version for _, version, _ in answers} == set(truth)
    assert all(abs(confidence - truth[version][i]) < 1e-9 for i, version, confidence in answers)
    assert len(answers) / seconds > 50
    assert len(logged(settings.log)) == len(answers)


def test_the_fast_path_loads_neither_scikit_learn_nor_pandas_nor_mlflow(deployed, settings):
    code = """
import sys
from pipeline.package_files import read_package
from pathlib import Path
import serving.app
read_package(Path(sys.argv[1]))
heavy = ("sklearn", "pandas", "mlflow", "airflow", "scipy", "great_expectations")
print([name for name in heavy if name in sys.modules])
"""
    folder = settings.home / deployed.register.package
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
