"""The local world: which processes belong to it, starting what is missing, ending what was started."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from local import airflow
from local.airflow import REPOSITORY
from local.processes import Process, free_port, known, log_tail, owner_alive, start, stop
from local.rest import Airflow
from pipeline.errors import OutsideFailure
from pipeline.settings import Settings

AIRFLOW, MLFLOW, SERVING = "airflow-api", "mlflow", "serving"
PREFERRED = {AIRFLOW: 8080, MLFLOW: 5000, SERVING: 8000}
START_SECONDS = 180.0
"""Airflow needs 30 s on a quiet machine; this bounds a busy one."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Addresses:
    """Where the web pages are."""

    airflow: str
    mlflow: str
    serving: str


def processes_folder(settings: Settings) -> Path:
    """Where running processes are remembered."""
    return settings.home / "processes"


def running(settings: Settings) -> dict[str, Process]:
    """Processes of this world that are alive; what is left of dead ones is cleared away."""
    folder = processes_folder(settings)
    found = known(folder)
    orphans = [p for p in found if not p.alive or (p.owner is not None and not owner_alive(p))]
    stop(orphans, folder)
    return {p.name: p for p in found if p not in orphans}


def up(settings: Settings, say: Say, *, owner: int | None, scheduled: bool) -> Addresses:
    """Start what is not running yet, and wait until all of it answers.

    `owner`: the process that will stop it; None: it stays until `down`. Raises OutsideFailure with the end of
    the log of a process that does not come up.
    """
    alive = running(settings)
    ports: dict[str, int] = {}
    for name, preferred in PREFERRED.items():
        port = alive[name].port if name in alive else None
        ports[name] = port or free_port(preferred, ports.values())
    environ = airflow.environment(settings, airflow_port=ports[AIRFLOW], mlflow_port=ports[MLFLOW], scheduled=scheduled)
    logs = settings.home / "logs"
    commands = airflow.commands(ports[AIRFLOW])
    if not set(commands) <= set(alive):
        say("preparing Airflow's database")
        airflow.migrate(settings, environ, logs / "airflow-migrate.log")
    commands[SERVING] = [sys.executable, "-m", "serving", "--port", str(ports[SERVING])]
    if owner is None or MLFLOW in alive:
        commands[MLFLOW] = _mlflow(settings, ports[MLFLOW])
    for name, command in commands.items():
        if name not in alive:
            say(f"starting {name}")
            alive[name] = start(
                name, command, folder=processes_folder(settings), environ=environ, cwd=REPOSITORY,
                log=logs / f"{name}.log", port=ports.get(name), owner=owner,
            )  # fmt: skip
    addresses = Addresses(*(f"http://127.0.0.1:{ports[name]}" for name in (AIRFLOW, MLFLOW, SERVING)))
    _wait(alive, addresses, say, mlflow=MLFLOW in commands)
    return addresses


def down(settings: Settings) -> list[str]:
    """End everything; names of what was ended."""
    folder = processes_folder(settings)
    found = known(folder)
    stop(found, folder)
    return [process.name for process in found]


@contextmanager
def borrowed(settings: Settings, say: Say) -> Iterator[Addresses]:
    """The world for the length of a command: what it had to start, it stops; what was up, stays."""
    before = set(running(settings))
    try:
        yield up(settings, say, owner=os.getpid(), scheduled=False)
    finally:
        mine = [p for p in known(processes_folder(settings)) if p.name not in before]
        if mine:
            say("stopping what was started")
            stop(mine, processes_folder(settings))


def _mlflow(settings: Settings, port: int) -> list[str]:
    from pipeline.adapters.tracking import guarded

    with guarded(settings):  # its database is there, whole, before a server and a stage want it at once
        pass
    return [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", settings.mlflow_uri, "--default-artifact-root", settings.mlflow_artifacts.as_uri(),
    ]  # fmt: skip


def _wait(alive: dict[str, Process], addresses: Addresses, say: Say, *, mlflow: bool) -> None:
    rest = Airflow(addresses.airflow)
    questions: dict[str, Callable[[], bool]] = {
        SERVING: lambda: _ok(f"{addresses.serving}/health"),
        AIRFLOW: rest.answers,
        "airflow-scheduler": rest.scheduler_beats,
    }
    if mlflow:
        questions[MLFLOW] = lambda: _ok(f"{addresses.mlflow}/health")
    end = time.monotonic() + START_SECONDS
    for name, question in questions.items():
        while not question():
            for process in alive.values():
                if not process.alive:
                    raise OutsideFailure(
                        f"{process.name} ended while starting; {process.log} ends with:\n{log_tail(process)}"
                    )
            if time.monotonic() > end:
                raise OutsideFailure(f"{name} did not answer within {START_SECONDS:g} s; see {alive[name].log}")
            time.sleep(0.2)
        say(f"{name} is up")


def _ok(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.RequestException:
        return False
