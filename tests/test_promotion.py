"""One winner: of any number at once, and whatever is killed wherever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import mlflow

from pipeline.adapters.champions import champion_of
from pipeline.config import override
from pipeline.ledger import Ledger
from pipeline.rollout import RolloutStore
from tests.conftest import LENIENT, customers, turn

RACERS = 20


def race(settings) -> list[str]:
    """All versions but the champion promoted at one moment; what each was told."""
    environ = {**os.environ, "EVERGREEN_HOME": str(settings.home), "EVERGREEN_MODELS": str(settings.models_dir),
               "EVERGREEN_DATABASE_URL": settings.database_url}  # fmt: skip
    versions = range(2, RACERS + 2)
    command = [sys.executable, "-m", "tests.promotion_runner", "race", ",".join(map(str, versions))]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    told = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
    return [told[version] for version in versions]


def test_of_twenty_promotions_at_once_one_wins_on_sqlite_and_on_postgresql(write_model, settings, postgres):
    model = override(write_model(customers()), LENIENT)
    turn(model, settings, "2025-08-01")
    for number in range(RACERS):
        turn(override(model, {"training.parameters": {"C": 0.2 + number / 10}}), settings, "2025-10-01",
             until="register")  # fmt: skip
    grown = replace(settings, database_url=postgres)
    copy_over(settings, grown)
    client = mlflow.MlflowClient(settings.mlflow_uri)
    for place in (settings, grown):
        told = race(place)
        assert told.count("won") == 1
        assert [one for one in told if one != "won" and "champion moved" not in one] == []
        winner = told.index("won") + 2
        assert champion_of("churn", place).version == winner
        assert int(client.get_model_version_by_alias("churn", "champion").version) == winner
        with Ledger(place.database_url) as ledger:
            assert [line.version for line in ledger.lines("churn", "promoted")] == [1, winner]
            assert len(ledger.lines("churn", "refused")) == RACERS - 1
            assert list(ledger.faults()) == []
        client.set_registered_model_alias("churn", "champion", "1")
        client.delete_registered_model_tag("churn", "evergreen.generation")
        (settings.home / "champions" / "churn").unlink()


def copy_over(settings, grown) -> None:
    """The same champion, with the same ledger, in another database."""
    from pipeline.ledger import Event

    with Ledger(settings.database_url) as ledger, Ledger(grown.database_url) as other:
        lines = ledger.lines()
        promoted = next(line for line in lines if line.kind == "promoted")
        for line in lines:
            if line != promoted:
                other.append(Event(line.model, line.kind, line.version, line.body, once=line.subject), line.instant)
    with RolloutStore(settings.database_url) as store, RolloutStore(grown.database_url) as other_store:
        active = store.get("churn").active
        staged = other_store.stage("churn", active, 0)
        event = Event("churn", "promoted", 1, promoted.body)
        other_store.activate("churn", staged.generation, event, datetime.now(UTC))


def test_a_deployment_killed_between_any_two_writes_leaves_one_champion_after_the_next_run(
    write_model, settings, tmp_path
):
    model = override(write_model(customers()), LENIENT)
    turn(model, settings, "2025-08-01")
    turn(model, settings, "2025-10-01", until="register")
    lenient = settings.models_dir / "churn.yaml"
    lenient.write_text(lenient.read_text() + "gate: {require: non_inferiority, margin: 0.5, search_slices: false}\n")
    command = [sys.executable, "-m", "tests.promotion_runner", "kill", str(settings.home), str(settings.models_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    *killed, whole = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(killed) >= 5
    assert not whole["killed"]
    for found in killed:
        assert found["killed"]
        assert found["between"]["faults"] == 0
        assert found["between"]["rollout"] == found["between"]["ledger"]
        assert found["after"] == {"rollout": 2, "ledger": 2, "alias": 2, "promoted": [1, 2], "faults": 0,
                                  "staged": False}, found  # fmt: skip
    assert {found["between"]["rollout"] for found in killed} == {1, 2}
