"""Processes that promote at the same moment, or are killed between two writes. A process of its own.

`python -m tests.promotion_runner race VERSIONS`: promote each in a process of its own, all at one moment.
`python -m tests.promotion_runner kill HOME ...`: deploy version 2 in a fork, killed before its nth write; then again.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NoReturn

from pipeline.adapters.registry import Registry
from pipeline.config import load_model
from pipeline.context import RunContext
from pipeline.errors import EvergreenError
from pipeline.ledger import Ledger
from pipeline.records import RegisterRecord
from pipeline.rollout import RolloutStore
from pipeline.settings import Settings, load_settings


def race(versions: Sequence[int]) -> None:
    """Many promotions, each in a fork of this process, which has loaded everything; prints what became of each."""
    import mlflow
    import mlflow.store.model_registry.sqlalchemy_store  # noqa: F401

    start = multiprocessing.get_context("fork").Barrier(len(versions))
    racers: dict[int, int] = {}
    for version in versions:
        pid = os.fork()
        if pid == 0:
            promote(version, start)
        racers[version] = pid
    for version, pid in racers.items():
        assert os.waitpid(pid, 0)[1] == 0, version


def promote(version: int, start: Barrier) -> NoReturn:
    """One of them."""
    try:
        registry = Registry("churn", load_settings())
        start.wait(240)
        try:
            registry.promote(version, by=f"racer {version}", reason="race")
            told = "won"
        except EvergreenError as error:
            told = str(error)
        print(json.dumps([version, told]), flush=True)
        os._exit(0)
    except BaseException:
        logging.exception("racer %d failed", version)
        os._exit(1)


def deploy_killed(settings: Settings, register: RegisterRecord, context: RunContext, before: int | None) -> bool:
    """Deploy in a fork, killed before its nth write to a database or a note. Whether it was killed."""
    pid = os.fork()
    if pid == 0:
        import sqlalchemy as sa

        from pipeline.stages.deploy import deploy

        count = 0

        def write(*_: Any) -> None:
            nonlocal count
            count += 1
            if count == before:
                os.kill(os.getpid(), signal.SIGKILL)

        sa.event.listen(sa.Engine, "commit", write)
        plain = Path.write_text
        Path.write_text = lambda *given, **named: (write(), plain(*given, **named))[1]  # type: ignore[method-assign]
        try:
            deploy(register, load_model("churn", settings.models_dir), context, settings)
            os._exit(0)
        except BaseException:
            logging.exception("the deployment failed")
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


def kills(home: Path, models: str) -> None:
    """Every place to be killed at, one after the other; prints what there was after the next run."""
    import mlflow

    settings = load_settings({"EVERGREEN_HOME": str(home), "EVERGREEN_MODELS": models})
    register = Registry("churn", settings).get(2).record
    context = RunContext("churn", datetime(2025, 10, 1, tzinfo=UTC), "kill")
    mlflow.MlflowClient(settings.mlflow_uri).get_registered_model("churn")
    place = 1
    while True:
        copy = home.with_name(f"kill{place}")
        shutil.copytree(home, copy)
        there = load_settings({"EVERGREEN_HOME": str(copy), "EVERGREEN_MODELS": models})
        killed = deploy_killed(there, register, context, place)
        between = state(there)
        deploy_killed(there, register, context, None)
        print(json.dumps({"place": place, "killed": killed, "between": between, "after": state(there)}), flush=True)
        shutil.rmtree(copy)
        if not killed:
            return
        place += 1


def state(settings: Settings) -> dict[str, Any]:
    """Who is champion, by everyone who may be asked."""
    import mlflow

    mlflow.set_tracking_uri(settings.mlflow_uri)
    with RolloutStore(settings.database_url) as store, Ledger(settings.database_url) as ledger:
        rollout = store.get("churn")
        assert rollout.active is not None
        alias = mlflow.MlflowClient(settings.mlflow_uri).get_model_version_by_alias("churn", "champion")
        return {
            "rollout": rollout.active.variants[0].version,
            "ledger": Registry("churn", settings).history()[-1].version,
            "alias": int(alias.version),
            "promoted": [line.version for line in ledger.lines("churn", "promoted")],
            "faults": len(list(ledger.faults())),
            "staged": rollout.staged is not None,
        }


if __name__ == "__main__":
    if sys.argv[1] == "race":
        race([int(version) for version in sys.argv[2].split(",")])
    else:
        kills(Path(sys.argv[2]), sys.argv[3])
