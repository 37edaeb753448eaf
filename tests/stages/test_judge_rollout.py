"""A challenger on trial, from its first share to its promotion or its end, on a written log and returned labels."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import mlflow
import numpy as np
import pytest
import sqlalchemy as sa

from pipeline.adapters import experiment_data
from pipeline.adapters.promotion import is_withdrawn
from pipeline.adapters.registry import Registry
from pipeline.adapters.trials import Why, advance, withdraw
from pipeline.config import override, parse_model
from pipeline.context import RunContext
from pipeline.core.buckets import bucket
from pipeline.errors import BadConfiguration, DeploymentFailed
from pipeline.gauges import GaugeStore
from pipeline.ledger import Ledger
from pipeline.rollout import RolloutStore, feedback, rollouts
from pipeline.settings import load_settings
from pipeline.stages.deploy import deploy
from pipeline.stages.judge_rollout import judge_rollout
from pipeline.status import status_of
from pipeline.status_page import rows as page
from serving.prediction_log import PredictionLog
from serving.routing import Served, route_of
from tests.conftest import LENIENT, MODEL, at, customers, turn
from tests.predictions import entry, write_entry

CANARY = {"deployment.rollout": {"strategy": "canary", "shares": [0.2, 0.5], "metric": "accuracy"}}
CUTOFFS = ("2025-08-01", "2025-09-01", "2025-10-01")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A champion, and two later versions that were registered but not deployed."""
    folder = tmp_path_factory.mktemp("made")
    settings = load_settings({"EVERGREEN_HOME": str(folder / "home"), "EVERGREEN_MODELS": str(folder / "models")})
    customers().to_parquet(folder / "table.parquet")
    (folder / "models").mkdir()
    text = MODEL.format(path=folder / "table.parquet")
    (folder / "models" / "churn.yaml").write_text(text)
    model = override(parse_model(text, "churn", "churn.yaml"), LENIENT)
    records = [turn(model, settings, CUTOFFS[0]).register]
    for c, cutoff in zip((0.5, 0.3), CUTOFFS[1:], strict=True):
        records.append(turn(override(model, {"training.parameters": {"C": c}}), settings, cutoff, until="register"))
    return folder, model, records


@pytest.fixture
def world(made, tmp_path):
    """That installation, to be changed by one test."""
    folder, model, records = made
    shutil.copytree(folder, tmp_path / "world")
    settings = load_settings(
        {"EVERGREEN_HOME": str(tmp_path / "world/home"), "EVERGREEN_MODELS": str(tmp_path / "world/models")}
    )
    return World(settings, override(model, CANARY), records)


