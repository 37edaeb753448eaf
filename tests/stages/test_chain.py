"""From prepared rows to a champion: train, evaluate, register, deploy, and the laws about them."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import mlflow
import numpy as np
import pytest

from pipeline.adapters.champions import champion_of
from pipeline.config import override
from pipeline.errors import BadConfiguration, DeploymentFailed, NotEnoughData, OutsideFailure, PackageInvalid
from pipeline.package_files import read_package
from pipeline.rollout import Plan, RolloutMoved, RolloutStore, ServerStatus
from pipeline.stages import STAGES, run_stage
from pipeline.stages.deploy import deploy
from pipeline.stages.register import register
from tests.conftest import at, customers


def turn(model, settings, cutoff="2026-01-01", kind="manual", until="deploy"):
    """The stages up to one of them; returns the last record."""
    record = None
    for stage in STAGES[: STAGES.index(until) + 1]:
        record = run_stage(stage, model, at(model, cutoff, kind), settings, record)
    return record


def client_of(settings):
    return mlflow.MlflowClient(settings.mlflow_uri)


def test_the_whole_chain_makes_a_champion_whose_package_reproduces_its_golden_rows(write_model, settings):
    record = turn(write_model(customers()), settings)
    assert record.status == "deployed"
    assert record.register.evaluate.metrics["roc_auc"].value > 0.7
    version = client_of(settings).get_model_version_by_alias("churn", "champion")
    assert int(version.version) == record.register.version == record.champion
    package = read_package(settings.home / record.register.package)
    assert package.manifest.form == "linear"
    run = client_of(settings).get_run(record.register.evaluate.train.mlflow_run)
    assert run.data.tags["evergreen.data_md5"] == record.register.evaluate.train.prepare.validate.ingest.digest
    assert run.data.metrics["roc_auc"] == record.register.evaluate.metrics["roc_auc"].value
    assert run.info.status == "FINISHED"
    plots = {file.path for file in client_of(settings).list_artifacts(run.info.run_id, "plots")}
    assert {"plots/roc.png", "plots/precision_recall.png", "plots/calibration.png", "plots/confusion.png",
            "plots/importance.png"} == plots  # fmt: skip


def test_an_unchanged_run_computes_nothing_again(write_model, settings, monkeypatch):
    model = write_model(customers())
    first = turn(model, settings)
    monkeypatch.setattr("pipeline.core.fitting.fit", lambda *_: pytest.fail("fitted again"))
    again = turn(model, settings, "2026-02-01")
    assert again.status == "unchanged"
    assert again.register == first.register
    assert len(client_of(settings).search_model_versions("name = 'churn'")) == 1


def test_the_served_model_is_a_real_mlflow_model_without_a_pickle(write_model, settings):
    record = turn(write_model(customers()), settings)
    loaded = mlflow.pyfunc.load_model(record.register.evaluate.train.mlflow_model)
    frame = customers(20)[["tenure", "charge", "plan"]].astype({"tenure": float, "plan": object})
    assert len(loaded.predict(frame)) == 20
    assert not [path for path in settings.home.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")]


def test_a_model_below_its_floor_is_registered_but_does_not_answer(write_model, settings):
    record = turn(override(write_model(customers()), {"metrics.floors": {"roc_auc": 0.99}}), settings)
    assert record.status == "refused"
    assert "worse than its floor 0.9900" in record.reason
    assert champion_of("churn", settings) is None
    assert record.register.version == 1


def test_a_backfilled_model_is_registered_and_moves_nothing(write_model, settings):
    model = write_model(customers())
    champion = turn(model, settings, "2025-10-01")
    backfilled = turn(model, settings, "2025-08-01", kind="backfill")
    assert backfilled.status == "refused"
    assert backfilled.reason.startswith("refused: a backfill")
    assert backfilled.register.version != champion.register.version
    assert champion_of("churn", settings).version == champion.register.version
    assert backfilled.generation == champion.generation


def test_an_older_cutoff_never_displaces_a_newer_champion(write_model, settings):
    model = write_model(customers())
    turn(model, settings, "2025-10-01")
    late = turn(override(model, {"training.seed": 8, "training.parameters": {"C": 0.9}}), settings, "2025-09-01")
    assert late.status == "refused"
    assert "is not newer than the champion's" in late.reason


def test_a_candidate_judged_against_a_champion_that_is_gone_is_refused(write_model, settings):
    model = override(write_model(customers()), {"gate.margin": 0.5})
    turn(model, settings, "2025-08-01")
    late = turn(override(model, {"training.parameters": {"C": 0.5}}), settings, "2025-10-01", until="register")
    assert turn(override(model, {"training.parameters": {"C": 0.3}}), settings, "2025-09-01").status == "deployed"
    refused = deploy(late, model, at(model, "2025-10-01"), settings)
    assert refused.status == "refused"
    assert refused.reason.startswith("champion moved")


def test_a_newer_model_is_judged_against_the_champion_on_the_same_rows(write_model, settings):
    model = write_model(customers())
    first = turn(model, settings, "2025-08-01")
    forest = override(model, {"training.estimator": "sklearn.ensemble.RandomForestClassifier", "gate.margin": 0.2})
    second = turn(forest, settings, "2025-10-01")
    judged = second.register.evaluate
    assert judged.champion == first.register.digest
    assert judged.difference is not None
    assert judged.champion_metrics["roc_auc"].value > 0.6
    assert second.status == "deployed"
    assert champion_of("churn", settings).judged_against == first.register.package


def test_the_same_content_registers_once_even_in_a_race(write_model, settings):
    model = write_model(customers())
    evaluated = turn(model, settings, until="evaluate")

    def again(number):
        return register(replace(evaluated, key=f"racer {number}"), model, at(model), settings).version

    with ThreadPoolExecutor(6) as pool:
        versions = set(pool.map(again, range(6)))
    assert versions == {1}
    assert len(client_of(settings).search_model_versions("name = 'churn'")) == 1


def test_a_server_that_cannot_load_the_new_version_keeps_the_old_one_everywhere(write_model, settings):
    model = write_model(customers())
    first = turn(model, settings, "2025-08-01")
    registered = turn(
        override(model, {"training.parameters": {"C": 0.5}, "gate.margin": 0.2}),
        settings,
        "2025-10-01",
        until="register",
    )
    store = RolloutStore(settings.database_url)

    def server(stop):
        while not stop:
            staged = store.get("churn")
            if staged.staged is not None:
                store.report(ServerStatus("s1", "churn", staged.generation, "failed", 1, "golden row 3 differs by 0.2"))

    stop: list[int] = []
    store.report(ServerStatus("s1", "churn", first.generation, "none", 1))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(server, stop)
        try:
            with pytest.raises(DeploymentFailed, match=r"server s1 refused the new version: golden row 3"):
                deploy(registered, model, at(model, "2025-10-01"), settings)
        finally:
            stop.append(1)
    after = store.get("churn")
    assert after.active.variants[0].version == first.register.version
    assert after.staged is None
    assert int(client_of(settings).get_model_version_by_alias("churn", "champion").version) == first.register.version


def test_a_server_that_does_not_answer_in_time_is_named(write_model, settings):
    model = write_model(customers())
    registered = turn(model, settings, until="register")
    RolloutStore(settings.database_url).report(ServerStatus("slow", "churn", 0, "none", None))
    with pytest.raises(DeploymentFailed, match=r"server slow did not load the new version within 0\.5 s"):
        deploy(registered, model, at(model), replace(settings, deploy_timeout_seconds=0.5))
    assert champion_of("churn", settings) is None


def test_of_two_deployments_at_once_one_wins_and_the_other_is_told(settings):
    store = RolloutStore(settings.database_url)
    plan = Plan("direct", ())
    store.stage("churn", plan, 0)
    with pytest.raises(RolloutMoved, match="no longer at generation 0"):
        store.stage("churn", plan, 0)
    with pytest.raises(RolloutMoved):
        store.activate("churn", 0)


def test_a_package_with_one_changed_byte_is_refused_by_the_name_of_the_file(write_model, settings):
    record = turn(write_model(customers()), settings, until="register")
    folder = settings.home / record.package
    path = folder / "fast.bin"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(PackageInvalid, match=r"fast\.bin was changed after registration"):
        read_package(folder)


def test_a_tracking_server_that_is_down_is_named_and_nothing_is_half_written(write_model, settings, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    model = write_model(customers())
    down = replace(settings, mlflow_uri="http://127.0.0.1:9")
    with pytest.raises(OutsideFailure, match=r"MLflow at http://127.0.0.1:9 failed.*EVERGREEN_MLFLOW_URI"):
        turn(model, down, until="train")
    assert not list((settings.store / "train").glob("[!.]*"))


def test_a_parameter_that_the_estimator_does_not_know_is_named(write_model, settings):
    model = override(write_model(customers()), {"training.parameters": {"depth": 3}})
    with pytest.raises(BadConfiguration, match=r"training.parameters.depth: LogisticRegression has no such parameter"):
        turn(model, settings, until="train")


def test_a_parameter_of_the_wrong_value_is_named(write_model, settings):
    model = override(write_model(customers()), {"training.parameters": {"C": -1.0}})
    with pytest.raises(BadConfiguration, match="The 'C' parameter of LogisticRegression"):
        turn(model, settings, until="train")


def test_a_positive_class_that_the_target_does_not_hold_is_named(write_model, settings):
    model = override(write_model(customers()), {"target.positive": "yes"})
    with pytest.raises(BadConfiguration, match=r"target\.positive is 'yes', but 'churned' holds '0', '1'"):
        turn(model, settings, until="train")


def test_rows_that_judge_of_one_class_only_say_so(write_model, settings):
    frame = customers()
    frame.loc[700:, "churned"] = 0
    with pytest.raises(NotEnoughData, match="rows that judge hold one class only"):
        turn(write_model(frame), settings, until="evaluate")


def test_multiclass_and_regression_go_the_same_way(write_model, settings):
    frame = customers()
    frame["churned"] = np.where(frame.tenure > 50, "never", np.where(frame.churned == 1, "soon", "late"))
    boosting = {"task": "multiclass", "training.estimator": "sklearn.ensemble.HistGradientBoostingClassifier"}
    record = turn(override(write_model(frame), {**boosting, "target.positive": None}), settings)
    assert record.status == "deployed"
    assert set(record.register.evaluate.metrics) == {"accuracy", "balanced_accuracy", "f1_macro", "log_loss"}
    frame = customers().assign(churned=lambda f: f.tenure * 2.0 + f.charge)
    ridge = {"task": "regression", "training.estimator": "sklearn.linear_model.Ridge", "target.positive": None}
    record = turn(override(write_model(frame, name="value"), ridge), settings)
    assert record.register.evaluate.metrics["r2"].value > 0.99
    assert record.status == "deployed"


def test_a_search_finds_its_parameters_inside_the_training_rows_and_keeps_the_trials(write_model, settings):
    search = {"parameters": {"C": [1e-6, 1.0]}, "folds": 3}
    record = turn(override(write_model(customers()), {"training.search": search}), settings, until="train")
    assert record.parameters["C"] == 1.0
    names = [file.path for file in client_of(settings).list_artifacts(record.mlflow_run)]
    assert "search.json" in names


def test_a_forest_shows_how_it_learns(write_model, settings):
    forest = {
        "training.estimator": "sklearn.ensemble.RandomForestClassifier",
        "training.parameters": {"n_estimators": 20},
    }
    record = turn(override(write_model(customers()), forest), settings, until="train")
    history = client_of(settings).get_metric_history(record.mlflow_run, "training_roc_auc")
    assert [point.step for point in history] == list(range(2, 21, 2))


def test_a_later_row_changes_no_byte_of_data_model_or_predictions(write_model, settings, tmp_path):
    frame = customers()
    first = turn(write_model(frame), settings, "2025-08-01", until="evaluate")
    later = frame.arrived_at > np.datetime64("2025-08-01").astype(object).strftime("%Y-%m-%d")
    frame.loc[later, "charge"] = -1e6
    other = replace(
        settings,
        home=tmp_path / "other",
        database_url=f"sqlite:///{tmp_path}/other/e.db",
        mlflow_uri=f"sqlite:///{tmp_path}/other/m.db",
    )
    second = turn(write_model(frame), other, "2025-08-01", until="evaluate")
    assert later.any()
    assert second.train.digest == first.train.digest
    assert second.predictions_digest == first.predictions_digest


def test_the_command_line_tells_everything_as_one_object_and_exits_with_the_verdict(write_model, settings, tmp_path):
    write_model(customers(), extra="metrics: {{floors: {{roc_auc: 0.5}}}}\n".replace("{{", "{").replace("}}", "}"))
    environment = {
        "EVERGREEN_HOME": str(settings.home),
        "EVERGREEN_MODELS": str(tmp_path / "models"),
        "PATH": "/usr/bin:/bin",
    }

    def call(*arguments):
        command = [sys.executable, "-m", "pipeline", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    done = call("run", "--model", "churn", "--cutoff", "2025-09-01", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert list(told["stages"]) == sorted(STAGES)
    assert told["metrics"]["roc_auc"] > 0.6
    assert told["verdict"] == "PROMOTE"
    assert told["reasons"]
    assert "[4/7] train" in done.stderr
    refused = call(
        "run", "--model", "churn", "--cutoff", "2025-10-01", "--json", "--set", "metrics.floors={roc_auc: 0.99}"
    )
    assert refused.returncode == 3, refused.stderr
    assert json.loads(refused.stdout)["verdict"] == "REJECT"
    unknown = call("run", "--model", "chrun")
    assert unknown.returncode == 2
    assert "did you mean 'churn'" in unknown.stderr
    assert call("train", "--model", "churn", "--cutoff", "2025-09-02").returncode == 2
    assert call("run").returncode == 2
