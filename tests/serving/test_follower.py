"""What one server does while a version is on trial: it loads what it lacks, once, and never lets the champion down."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest

from pipeline.core.buckets import bucket
from pipeline.ledger import Event
from pipeline.rollout import Plan, RolloutStore
from serving import follower as following
from serving.follower import Follower
from tests.predictions import logged
from tests.serving.live_service import deploy, serving, wait_until

SALT = "churn:2:1"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An installation with the packages of two versions."""
    from pipeline.settings import load_settings

    home = tmp_path_factory.mktemp("made")
    settings = load_settings({"EVERGREEN_HOME": str(home)})
    variants = []
    with RolloutStore(settings.database_url) as store:
        for path in ("sklearn.linear_model.LogisticRegression", "sklearn.ensemble.HistGradientBoostingClassifier"):
            rows = deploy(settings, path=path).rows
            variants.append(store.get("churn").active.variants[0])
    return home, variants[0], replace(variants[1], name="challenger", version=2), rows


@pytest.fixture
def world(made, settings):
    """Its packages, and no rollout yet."""
    home, champion, challenger, _ = made
    shutil.copytree(home / "packages", settings.home / "packages")
    with RolloutStore(settings.database_url) as store:
        yield World(settings, store, champion, challenger)


class World:
    def __init__(self, settings, store, champion, challenger) -> None:
        self.settings, self.store, self.champion, self.challenger = settings, store, champion, challenger

    def share(self, share: float, strategy: str = "canary") -> Plan:
        """Move the traffic at once."""
        plan = Plan(strategy, (self.champion, self.challenger), share, SALT, 0, 1.0)
        rollout = self.store.get("churn")
        if rollout.generation == 0:
            rollout = self.store.stage("churn", plan, 0)
        self.store.move("churn", plan, rollout.generation, Event("churn", "advanced", 2, {}), datetime.now(UTC))
        return plan

    def alone(self) -> None:
        rollout = self.store.get("churn")
        event = Event("churn", "withdrawn", 2, {})
        self.store.move("churn", Plan("direct", (self.champion,)), rollout.generation, event, datetime.now(UTC))

    @contextmanager
    def followed(self):
        follower = Follower(self.store, self.settings, "server", ("churn",))
        follower.start()
        try:
            yield follower
        finally:
            follower.stop()


def test_a_larger_share_and_a_withdrawal_load_nothing_again(world, monkeypatch):
    loaded = []
    real = following.read_package
    monkeypatch.setattr(following, "read_package", lambda folder: (loaded.append(folder), real(folder))[1])
    world.share(0.1)
    with world.followed() as follower:
        first = follower.route("churn")
        assert (first.share, [one.variant.version for one in first.served]) == (0.1, [1, 2])
        world.share(0.5)
        wait_until(lambda: follower.route("churn").share == 0.5)
        assert follower.route("churn").served == first.served
        world.alone()
        wait_until(lambda: len(follower.route("churn").served) == 1)
        assert follower.route("churn").choose("anybody") is first.served[0]
    assert len(loaded) == 2


def test_a_promotion_of_the_challenger_proves_it_at_once_under_its_new_name(world, monkeypatch):
    world.share(0.1)
    with world.followed() as follower:
        monkeypatch.setattr(following, "read_package", lambda folder: pytest.fail("it is loaded already"))
        promoted = Plan("direct", (replace(world.challenger, name="champion"),))
        staged = world.store.stage("churn", promoted, world.store.get("churn").generation)
        wait_until(lambda: [s.staged_state for s in world.store.servers("churn")] == ["ready"])
        assert len(follower.route("churn").served) == 2
        world.store.activate("churn", staged.generation, Event("churn", "promoted", 2, {}), datetime.now(UTC))
        wait_until(lambda: follower.route("churn").served[0].variant == promoted.variants[0])


def test_a_challenger_that_cannot_be_loaded_leaves_everybody_to_the_champion_and_is_tried_again(world, monkeypatch):
    monkeypatch.setattr(following, "RETRY_SECONDS", 0.3)
    folder = world.settings.home / world.challenger.package
    hidden = folder.with_name("hidden")
    folder.rename(hidden)
    world.share(0.5)
    with world.followed() as follower:
        route = follower.route("churn")
        assert ([one.variant.version for one in route.served], route.share) == ([1], 0.0)
        assert follower.problems() == {}
        wait_until(lambda: "is no model package" in world.store.servers("churn")[0].detail)
        hidden.rename(folder)
        wait_until(lambda: follower.route("churn").share == 0.5)
        wait_until(lambda: world.store.servers("churn")[0].detail == "")


def test_a_staged_challenger_that_cannot_be_loaded_is_refused_and_the_champion_answers_on(world):
    world.share(0.1)
    world.alone()
    with world.followed() as follower:
        bad = replace(world.challenger, digest="0" * 64)
        plan = Plan("canary", (world.champion, bad), 0.1, SALT)
        world.store.stage("churn", plan, world.store.get("churn").generation)
        wait_until(lambda: [s.staged_state for s in world.store.servers("churn")] == ["failed"])
        assert [one.variant for one in follower.route("churn").served] == [world.champion]


def test_the_service_answers_each_user_by_the_bucket_and_its_shadow_answers_to_the_log_alone(world, made):
    rows = made[3]
    plan = world.share(0.3)
    users = [f"user-{number}" for number in range(60)]
    with serving(world.settings) as address, httpx.Client(base_url=address) as client:
        wait_until(lambda: client.get("/ready").status_code == 200)

        def ask(user: str) -> dict[str, object]:
            return dict(client.post("/predict", json={"features": rows[0], "user_id": user}).json())

        def trial(share: float) -> bool:
            text = client.get("/metrics").text
            return 'rollout_challenger{model="churn"} 2.0' in text and f'rollout_share{{model="churn"}} {share}' in text

        met = {user: ask(user)["variant"] for user in users}
        wait_until(lambda: trial(0.3))
        assert met == {user: "challenger" if bucket(user, plan.salt) < 0.3 else "champion" for user in users}
        world.share(0.6)
        wait_until(lambda: "challenger" in {ask(user)["variant"] for user in users if met[user] == "champion"})
        assert {ask(user)["variant"] for user in users if met[user] == "challenger"} == {"challenger"}
        world.share(0.0, "shadow")
        wait_until(lambda: {ask(user)["variant"] for user in users} == {"champion"})
        wait_until(lambda: trial(0.0))
    shadows = [one for one in logged(world.settings.log) if one["shadow_of"]]
    assert shadows
    assert {(one["variant"], one["version"]) for one in shadows} == {("challenger", 2)}
