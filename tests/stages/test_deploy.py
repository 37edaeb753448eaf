"""Who answers: registration, rollout, and the laws about them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import mlflow
import numpy as np
import pytest

from pipeline.adapters.champions import champion_of
from pipeline.config import override
from pipeline.errors import BadData, DeploymentFailed, OutsideFailure, PackageInvalid
from pipeline.ledger import Event
from pipeline.package_files import read_package
from pipeline.rollout import Plan, RolloutMoved, RolloutStore, ServerStatus
from pipeline.stages.deploy import deploy
from pipeline.stages.register import register
from tests.conftest import LENIENT, at, customers, turn


def client_of(settings):
    return mlflow.MlflowClient(settings.mlflow_uri)


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


def test_whatever_is_wrong_with_a_later_run_the_earlier_champion_answers_on(write_model, settings):
    frame = customers()
    champion = turn(write_model(frame), settings, "2025-08-01")
    before = RolloutStore(settings.database_url).get("churn")
    bad = [
        frame.drop(columns="plan"),
        frame.assign(tenure="long"),
        frame.assign(charge=np.inf),
        frame.assign(churned=0),
        frame[:0],
    ]
    for table in bad:
        with pytest.raises(BadData):
            turn(write_model(table), settings, "2025-10-01")
        assert RolloutStore(settings.database_url).get("churn") == before
    assert champion_of("churn", settings).version == champion.register.version
    assert not list(settings.home.rglob("*.part"))


def test_a_candidate_judged_against_a_champion_that_is_gone_is_refused(write_model, settings):
    model = override(write_model(customers()), LENIENT)
    turn(model, settings, "2025-08-01")
    late = turn(override(model, {"training.parameters": {"C": 0.5}}), settings, "2025-10-01", until="register")
    assert turn(override(model, {"training.parameters": {"C": 0.3}}), settings, "2025-09-01").status == "deployed"
    refused = deploy(late, model, at(model, "2025-10-01"), settings)
    assert refused.status == "refused"
    assert refused.reason.startswith("champion moved")


def test_a_newer_model_is_judged_against_the_champion_on_the_same_rows(write_model, settings):
    model = write_model(customers())
    first = turn(model, settings, "2025-08-01")
    forest = override(model, {"training.estimator": "sklearn.ensemble.RandomForestClassifier", **LENIENT})
    second = turn(forest, settings, "2025-10-01")
    judged = second.register.evaluate
    assert judged.champion == first.register.digest
    assert judged.difference is not None
    assert judged.champion_metrics["roc_auc"].value > 0.6
    assert second.status == "deployed"
    assert champion_of("churn", settings).judged_against == first.register.version


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
        override(model, {"training.parameters": {"C": 0.5}, **LENIENT}),
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
        store.activate("churn", 0, Event("churn", "promoted", 1, {}), datetime.now(UTC))


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
