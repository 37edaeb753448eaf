"""The local world: which processes belong to it, starting what is missing, ending what was started."""

from __future__ import annotations

import os
import signal
import sys
import threading
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
from pipeline.errors import BadConfiguration, OutsideFailure
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

    `owner`: the process that will stop it; None: it stays until `down`. Interrupted, it stops what it started.
    Raises OutsideFailure with the end of the log of a process that does not come up, and BadConfiguration while
    another command is at work here.
    """
    alive = running(settings)
    others = {p.owner for p in alive.values()} - {None, owner}
    if others:
        raise BadConfiguration(
            f"another `python -m local run` is at work (pid {others.pop()}); wait until it has ended"
        )
    before = set(alive)
    try:
        return _complete(alive, settings, say, owner=owner, scheduled=scheduled)
    except BaseException:
        _stop_all_but(before, settings, say)
        raise


def _complete(
    alive: dict[str, Process], settings: Settings, say: Say, *, owner: int | None, scheduled: bool
) -> Addresses:
    ports: dict[str, int] = {}
    for name, preferred in PREFERRED.items():
        port = alive[name].port if name in alive else None
        ports[name] = port or free_port(preferred, ports.values())
    environ = airflow.environment(settings, airflow_port=ports[AIRFLOW], mlflow_port=ports[MLFLOW], scheduled=scheduled)
    logs = settings.home / "logs"
    commands = airflow.commands(ports[AIRFLOW])
    if not airflow.is_migrated(settings):
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
    _wait(settings, alive, addresses, say, mlflow=MLFLOW in commands)
    return addresses


def ensure_alive(settings: Settings) -> None:
    """Raise OutsideFailure with the end of its log where a process of this world has died."""
    for process in known(processes_folder(settings)):
        if not process.alive:
            raise OutsideFailure(f"{process.name} has died; {process.log} ends with:\n{log_tail(process)}")


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
        _stop_all_but(before, settings, say)


def _stop_all_but(names: set[str], settings: Settings, say: Say) -> None:
    """Stop what was started, deaf to a second Ctrl-C: half a stop would leave processes behind."""
    folder = processes_folder(settings)
    mine = [process for process in known(folder) if process.name not in names]
    if not mine:
        return
    say("stopping what was started")
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if _main_thread() else ()
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        stop(mine, folder)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _mlflow(settings: Settings, port: int) -> list[str]:
    from pipeline.adapters.tracking import guarded

    with guarded(settings):  # its database is there, whole, before a server and a stage want it at once
        pass
    return [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", settings.mlflow_uri, "--default-artifact-root", settings.mlflow_artifacts.as_uri(),
    ]  # fmt: skip


def _wait(settings: Settings, alive: dict[str, Process], addresses: Addresses, say: Say, *, mlflow: bool) -> None:
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
            ensure_alive(settings)
            if time.monotonic() > end:
                raise OutsideFailure(f"{name} did not answer within {START_SECONDS:g} s; see {alive[name].log}")
            time.sleep(0.2)
        say(f"{name} is up")


def _ok(url: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False  # no proxy stands between us and this machine
        try:
            return session.get(url, timeout=5).status_code == 200
        except requests.RequestException:
            return False