class World:
    """An installation with traffic."""

    def __init__(self, settings, model, records) -> None:
        self.settings, self.model, self.records = settings, model, records
        self.rng = np.random.default_rng(21)
        self.ago = timedelta(hours=20)
        """How long ago the present step begins; what follows it begins later."""

    def deploy(self, number: int = 2, **changes):
        model = override(self.model, changes) if changes else self.model
        return deploy(self.records[number - 1], model, at(model, CUTOFFS[number - 1]), self.settings)

    @property
    def plan(self):
        with RolloutStore(self.settings.database_url) as store:
            return store.get("churn").active

    def traffic(self, requests: int, wrong: float = 0.0, users: int | None = None, lost: float = 0.0) -> datetime:
        """Requests of the hour after the step began, as the service answers and logs them, and all their labels.

        `wrong`: how often the challenger turns its answer round; `lost`: share of its answers that are not logged.
        Returns an instant after all of it.
        """
        plan = self._began_earlier()
        route = route_of("churn", 1, plan, tuple(Served(one, None, "linear") for one in plan.variants))
        log = PredictionLog(self.settings.log, f"test-{uuid.uuid4().hex[:8]}")
        log.start()
        told = []
        for number in range(requests):
            time = plan.began + 10 + 3_500 * number / requests
            user = f"user-{self.rng.integers(users or 2**62)}"
            chance = float(self.rng.beta(0.4, 0.4))
            actual = int(self.rng.random() < chance)
            served = route.choose(user)
            turned = self.rng.random() < wrong
            asked = self._answer(log, served, user, time, 1 - chance if turned and served is not route.served[0] else
                                 chance, None, lost)  # fmt: skip
            if route.shadow is not None:
                self._answer(log, route.shadow, user, time + 0.1, 1 - chance if turned else chance, asked, lost)
            told.append({"prediction_id": asked, "actual": json.dumps(actual), "received_at": time + 1, "times": 1})
        log.stop()
        engine = sa.create_engine(self.settings.database_url)
        with engine.begin() as connection:
            connection.execute(sa.insert(feedback), told)
        engine.dispose()
        return datetime.fromtimestamp(plan.began + 3 * 3_600, UTC)

    def _began_earlier(self):
        """Let the step have begun in the past, so that an hour of traffic has passed since."""
        self.ago -= timedelta(hours=5)
        with RolloutStore(self.settings.database_url) as store:
            plan = replace(store.get("churn").active, began=(datetime.now(UTC) - self.ago).timestamp())
        engine = sa.create_engine(self.settings.database_url)
        with engine.begin() as connection:
            connection.execute(sa.update(rollouts).values(active=json.dumps(asdict(plan))))
        engine.dispose()
        return plan

    def _answer(self, log, served, user, time, chance, shadow_of, lost) -> str:
        identity = f"{int(time * 1000):012x}{self.rng.bytes(10).hex()}"
        if served.variant.name == "champion" or self.rng.random() >= lost:
            write_entry(log, entry(
                identity, time, user_id=user, variant=served.variant.name, version=served.variant.version,
                digest=served.variant.digest, prediction=int(chance >= 0.5), confidence=max(chance, 1 - chance),
                scores=[1 - chance, chance], shadow_of=shadow_of,
            ))  # fmt: skip
        return identity

    def judge(self, cutoff: datetime, kind: str = "scheduled", act: bool = False, **changes):
        model = override(self.model, changes) if changes else self.model
        context = RunContext("churn", cutoff, "judging", kind)
        return judge_rollout(model, context, self.settings, act=act)

    def lines(self, *kinds):
        with Ledger(self.settings.database_url) as ledger:
            assert list(ledger.faults()) == []
            return ledger.lines("churn", *kinds)

    def gauges(self) -> dict[str, float]:
        """What the monitor of rollouts shows, by name."""
        with GaugeStore(self.settings.database_url) as store:
            return {gauge.name: gauge.value for one in store.read() for gauge in one.gauges}

    def alias(self) -> int:
        client = mlflow.MlflowClient(self.settings.mlflow_uri)
        return int(client.get_model_version_by_alias("churn", "champion").version)


def test_a_challenger_no_worse_goes_up_its_ramp_and_becomes_champion(world):
    record = world.deploy()
    assert (record.status, record.champion, record.challenger) == ("on_trial", 1, 2)
    assert record.reason == "canary: 0.2 of the users meet it; version 1 stays champion"
    assert (world.plan.share, world.plan.step, world.alias()) == (0.2, 0, 1)
    salt = world.plan.salt
    first = world.judge(world.traffic(4_000, users=1_500))
    assert first.decision == "advance", first.reasons
    assert (first.share, first.done) == (0.2, "0.5 of the users meet version 2 now")
    assert (world.plan.share, world.plan.step, world.plan.salt) == (0.5, 1, salt)
    assert first.figures["users_in_both"] == first.figures["displaced_units"] == 0
    assert first.figures["champion_answers"] + first.figures["challenger_answers"] == 4_000
    assert world.alias() == 1
    last = world.judge(world.traffic(8_000))
    assert last.decision == "promote", last.reasons
    assert (world.plan.strategy, [one.version for one in world.plan.variants], world.alias()) == ("direct", [2], 2)
    assert world.plan.variants[0].name == "champion"
    kinds = [(line.kind, line.version) for line in world.lines()][-5:]
    assert kinds == [
        ("rollout_started", 2), ("rollout_judged", 2), ("advanced", 2), ("rollout_judged", 2), ("promoted", 2)
    ]  # fmt: skip
    promoted = world.lines("promoted")[-1]
    assert promoted.body["judged"] == world.lines("rollout_judged")[-1].number
    assert promoted.body["from_version"] == 1
    assert world.gauges()["model_rollout_decision"] == 1
    assert world.judge(datetime.now(UTC)).status == "nothing on trial"
    assert world.gauges() == {}
    assert world.deploy().status == "unchanged"


