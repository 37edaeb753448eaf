"""A real Airflow, shared by the tests of this folder: starting it takes longer than most of them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pytest
from playwright.sync_api import Page, sync_playwright

from local.processes import known
from local.rest import Airflow
from local.world import down, processes_folder, up
from pipeline.config import model_names
from pipeline.settings import load_settings
from tests.conftest import MODEL, customers

CHROMIUM = "/usr/bin/chromium"
SCHEDULE = '\nschedules: {training: "0 0 * * *"}\n'
MONTHLY = '\nschedules: {training: "0 0 1 * *"}\n'
LENIENT = "gate: {require: non_inferiority, margin: 0.5, search_slices: false}\n"
FILES = {
    "churn": SCHEDULE,
    "backfilled": SCHEDULE,
    "monthly": MONTHLY + LENIENT,
    "asked": LENIENT + "deployment: {approval: {timeout_hours: 1}}\n",
    "hurried": LENIENT + "deployment: {approval: {timeout_hours: 0.001}}\n",
    "tried": LENIENT + "deployment: {rollout: {strategy: canary}}\n",
    "asked_daily": SCHEDULE + LENIENT + "deployment: {approval: {timeout_hours: 1}}\n",
}
"""Models of this installation, by what their files say beyond the common part."""
KINDS = ("training", "drift_detection", "retraining")
"""Of each of these there is one DAG a model."""


class World:
    """An installation whose Airflow runs, of the model files that `folder` holds."""

    def __init__(self, folder: Path, *, scheduled: bool) -> None:
        self.folder = folder
        self.variables = {"EVERGREEN_HOME": str(folder / "home"), "EVERGREEN_MODELS": str(folder / "models")}
        self.settings = load_settings({**self.variables})
        self.addresses = up(self.settings, print, owner=os.getpid(), scheduled=scheduled)
        self.airflow = Airflow(self.addresses.airflow)
        names = [name for name in model_names(self.settings.models_dir) if name != "broken"]
        wanted = {f"{kind}_{name}" for kind in KINDS for name in names}
        end = time.monotonic() + 240
        while not wanted <= {dag["dag_id"] for dag in self.airflow.call("GET", "dags")["dags"]}:
            assert time.monotonic() < end, "the DAGs did not appear"
            time.sleep(0.5)

    def finish(self, dag_id: str, run_ids: list[str], seconds: float = 400) -> list[dict]:
        end = time.monotonic() + seconds
        while True:
            runs = [self.airflow.run(dag_id, run_id) for run_id in run_ids]
            if all(run["state"] in ("success", "failed") for run in runs):
                return runs
            assert time.monotonic() < end, [run["state"] for run in runs]
            time.sleep(0.5)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Many models; cron schedules rest."""
    folder = tmp_path_factory.mktemp("airflow")
    frame = customers()
    frame.to_parquet(folder / "table.parquet")
    moved(frame, pd.Timedelta(days=-150)).to_parquet(folder / "early.parquet")
    (folder / "models").mkdir()
    for name, more in FILES.items():
        text = MODEL.format(path=folder / ("early.parquet" if name == "monthly" else "table.parquet"))
        (folder / "models" / f"{name}.yaml").write_text(text + more)
    (folder / "models" / "broken.yaml").write_text("task: binray\n")
    with running(folder, scheduled=False) as made:
        yield made


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of a real browser."""
    if not Path(CHROMIUM).exists() and not shutil.which("chromium"):
        pytest.skip("the Debian package chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        yield browser.new_page(viewport={"width": 1400, "height": 1100})
        browser.close()


def shoot(page: Page, name: str) -> None:
    """A picture of the page, where somebody wants pictures."""
    folder = os.environ.get("EVERGREEN_SCREENSHOTS")
    if folder:
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def moved(frame: pd.DataFrame, by: pd.Timedelta) -> pd.DataFrame:
    """The same rows at another time."""
    return frame.assign(event_time=frame["event_time"] + by, arrived_at=frame["arrived_at"] + by)


@contextmanager
def running(folder: Path, *, scheduled: bool) -> Iterator[World]:
    """A world for as long as it is needed; nothing of it is left behind."""
    made = World(folder, scheduled=scheduled)
    sessions = {process.pid for process in known(processes_folder(made.settings))}
    try:
        yield made
    finally:
        down(made.settings)
    left = [p.pid for p in psutil.process_iter() if _session(p.pid) in sessions and p.status() != "zombie"]
    assert left == []


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1
