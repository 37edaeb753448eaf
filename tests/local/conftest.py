"""A real Airflow, shared by the tests of this folder: starting it takes longer than most of them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from local.processes import known
from local.rest import Airflow
from local.world import down, processes_folder, up
from pipeline.settings import load_settings
from tests.conftest import MODEL, customers

SCHEDULE = '\nschedules: {training: "0 0 * * *"}\n'
MONTHLY = '\nschedules: {training: "0 0 1 * *"}\n'
LENIENT = "gate: {require: non_inferiority, margin: 0.5, search_slices: false}\n"
FILES = {
    "churn": SCHEDULE,
    "backfilled": SCHEDULE,
    "monthly": MONTHLY + LENIENT,
    "asked": LENIENT + "deployment: {approval: {timeout_hours: 1}}\n",
    "hurried": LENIENT + "deployment: {approval: {timeout_hours: 0.001}}\n",
    "asked_daily": SCHEDULE + LENIENT + "deployment: {approval: {timeout_hours: 1}}\n",
}
"""Models of this installation, by what their files say beyond the common part."""


class World:
    """An installation whose Airflow runs."""

    def __init__(self, folder: Path) -> None:
        frame = customers()
        frame.to_parquet(folder / "table.parquet")
        earlier = pd.Timedelta(days=150)
        early = frame.assign(event_time=frame["event_time"] - earlier, arrived_at=frame["arrived_at"] - earlier)
        early.to_parquet(folder / "early.parquet")
        (folder / "models").mkdir()
        for name, more in FILES.items():
            text = MODEL.format(path=folder / ("early.parquet" if name == "monthly" else "table.parquet"))
            (folder / "models" / f"{name}.yaml").write_text(text + more)
        (folder / "models" / "broken.yaml").write_text("task: binray\n")
        self.folder = folder
        self.variables = {"EVERGREEN_HOME": str(folder / "home"), "EVERGREEN_MODELS": str(folder / "models")}
        self.settings = load_settings({**self.variables})
        self.addresses = up(self.settings, print, owner=os.getpid(), scheduled=False)
        self.airflow = Airflow(self.addresses.airflow)
        end = time.monotonic() + 90
        while not all(self.airflow.dag(f"training_{name}") for name in FILES):
            assert time.monotonic() < end, "the DAGs did not appear"
            time.sleep(0.5)

    def finish(self, dag_id: str, run_ids: list[str], seconds: float = 120) -> list[dict]:
        end = time.monotonic() + seconds
        while True:
            runs = [self.airflow.run(dag_id, run_id) for run_id in run_ids]
            if all(run["state"] in ("success", "failed") for run in runs):
                return runs
            assert time.monotonic() < end, [run["state"] for run in runs]
            time.sleep(0.5)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("airflow"))
    sessions = {process.pid for process in known(processes_folder(made.settings))}
    yield made
    down(made.settings)
    left = [p.pid for p in psutil.process_iter() if _session(p.pid) in sessions and p.status() != "zombie"]
    assert left == []


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1
