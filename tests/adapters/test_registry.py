"""The registry as people know it, and its memory."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import mlflow
import pytest

from pipeline.adapters.champions import champion_of
from pipeline.adapters.registry import Registry
from pipeline.config import override
from pipeline.errors import BadConfiguration, RefusedByGate
from pipeline.ledger import Event, Ledger
from pipeline.stages.deploy import deploy
from tests.conftest import LENIENT, at, customers, turn


@pytest.fixture
def model(write_model):
    return override(write_model(customers()), LENIENT)


def versions(model, settings, until: str = "deploy"):
    """One champion, and two later versions that were judged against it."""
    first = turn(model, settings, "2025-08-01")
    others = [
        turn(override(model, {"training.parameters": {"C": c}}), settings, cutoff, until=until)
        for c, cutoff in ((0.5, "2025-09-01"), (0.3, "2025-10-01"))
    ]
    return first, *others


def test_a_version_is_found_by_number_by_latest_and_by_either_word_for_its_alias(model, settings):
    versions(model, settings, until="register")
    registry = Registry("churn", settings)
    registry.promote(2, "staging", by="ada", reason="a look at it")
    found = {which: registry.get(which).number for which in (2, "2", "latest", "champion", "production", "challenger",
                                                             "staging")}  # fmt: skip
    assert found == {2: 2, "2": 2, "latest": 3, "champion": 1, "production": 1, "challenger": 2, "staging": 2}
    with pytest.raises(BadConfiguration, match="no version 9; registered: 1, 2, 3"):
        registry.get(9)
    with pytest.raises(BadConfiguration, match="'prod' is no version"):
        registry.get("prod")


def test_of_two_promotions_judged_against_one_champion_the_second_is_told_that_it_moved(model, settings):
    versions(model, settings, until="register")
    registry = Registry("churn", settings)
    registry.promote(2, "production", by="ada", reason="the better one")
    with pytest.raises(RefusedByGate, match="champion moved"):
        registry.promote(3, "production", by="bob", reason="mine too")
    assert champion_of("churn", settings).version == 2
    client = mlflow.MlflowClient(settings.mlflow_uri)
    assert int(client.get_model_version_by_alias("churn", "champion").version) == 2
    with Ledger(settings.database_url) as ledger:
        promoted, refused = ledger.lines("churn", "promoted", "refused")[-2:]
    assert (promoted.version, promoted.body["by"], promoted.body["reason"]) == (2, "ada", "the better one")
    assert (refused.version, refused.body["by"], refused.body["code"]) == (3, "bob", "champion_moved")


def test_only_the_verdict_can_be_overruled_and_the_ledger_says_that_it_was(model, settings):
    turn(model, settings, "2025-08-01")
    strict = override(model, {"metrics.floors": {"roc_auc": 0.99}})
    turn(strict, settings, "2025-10-01")
    registry = Registry("churn", settings)
    with pytest.raises(RefusedByGate, match=r"worse than its floor.*--overrule"):
        registry.promote(2, by="ada", reason="we know better")
    registry.promote(2, by="ada", reason="we know better", overrule=True)
    assert registry.history()[-1].reason == "we know better"
    with Ledger(settings.database_url) as ledger:
        assert ledger.last("churn", "promoted").body["overruled"] is True
    turn(override(model, {"training.seed": 3, "training.parameters": {"C": 0.1}}), settings, "2025-09-01")
    with pytest.raises(RefusedByGate, match="is not newer than the champion's"):
        registry.promote("latest", by="ada", reason="back in time", overrule=True)


def test_a_rollback_takes_the_champion_before_and_what_was_rolled_back_returns_only_by_hand(model, settings):
    first, second, third = versions(model, settings)
    assert [r.status for r in (first, second, third)] == ["deployed"] * 3
    registry = Registry("churn", settings)
    assert registry.rollback(by="ada", reason="it answers nonsense") == (3, 2)
    assert champion_of("churn", settings).version == 2
    refused = deploy(third.register, model, at(model, "2025-10-01"), settings)
    assert (refused.status, "rolled back" in refused.reason or "champion moved" in refused.reason) == ("refused", True)
    assert registry.rollback(by="ada", reason="worse still") == (2, 1)
    with pytest.raises(BadConfiguration, match="no version answered before version 1"):
        registry.rollback(by="ada", reason="again")
    assert registry.rollback(to=3, by="ada", reason="it was right after all") == (1, 3)
    assert [reign.version for reign in registry.history()] == [1, 2, 3, 2, 1, 3]
    with pytest.raises(BadConfiguration, match="was never champion"):
        registry.rollback(to=7, by="ada", reason="?")


def test_a_version_that_was_rolled_back_is_not_deployed_again_by_the_next_run(model, settings):
    turn(model, settings, "2025-08-01")
    newer = override(model, {"training.parameters": {"C": 0.5}})
    second = turn(newer, settings, "2025-10-01")
    registry = Registry("churn", settings)
    registry.rollback(by="ada", reason="it answers nonsense")
    again = deploy(second.register, newer, at(model, "2025-10-01"), settings)
    assert again.status == "refused"
    assert again.reason == "refused: version 2 was rolled back; only a person can `promote` it again"
    registry.promote(2, by="ada", reason="mended upstream")
    assert champion_of("churn", settings).version == 2


def test_where_a_person_has_to_agree_nothing_is_deployed_before_the_answer(model, settings):
    asking = override(model, {"deployment.approval": {"timeout_hours": 1}})
    held = turn(asking, settings, "2025-08-01")
    assert held.status == "refused"
    assert "approve 1 --model churn" in held.reason
    registry = Registry("churn", settings)
    registry.answer(1, approve=False, by="ada", reason="not on a Friday")
    assert "rejected by ada: not on a Friday" in deploy(held.register, asking, at(model, "2025-08-01"), settings).reason
    registry.answer(1, approve=True, by="bob", reason="Monday")
    assert deploy(held.register, asking, at(model, "2025-08-01"), settings).status == "deployed"
    backfilled = turn(asking, settings, "2025-07-01", kind="backfill")
    assert backfilled.reason.startswith("refused: a backfill")


def test_at_twenty_random_instants_history_names_the_champion_of_that_instant(settings):
    dice = random.Random(1)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    truth: list[tuple[datetime, int]] = []
    with Ledger(settings.database_url) as ledger:
        moment = start
        for version in range(1, 31):
            moment += timedelta(seconds=dice.randrange(60, 900_000))
            kind = "rolled_back" if version > 3 and dice.random() < 0.3 else "promoted"
            number = dice.randrange(1, version) if kind == "rolled_back" else version
            event = Event("churn", kind, number, {"by": "run", "reason": "r", "from_version": version - 1})
            ledger.append(event, moment)
            ledger.append(Event("other", "promoted", 99, {"by": "run", "reason": "r"}), moment)
            truth.append((moment, number))
    registry = Registry("churn", settings)
    for _ in range(20):
        asked = start + (moment - start) * dice.random()
        past = [number for instant, number in truth if instant <= asked]
        found = registry.champion_at(asked)
        assert (found.version if found else None) == (past[-1] if past else None)
    assert registry.champion_at(truth[4][0]).version == truth[4][1]
    assert registry.champion_at(start) is None


def test_a_dry_run_deploys_what_the_gate_would_have_stopped_and_the_ledger_tells_the_mode(model, settings):
    turn(model, settings, "2025-08-01")
    strict = {"metrics.floors": {"roc_auc": 0.99}, "training.parameters": {"C": 0.5}}
    watched = turn(override(model, {**strict, "gate.mode": "dry_run"}), settings, "2025-09-01")
    assert watched.status == "deployed"
    blind = turn(override(model, {**strict, "gate.mode": "disabled"}), settings, "2025-10-01")
    assert blind.status == "deployed"
    with Ledger(settings.database_url) as ledger:
        modes = [line.body["verdict"]["mode"] for line in ledger.lines("churn", "verdict")]
        judged = [line.body["verdict"]["judged"] for line in ledger.lines("churn", "verdict")]
        assert [line.body["mode"] for line in ledger.lines("churn", "promoted")] == modes
    assert modes == ["enabled", "dry_run", "disabled"]
    assert judged == [None, "REJECT", None]


def test_a_held_up_process_writes_no_alias_over_a_later_promotion(model, settings):
    from pipeline.adapters.versions import name_champion, version_under

    versions(model, settings)
    name_champion("churn", 1, 2, settings)
    assert version_under("churn", "champion", settings) == 3


def test_a_backfill_of_the_champions_own_package_never_turns_its_cutoff_back(model, settings):
    turn(model, settings, "2025-08-01")
    champion = turn(model, settings, "2026-01-01")
    assert champion.status == "deployed"
    turn(override(model, {"gate.resamples": 60}), settings, "2025-12-31", kind="backfill")
    registry = Registry("churn", settings)
    assert registry.get(champion.register.version).cutoff == datetime(2026, 1, 1, tzinfo=UTC)
    registry.rollback(by="ada", reason="a try")
    registry.promote(champion.register.version, by="ada", reason="back again")
    assert champion_of("churn", settings).cutoff == "2026-01-01T00:00:00+00:00"


def test_what_a_backfill_registers_is_no_challenger(model, settings):
    turn(model, settings, "2025-09-01")
    turn(override(model, {"training.parameters": {"C": 0.5}}), settings, "2025-10-01", until="register")
    registry = Registry("churn", settings)
    assert registry.get("challenger").number == 2
    turn(override(model, {"training.parameters": {"C": 0.4}}), settings, "2025-08-01", kind="backfill")
    turn(override(model, {"training.parameters": {"C": 0.3}}), settings, "2025-08-15")
    assert registry.get("latest").number == 4
    assert registry.get("challenger").number == 2


def test_an_alias_that_a_killed_process_left_behind_is_moved_by_whatever_comes_next(model, settings):
    versions(model, settings)
    client = mlflow.MlflowClient(settings.mlflow_uri)

    def lost() -> None:
        client.set_registered_model_alias("churn", "champion", "1")
        client.set_registered_model_tag("churn", "evergreen.generation", "2")
        (settings.home / "champions" / "churn").unlink()

    def alias() -> int:
        return int(client.get_model_version_by_alias("churn", "champion").version)

    lost()
    late = turn(override(model, {"training.parameters": {"C": 0.2}}), settings, "2025-08-15")
    assert (late.status, alias()) == ("refused", 3)
    lost()
    assert Registry("churn", settings).promote(3, by="ada", reason="again").number == 3
    assert alias() == 3


def test_rows_are_not_called_fresh_where_the_champion_told_them_apart_otherwise(model, settings):
    turn(model, settings, "2025-08-01")
    other = turn(override(model, {"entity": ["customer", "plan"]}), settings, "2025-10-01")
    assert other.status == "refused"
    assert "rows that judge are new to the champion" in other.reason