def test_a_worse_challenger_is_withdrawn_and_only_a_person_can_promote_it(world):
    world.deploy()
    verdict = world.judge(world.traffic(4_000, wrong=0.3))
    assert verdict.decision == "roll_back"
    assert "worse beyond doubt" in verdict.reasons[0]
    assert [one.version for one in world.plan.variants] == [1]
    assert world.alias() == 1
    assert world.lines("withdrawn")[-1].version == 2
    names = ("model_rollout_difference_low", "model_rollout_difference", "model_rollout_difference_high")
    low, value, high = (world.gauges()[name] for name in names)
    assert low < value < high < 0
    assert value == verdict.figures["difference"]
    with Ledger(world.settings.database_url) as ledger:
        assert is_withdrawn(ledger, "churn", 2)
    again = world.deploy()
    assert again.status == "refused"
    assert "only a person can `promote` it again" in again.reason
    registry = Registry("churn", world.settings)
    assert [reign.version for reign in registry.history()] == [1]
    registry.promote(2, by="ada", reason="the labels were wrong")
    assert (world.alias(), world.plan.variants[0].version) == (2, 2)


def test_the_same_cutoff_again_moves_nothing_twice_and_tells_the_same(world):
    world.deploy()
    cutoff = world.traffic(3_000)
    held = world.judge(cutoff, **{"deployment.rollout.automatic": False})
    again = world.judge(cutoff, **{"deployment.rollout.automatic": False})
    assert held == again
    assert (held.decision, held.done, world.plan.share) == ("advance", "", 0.2)
    assert len(world.lines("rollout_judged")) == 1
    acted = world.judge(cutoff, act=True, **{"deployment.rollout.automatic": False})
    assert (acted.line, world.plan.share) == (held.line, 0.5)
    late = world.judge(datetime.fromtimestamp(world.plan.began - 1, UTC))
    assert (late.status, late.decision, late.line) == ("too early", "hold", None)
    assert (world.plan.share, len(world.lines("rollout_judged")), len(world.lines("advanced"))) == (0.5, 1, 1)


def test_a_backfill_judges_and_moves_and_writes_nothing(world):
    world.deploy()
    cutoff = world.traffic(4_000, wrong=0.3)
    lines, plan = world.lines(), world.plan
    judged = world.judge(cutoff, kind="backfill", act=True)
    assert (judged.decision, judged.done, judged.line) == ("roll_back", "", None)
    assert (world.lines(), world.plan, world.gauges()) == (lines, plan, {})
    refused = deploy(world.records[2], world.model, at(world.model, CUTOFFS[2], "backfill"), world.settings)
    assert refused.reason.startswith("refused: a backfill")
    assert world.plan == plan


def test_answers_that_are_missing_from_the_log_hold_the_rollout(world):
    world.deploy(**{"deployment.rollout.shares": [0.5]})
    verdict = world.judge(world.traffic(4_000, lost=0.25))
    assert verdict.decision == "hold"
    assert verdict.reasons[0].startswith("sample-ratio mismatch")
    assert world.plan.share == 0.5


def test_of_more_answers_than_can_be_held_a_sample_of_whole_users_is_judged_by_a_part_of_alpha(world, monkeypatch):
    monkeypatch.setattr(experiment_data, "MOST_ANSWERS", 2_400)
    world.deploy(**{"deployment.rollout.shares": [0.5]})
    cutoff = world.traffic(4_000, wrong=0.4, users=1_000)
    verdict = world.judge(cutoff)
    assert verdict.decision == "roll_back", verdict.reasons
    assert verdict.figures["looked_at"] == 0.5
    units = verdict.figures["champion_units"] + verdict.figures["challenger_units"]
    answers = verdict.figures["champion_answers"] + verdict.figures["challenger_answers"]
    assert units == pytest.approx(491, abs=60)
    assert answers / units == pytest.approx(4_000 / 982, rel=0.1)


def test_a_newer_version_that_passes_the_gate_takes_the_challengers_place(world):
    world.deploy(2)
    salt = world.plan.salt
    assert world.deploy(2).reason == "version 2 is on trial already"
    assert world.deploy(3).status == "on_trial"
    assert [one.version for one in world.plan.variants] == [1, 3]
    assert world.plan.salt != salt
    (line,) = world.lines("superseded")
    assert (line.version, line.body["superseded_by"]) == (2, 3)
    older = world.deploy(2)
    assert older.status == "refused"
    assert "is not newer than the challenger's" in older.reason
    assert not world.lines("withdrawn")


def test_people_can_end_a_trial_either_way(world):
    registry = Registry("churn", world.settings)
    world.deploy(2)
    assert registry.rollback(by="ada", reason="it looks odd") == (2, 1)
    assert [one.version for one in world.plan.variants] == [1]
    assert world.lines("withdrawn")[-1].body["by"] == "ada"
    with pytest.raises(BadConfiguration, match="no version answered before version 1"):
        registry.rollback(by="ada", reason="and again")
    world.deploy(3)
    registry.promote(3, by="bob", reason="seen enough")
    assert ([one.version for one in world.plan.variants], world.alias()) == ([3], 3)
    assert registry.rollback(by="bob", reason="not enough") == (3, 1)


