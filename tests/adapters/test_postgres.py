"""The grown-up database: rollouts, servers, labels and the registry's lock on a real PostgreSQL."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pipeline.adapters.versions import one_at_a_time
from pipeline.errors import OutsideFailure
from pipeline.ledger import Event
from pipeline.rollout import Plan, RolloutMoved, RolloutStore, ServerStatus, Variant


def plan(version: int) -> Plan:
    return Plan("direct", (Variant("champion", version, f"packages/{version}", "d", "m", "2026-01-01", None),))


def test_of_twenty_deployments_at_once_one_wins_also_on_postgresql(postgres):
    def race(version: int) -> bool:
        store = RolloutStore(postgres)
        try:
            store.stage("raced", plan(version), 0)
        except RolloutMoved:
            return False
        finally:
            store.close()
        return True

    with ThreadPoolExecutor(20) as pool:
        won = list(pool.map(race, range(20)))
    assert sum(won) == 1
    store = RolloutStore(postgres)
    assert store.get("raced").generation == 1
    assert store.get("raced").staged == plan(won.index(True))
    assert store.activate("raced", 1, Event("raced", "promoted", 1, {}), datetime.now(UTC)).active == plan(
        won.index(True)
    )
    assert store.all()["raced"].active is not None
    store.close()


def test_servers_and_labels_live_on_postgresql_too(postgres):
    store = RolloutStore(postgres)
    status = ServerStatus("s1", "churn", 3, "ready", 2)
    store.report(status)
    store.report(status)
    assert store.servers("churn") == [status]
    store.forget("s1")
    assert store.servers("churn") == []
    assert [store.take_feedback("p1", value) for value in (1, 1, "x")] == [True, False, False]
    assert store.feedback_count() == 1
    store.close()


def test_the_registry_has_one_writer_over_machines(postgres, settings, tmp_path):
    inside, most = 0, 0

    def write(number: int) -> None:
        nonlocal inside, most
        machine = replace(settings, home=tmp_path / str(number), database_url=postgres)
        with one_at_a_time("churn", machine):
            inside += 1
            most = max(most, inside)
            time.sleep(0.02)
            inside -= 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    assert most == 1


def test_a_database_that_is_down_is_named_without_its_password():
    store = RolloutStore("postgresql+psycopg://evergreen:geheim@127.0.0.1:9/none")
    with pytest.raises(OutsideFailure, match=r"127\.0\.0\.1:9/none failed.*EVERGREEN_DATABASE_URL") as failed:
        store.get("churn")
    assert "geheim" not in str(failed.value)
