"""The grown-up database: rollouts, servers, labels and the registry's lock on a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.adapters.versions import one_at_a_time
from pipeline.errors import OutsideFailure
from pipeline.ledger import Event
from pipeline.rollout import Plan, RolloutMoved, RolloutStore, ServerStatus, Variant


def _binaries() -> Path | None:
    found = shutil.which("initdb")
    candidates = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return candidates[-1] if candidates else None


@pytest.fixture(scope="module")
def database_url(tmp_path_factory):
    binaries = _binaries()
    if binaries is None:
        pytest.skip("the Debian package postgresql is not installed")
    folder = tmp_path_factory.mktemp("postgres")
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        for parent in (folder, *folder.parents[:3]):
            parent.chmod(0o755)
        shutil.chown(folder, "nobody")
        as_user = ["runuser", "-u", "nobody", "--"]
    subprocess.run([*as_user, binaries / "initdb", "-D", folder / "data", "-U", "evergreen", "-A", "trust"],
                   check=True, capture_output=True)  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [*as_user, binaries / "postgres", "-D", folder / "data", "-p", str(port), "-c", "listen_addresses=127.0.0.1",
         "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"postgresql+psycopg://evergreen@127.0.0.1:{port}/postgres"
    end = time.monotonic() + 30
    while True:
        try:
            with RolloutStore(url) as store:
                store.get("nobody")
            break
        except OutsideFailure:
            assert time.monotonic() < end
            time.sleep(0.1)
    yield url
    server.terminate()
    server.wait(30)


def plan(version: int) -> Plan:
    return Plan("direct", (Variant("champion", version, f"packages/{version}", "d", "m", "2026-01-01", None),))


def test_of_twenty_deployments_at_once_one_wins_also_on_postgresql(database_url):
    def race(version: int) -> bool:
        store = RolloutStore(database_url)
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
    store = RolloutStore(database_url)
    assert store.get("raced").generation == 1
    assert store.get("raced").staged == plan(won.index(True))
    assert store.activate("raced", 1, Event("raced", "promoted", 1, {}), datetime.now(UTC)).active == plan(
        won.index(True)
    )
    assert store.models() == ["raced"]
    store.close()


def test_servers_and_labels_live_on_postgresql_too(database_url):
    store = RolloutStore(database_url)
    status = ServerStatus("s1", "churn", 3, "ready", 2)
    store.report(status)
    store.report(status)
    assert store.servers("churn") == [status]
    store.forget("s1")
    assert store.servers("churn") == []
    assert [store.take_feedback("p1", value) for value in (1, 1, "x")] == [True, False, False]
    assert store.feedback_count() == 1
    store.close()


def test_the_registry_has_one_writer_over_machines(database_url, settings, tmp_path):
    inside, most = 0, 0

    def write(number: int) -> None:
        nonlocal inside, most
        machine = replace(settings, home=tmp_path / str(number), database_url=database_url)
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
