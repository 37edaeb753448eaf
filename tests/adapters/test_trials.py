"""What the database holds of a trial: plans of every age, moves that only one can win, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from pipeline.adapters.trials import Why, advance, on_trial, withdraw
from pipeline.errors import BadConfiguration, DeploymentFailed
from pipeline.ledger import Event, Ledger
from pipeline.rollout import Plan, RolloutStore, Variant, rollouts

CHAMPION = Variant("champion", 1, "packages/1", "d1", "m1", "2026-01-01", None)
CHALLENGER = Variant("challenger", 2, "packages/2", "d2", "m2", "2026-02-01", 1)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, settings):
    return settings.database_url if request.param == "sqlite" else request.getfixturevalue("postgres")


def test_a_plan_that_was_written_before_there_were_trials_is_still_read(url):
    with RolloutStore(url) as store:
        staged = store.stage("old", Plan("direct", (CHAMPION,)), store.get("old").generation)
        store.activate("old", staged.generation, Event("old", "promoted", 1, {}), datetime.now(UTC))
    old = json.dumps({"strategy": "direct", "variants": [asdict(CHAMPION)]})
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.update(rollouts).where(rollouts.c.model == "old").values(active=old))
    engine.dispose()
    with RolloutStore(url) as store:
        plan = store.get("old").active
    assert plan == Plan("direct", (CHAMPION,))
    assert (plan.challenger, plan.share) == (None, 0.0)


def test_of_ten_moves_of_one_trial_at_once_one_wins_and_has_its_line(url):
    plan = Plan("canary", (CHAMPION, CHALLENGER), 0.05, "moved:2:0", 1, 1.0)
    with RolloutStore(url) as store:
        staged = store.stage("moved", plan, 0)
        rollout = store.activate(
            "moved", staged.generation, Event("moved", "rollout_started", 2, {}), datetime.now(UTC)
        )

        def move(number: int) -> bool:
            why = Why("race", f"racer {number}", evidence={"judged": 7})
            with RolloutStore(url) as own:
                try:
                    withdraw(own, rollout, why) if number == 0 else advance(own, rollout, number / 20 + 0.05, why)
                except DeploymentFailed:
                    return False
            return True

        with ThreadPoolExecutor(10) as pool:
            won = list(pool.map(move, range(10)))
        assert sum(won) == 1
        after = store.get("moved")
        with Ledger(url) as ledger:
            (line,) = ledger.lines("moved", "advanced", "withdrawn")
            assert list(ledger.faults()) == []
        assert line.body["by"] == f"racer {won.index(True)}"
        assert (line.version, line.body["judged"], line.body["from_share"]) == (2, 7, 0.05)
        assert line.body["generation"] == after.generation == rollout.generation + 1
        if on_trial(after):
            assert (after.active.step, after.active.salt) == (2, plan.salt)
            after = withdraw(store, after, Why("enough", "ada"))
        assert after.active == Plan("direct", (CHAMPION,))
        with pytest.raises(BadConfiguration, match="moved has no version on trial"):
            withdraw(store, after, Why("again", "ada"))
