"""From prepared rows to a champion: what is tracked, what is refused, what the command line tells."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import mlflow
import numpy as np
import pytest

from pipeline.config import override
from pipeline.errors import BadConfiguration, NotEnoughData
from pipeline.package_files import read_package
from pipeline.stages import STAGES
from tests.conftest import customers, turn


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
