"""The gate in the chain: what is refused, by name, and why."""

from __future__ import annotations

from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pytest

from pipeline.config import override
from pipeline.errors import BadConfiguration, BadData, DataRefused
from pipeline.ledger import Ledger
from pipeline.package_files import read_package
from tests.conftest import LENIENT, customers, turn


def two_worlds(seed: int = 3) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table whose `charge` tells half of the label, and the same with a signal that only newer rows carry."""
    frame = customers(4000, seed)
    rng = np.random.default_rng(seed)
    signal = frame["churned"] * 2.5 + rng.normal(0, 1, len(frame))
    return frame.assign(usage=rng.normal(0, 1, len(frame))), frame.assign(usage=signal)


def test_a_candidate_that_knows_more_is_promoted_and_its_evidence_stands_in_the_ledger(write_model, settings):
    blind, seeing = two_worlds()
    turn(write_model(blind), settings, "2025-08-01")
    record = turn(write_model(seeing), settings, "2025-10-01")
    evaluate = record.register.evaluate
    assert record.status == "deployed", record.reason
    assert evaluate.verdict.decision == "PROMOTE"
    assert evaluate.difference.low > 0
    assert evaluate.difference.method == "DeLong"
    with Ledger(settings.database_url) as ledger:
        verdict = ledger.lines("churn", "verdict")[-1]
    assert verdict.body["verdict"]["reasons"] == list(evaluate.verdict.reasons)
    assert verdict.body["compared_version"] == 1
    assert verdict.body["window"] == [evaluate.train.prepare.test_from, evaluate.train.prepare.test_until]


def broken(frame: pd.DataFrame) -> pd.DataFrame:
    """The signal misleads for one plan: trained on it the model is better overall and wrong there later."""
    late = frame["event_time"] >= frame["event_time"].quantile(0.6)
    wrong = late & (frame["plan"] == "plus") & (frame.index % 2 == 0)
    return frame.assign(usage=frame["usage"].where(~wrong, 2.5 - frame["usage"]))


@pytest.mark.parametrize("declared", [True, False])
def test_a_candidate_better_overall_that_breaks_a_slice_is_rejected_by_its_name(write_model, settings, declared):
    blind, seeing = two_worlds()
    rules = {"gate.slices": [{"where": {"plan": "plus"}, "name": "plus customers"}], "gate.search_slices": False}
    turn(write_model(blind), settings, "2025-08-01")
    model = override(write_model(broken(seeing)), rules if declared else {})
    record = turn(model, settings, "2025-10-01")
    evaluate = record.register.evaluate
    assert evaluate.difference.low > 0
    assert record.status == "refused"
    assert evaluate.verdict.decision == "REJECT"
    assert ("plus customers" if declared else "plan=plus") in evaluate.verdict.reasons[0]


def test_a_window_that_has_judged_before_asks_for_more_and_the_same_judgement_again_does_not_count(
    write_model, settings
):
    model = write_model(customers())
    turn(model, settings, "2025-08-01")
    worn = []
    for number in range(4):
        candidate = override(model, {"training.parameters": {"C": 0.5 + number}})
        for _ in range(2):
            evaluate = turn(candidate, settings, "2025-10-01", until="evaluate")
        worn.append(evaluate.evidence.wear.candidates)
    assert worn == [1.0, 2.0, 3.0, 4.0]
    assert evaluate.evidence.wear.confidence == pytest.approx(1 - 0.05 / 16)


def test_rows_that_the_champion_learned_from_do_not_compare(write_model, settings):
    model = override(write_model(customers()), LENIENT)
    turn(override(model, {"split.test_share": 0.2}), settings, "2025-09-01")
    record = turn(override(model, {"split.test_share": 0.6}), settings, "2025-10-01", until="evaluate")
    assert 0 < record.evidence.compared_rows < record.evidence.rows
    assert "which neither was trained on" in record.verdict.reasons[0]


def test_a_candidate_of_the_same_instant_as_the_champion_is_never_compared_with_it(write_model, settings):
    model = write_model(customers())
    turn(model, settings, "2025-10-01")
    again = turn(override(model, {"training.parameters": {"C": 0.5}}), settings, "2025-10-01")
    assert again.status == "refused"
    assert again.register.evaluate.difference is None
    assert "no comparison: the champion (version 1) knows all up to" in again.register.evaluate.verdict.reasons[0]


CANARIES = {
    "copy": lambda frame, rng: frame["churned"] + rng.normal(0, 0.01, len(frame)),
    "reason": lambda frame, rng: np.where(frame["churned"] == 1, rng.choice(["price", "moved"], len(frame)), None),
    "closed": lambda frame, rng: np.where(frame["churned"] == 1, rng.random(len(frame)), np.nan),
}


@pytest.mark.parametrize("kind", CANARIES)
def test_a_planted_column_that_knows_the_future_is_refused_by_name(write_model, settings, kind):
    frame = customers()
    canary = CANARIES[kind](frame, np.random.default_rng(0))
    model = write_model(frame.assign(canary=canary))
    with pytest.raises(DataRefused, match=r"'canary' \(ROC AUC (1\.000|0\.99\d)\) alone tells churned"):
        turn(model, settings, until="train")
    assert turn(override(model, {"features.trusted": ["canary"]}), settings, until="train").digest


def test_a_planted_column_is_refused_in_a_regression_too(write_model, settings):
    frame = customers(6000).drop(columns="churned")
    leak = frame["charge"] * 3.3 + np.random.default_rng(0).normal(0, 0.1, len(frame))
    model = write_model(frame.assign(canary=leak))
    numeric = override(model, {"task": "regression", "target": {"column": "charge"},
                               "training.estimator": "sklearn.linear_model.Ridge"})  # fmt: skip
    with pytest.raises(DataRefused, match=r"'canary' \(R squared"):
        turn(numeric, settings, until="train")


def test_everything_that_arrived_after_the_cutoff_can_be_scrambled_without_changing_a_byte(write_model, settings):
    frame = customers()
    before = turn(write_model(frame), settings, "2025-08-01", until="register")
    rng = np.random.default_rng(1)
    later = (frame["arrived_at"] > "2025-08-01").to_numpy()
    scrambled = frame.copy()
    for column in ("tenure", "charge", "plan", "churned"):
        values = scrambled[column].to_numpy(copy=True)
        values[later] = rng.permutation(values[later])
        scrambled[column] = values
    assert not scrambled.equals(frame)
    again = turn(write_model(scrambled), replace(settings, home=settings.home / "again", mlflow_uri=(
        f"sqlite:///{settings.home / 'again' / 'mlflow.db'}"), database_url=f"sqlite:///{settings.home / 'again.db'}"),
        "2025-08-01", until="register")  # fmt: skip
    one, other = before.evaluate, again.evaluate
    assert one.train.prepare.validate.ingest.digest == other.train.prepare.validate.ingest.digest
    assert one.train.digest == other.train.digest
    assert one.predictions_digest == other.predictions_digest
    assert before.digest == again.digest


def test_the_threshold_of_the_payoff_is_what_serves(write_model, settings):
    model = write_model(customers(), extra="payoff: {true_positive: 80, false_positive: -20}\n")
    record = turn(model, settings, "2025-10-01")
    package = read_package(settings.home / record.register.package)
    assert package.predictor.threshold == pytest.approx(0.2)
    assert record.register.evaluate.metrics["money_per_thousand"].value > 0
    assert record.register.evaluate.metrics["recall"].value > 0.8


def test_groups_that_get_the_positive_answer_too_unequally_are_named(write_model, settings):
    frame = customers()
    group = np.where(frame["tenure"] < 30, "young", "old")
    fair = {"gate.fairness": [{"column": "group", "min_ratio": 0.8}]}
    model = override(write_model(frame.assign(group=group)), {**fair, "features.exclude": ["group"]})
    record = turn(model, settings, "2025-10-01")
    assert record.status == "refused"
    assert "fairness, selection_rate by group: old" in record.reason
    assert set(record.register.evaluate.fairness["selection_rate by group"]) == {"old", "young"}


def test_behaviour_that_the_model_file_forbids_rejects(write_model, settings):
    extra = "behaviour: [{test: direction, name: loyal, column: tenure, add: 12, expect: up}]\n"
    record = turn(write_model(customers(), extra=extra), settings, "2025-10-01")
    assert record.status == "refused"
    assert "behaviour loyal: the score must not go down when tenure changes by +12" in record.reason
    wrong = "behaviour: [{test: direction, name: loyal, column: tenuer, add: 12, expect: up}]\n"
    with pytest.raises(BadConfiguration, match="'tenuer' is no feature"):
        turn(write_model(customers(), extra=wrong), settings, "2025-10-01")


def test_a_package_that_answers_too_slowly_in_the_real_server_is_rejected(write_model, settings):
    model = write_model(customers(), extra="gate: {max_latency_ms: 0.0001}\n")
    record = turn(model, settings, "2025-10-01")
    assert record.status == "refused"
    assert "latency in the server:" in record.reason
    assert record.register.evaluate.latency_ms > 0.0001


def test_a_column_that_the_gate_groups_by_must_be_in_the_source(write_model, settings):
    model = override(write_model(customers()), {"gate.slices": [{"where": {"region": "north"}}]})
    with pytest.raises(BadData, match="region"):
        turn(model, settings, "2025-10-01")


def test_every_registered_version_has_a_model_card_in_mlflow(write_model, settings):
    extra = (
        "description: Customers <who> leave\n"
        "gate: {slices: [{where: {tenure: [0, 1]}}]}\n"
        "behaviour: [{test: direction, name: loyal, column: tenure, add: 12, expect: down}]\n"
    )
    record = turn(write_model(customers(), extra=extra), settings, "2025-10-01")
    page = (settings.home / record.register.model_card).read_text()
    assert page.count("behaviour loyal") == 1
    assert "too few rows" in page
    assert "Customers &lt;who&gt; leave" in page
    assert "http" not in page.replace("http-equiv", "").replace("https-", "")
    client = mlflow.MlflowClient(settings.mlflow_uri)
    names = {file.path for file in client.list_artifacts(record.register.evaluate.train.mlflow_run)}
    assert {"model_card.html", "gate.json", "plots", "serving_trial.json"} <= names
    assert "How it is served" in page
