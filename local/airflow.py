"""A private Airflow: its environment, its commands, its database. Nothing of another installation is touched."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from pipeline.errors import OutsideFailure
from pipeline.settings import Settings, silence_telemetry

REPOSITORY = Path(__file__).resolve().parents[1]
PARALLELISM = 4
"""Tasks at once. LocalExecutor starts this many workers beforehand; its default of 32 takes 800 MB more."""
IDLE_SLEEP_SECONDS = 0.1
"""Default 1 s: most of the wait between two short tasks."""
HEARTBEAT_SECONDS = 1
"""Default 5 s, and for as long a task that has ended may keep its worker: its supervisor sleeps that long where the
task's sockets close a moment before its process is gone (Airflow 3.3.2). Measured: one task in five to one in two
met it; with a second, a task leaves its worker after 0.35 s on average, not after 1.2 to 2.6 s."""
HEARTBEATS_MISSED = 30
"""Default 3: with a beat a second, a busy API server must not cost a task its life."""


def environment(
    settings: Settings,
    *,
    airflow_port: int,
    mlflow_port: int,
    scheduled: bool,
    inherited: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Environment of every process of the world.

    `scheduled` False: cron schedules rest, runs come only by hand and by backfill.
    Inherited AIRFLOW variables are dropped, since they belong to another Airflow.
    """
    environ = {name: value for name, value in inherited.items() if not name.startswith(("AIRFLOW_", "_AIRFLOW_"))}
    silence_telemetry(environ)
    address = f"http://127.0.0.1:{airflow_port}"
    environ |= {
        "EVERGREEN_HOME": str(settings.home),
        "EVERGREEN_MODELS": str(settings.models_dir),
        "EVERGREEN_MLFLOW_UI_URL": f"http://127.0.0.1:{mlflow_port}",
        "PYTHONPATH": _joined(REPOSITORY, REPOSITORY / "deploy" / "airflow", inherited.get("PYTHONPATH")),
        "PATH": _joined(Path(sys.executable).parent, inherited.get("PATH")),
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": ",".join(filter(None, ("127.0.0.1,localhost", inherited.get("NO_PROXY")))),
        "AIRFLOW_HOME": str(home(settings)),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(PARALLELISM),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__SECRET_KEY": _secret(settings, "api-secret"),
        "AIRFLOW__API_AUTH__JWT_SECRET": _secret(settings, "jwt-secret"),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": str(IDLE_SLEEP_SECONDS),
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": str(scheduled),
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": str(HEARTBEAT_SECONDS),
        "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": str(HEARTBEATS_MISSED),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "15",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
    }
    return environ


def home(settings: Settings) -> Path:
    """Where this Airflow keeps its database and its logs."""
    return settings.home / "airflow"


def commands(port: int) -> dict[str, list[str]]:
    """The processes of Airflow. All ports are on 127.0.0.1: everybody who reaches them is an admin."""
    airflow = [sys.executable, "-m", "airflow"]
    return {
        "airflow-api": [*airflow, "api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        "airflow-scheduler": [*airflow, "scheduler", "--skip-serve-logs"],
        "airflow-dag-processor": [*airflow, "dag-processor"],
    }


def is_migrated(settings: Settings) -> bool:
    """Whether the database is there and of this version."""
    done = home(settings) / "migrated"
    if not done.is_file() or not (home(settings) / "airflow.db").is_file():
        return False
    return done.read_text(encoding="utf-8") == version("apache-airflow-core")


def migrate(settings: Settings, environ: Mapping[str, str], log: Path) -> None:
    """Make the database, or bring it to this version. Raises OutsideFailure where that fails."""
    home(settings).mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        ended = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"], cwd=REPOSITORY, env=dict(environ),
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    if ended.returncode != 0:
        raise OutsideFailure(
            f"Airflow's database cannot be made; {log} says why. Deleting {home(settings)} starts anew"
        )
    (home(settings) / "migrated").write_text(version("apache-airflow-core"), encoding="utf-8")


def _secret(settings: Settings, name: str) -> str:
    """A random secret of this installation, readable by its user alone."""
    path = home(settings) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="utf-8")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        value = secrets.token_hex(48)
        file.write(value)
    return value


def _joined(*paths: Path | str | None) -> str:
    return os.pathsep.join(str(path) for path in paths if path)