def test_a_first_step_in_shadow_tells_by_pairs_and_then_the_canary_begins(world):
    changes = {"deployment.rollout.shares": [0.0, 0.2]}
    record = world.deploy(**changes)
    assert record.reason == "shadow: its answers are shown to nobody; version 1 stays champion"
    verdict = world.judge(world.traffic(400), **changes)
    assert verdict.decision == "advance", verdict.reasons
    assert "400 pairs" in verdict.reasons[0]
    assert (world.plan.strategy, world.plan.share, world.plan.step) == ("canary", 0.2, 1)


def test_a_worse_challenger_is_found_in_shadow_before_anybody_met_it(world):
    changes = {"deployment.rollout": {"strategy": "shadow", "metric": "brier_score_loss"}}
    world.deploy(**changes)
    verdict = world.judge(world.traffic(600, wrong=0.2), **changes)
    assert (verdict.decision, verdict.strategy, verdict.share) == ("roll_back", "shadow", 0.0)
    assert [one.version for one in world.plan.variants] == [1]


def test_users_whom_a_tester_header_sent_elsewhere_count_for_neither_arm(world):
    world.deploy()
    cutoff = world.traffic(1_000)
    plan = world.plan
    log = PredictionLog(world.settings.log, "test-header")
    log.start()
    forced = next(u for u in map("tester-{}".format, range(100)) if bucket(u, plan.salt) >= plan.share)
    identity = f"{int((plan.began + 20) * 1000):012x}{'0' * 20}"
    write_entry(log, entry(identity, plan.began + 20, user_id=forced, variant="challenger", version=2))
    log.stop()
    verdict = world.judge(cutoff)
    assert verdict.figures["displaced_units"] == 1
    labelled = verdict.figures["champion_labelled_units"] + verdict.figures["challenger_labelled_units"]
    assert labelled == 1_000


def test_of_several_moves_of_one_trial_at_once_one_wins(world):
    world.deploy()
    with RolloutStore(world.settings.database_url) as store:
        rollout = store.get("churn")

        def move(number: int) -> str:
            why = Why("race", f"racer {number}")
            try:
                advance(store, rollout, 0.5, why) if number % 2 else withdraw(store, rollout, why)
            except DeploymentFailed as lost:
                return str(lost)
            return "won"

        with ThreadPoolExecutor(8) as pool:
            told = list(pool.map(move, range(8)))
        assert told.count("won") == 1
        assert all("judge it again" in one for one in told if one != "won")
    assert len(world.lines("advanced", "withdrawn")) == 1


def test_the_first_version_of_all_answers_at_once_whatever_the_strategy(made, tmp_path):
    _, model, records = made
    world = tmp_path / "home"
    shutil.copytree(made[0] / "home", world, ignore=shutil.ignore_patterns("evergreen.db*", "champions"))
    settings = load_settings({"EVERGREEN_HOME": str(world), "EVERGREEN_MODELS": str(made[0] / "models")})
    record = replace(records[0], evaluate=replace(records[0].evaluate, champion=None))
    deployed = deploy(record, override(model, CANARY), at(model, CUTOFFS[0]), settings)
    assert (deployed.status, deployed.champion, deployed.challenger) == ("deployed", 1, None)


def test_status_and_the_command_tell_of_the_trial(world):
    world.deploy()
    now = datetime.now(UTC)
    (found,) = status_of(["churn"], now, world.settings)
    assert (found.trial.version, found.trial.strategy, found.trial.judged) == (2, "canary", None)
    shown = {row.label: row.text for row in page(found, now)}
    assert shown["on trial"].startswith("version 2: canary, step 0, met by 0.2 of the users")
    world.judge(now + timedelta(minutes=5))
    (found,) = status_of(["churn"], now, world.settings)
    assert found.trial.judged.told.startswith("hold: ")
    command = [sys.executable, "-m", "pipeline", "judge-rollout", "--model", "churn"]
    environ = {"EVERGREEN_HOME": str(world.settings.home), "EVERGREEN_MODELS": str(world.settings.models_dir),
               "PATH": "/usr/bin:/bin"}  # fmt: skip
    done = subprocess.run([*command, "--json"], env=environ, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["challenger"] == 2
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert "version 2 beside champion 1: canary, step 0, a share of 0.2" in done.stdout
