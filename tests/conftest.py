"""What tests share: an installation in a temporary folder, and small tables that nobody has to download."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from xdist.scheduler import LoadScopeScheduling

from pipeline.config import ModelConfig, parse_model
from pipeline.context import RunContext
from pipeline.errors import OutsideFailure
from pipeline.rollout import RolloutStore
from pipeline.settings import Settings, load_settings
from pipeline.stages import STAGES, run_stage

LIVE = ("tests/local/", "tests/deploy/")
"""Tests here share an Airflow, or a Prometheus with all that belongs to it: one process starts it, and early."""


class FileByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Two test processes share the files, and those of LIVE stay together."""

    def _split_scope(self, nodeid: str) -> str:
        return "live" if nodeid.startswith(LIVE) else nodeid.split("::", 1)[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileByFile:
    """Asked by pytest-xdist, where there is more than one process."""
    config.option.loadscopereorder = False
    return FileByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first."""
    items.sort(key=lambda item: not item.nodeid.startswith(LIVE))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An installation of its own."""
    return load_settings({"EVERGREEN_HOME": str(tmp_path / "home"), "EVERGREEN_MODELS": str(tmp_path / "models")})


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets, where this machine has one."""
    folder = os.environ.get("EVERGREEN_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("EVERGREEN_REAL_DATA names no folder of real data sets")
    return Path(folder).absolute()


def at(model: ModelConfig | str, cutoff: str = "2026-01-01", kind: str = "manual") -> RunContext:
    """A run of this model at this cut-off."""
    name = model if isinstance(model, str) else model.name
    return RunContext(name, datetime.fromisoformat(cutoff).replace(tzinfo=UTC), "test", kind)  # type: ignore[arg-type]


def customers(rows: int = 1200, seed: int = 3, days: int = 300) -> pd.DataFrame:
    """Events of customers over `days` days from 2025-01-01, one a row, whose label can be learned."""
    rng = np.random.default_rng(seed)
    tenure = rng.integers(0, 72, rows)
    plan = rng.choice(["basic", "family", "plus"], rows)
    charge = rng.normal(60, 20, rows).round(2)
    logit = 1.5 - tenure / 18 + (plan == "basic") + (charge - 60) / 25
    event = pd.Timestamp("2025-01-01", tz="UTC") + pd.to_timedelta(np.sort(rng.integers(0, days * 86_400, rows)), "s")
    return pd.DataFrame(
        {
            "customer": [f"C{i:05d}" for i in range(rows)],
            "event_time": event,
            "arrived_at": event + pd.to_timedelta(rng.integers(0, 48, rows), "h"),
            "tenure": tenure,
            "charge": charge,
            "plan": plan,
            "churned": (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(int),
        }
    )


def turn(
    model: ModelConfig, settings: Settings, cutoff: str = "2026-01-01", kind: str = "manual", until: str = "deploy"
) -> Any:
    """The stages up to one of them; returns the last record."""
    record = None
    for stage in STAGES[: STAGES.index(until) + 1]:
        record = run_stage(stage, model, at(model, cutoff, kind), settings, record)
    return record


LENIENT = {"gate.require": "non_inferiority", "gate.margin": 0.5, "gate.search_slices": False}
"""A gate that any newer model passes, for tests of what comes after it."""

MODEL = """
task: binary
source: {{path: {path}}}
entity: customer
time: {{event: event_time, arrival: arrived_at}}
target: {{column: churned, positive: 1, known_after_days: 30}}
split: {{test_share: 0.3, min_rows: 50}}
training:
  estimator: sklearn.linear_model.LogisticRegression
"""


@pytest.fixture
def write_model(tmp_path: Path) -> Callable[..., ModelConfig]:
    """Write a table and a model file over it; `extra` is appended to the file."""

    def write(
        frame: pd.DataFrame, text: str = MODEL, extra: str = "", name: str = "churn", suffix: str = "parquet"
    ) -> ModelConfig:
        path = tmp_path / f"table.{suffix}"
        frame.to_parquet(path) if suffix == "parquet" else frame.to_csv(path, index=False)
        whole = text.format(path=path) + extra
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / "models" / f"{name}.yaml").write_text(whole)
        return parse_model(whole, name, f"{name}.yaml")

    return write


def _binaries() -> Path | None:
    found = shutil.which("initdb")
    candidates = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return candidates[-1] if candidates else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a PostgreSQL of these tests alone."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("the Debian package postgresql is not installed")
    # Not below pytest's own folder: another pytest that starts closes that to everybody else, PostgreSQL's user too.
    folder = Path(tempfile.mkdtemp(prefix="evergreen-postgres-"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
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
    shutil.rmtree(folder, ignore_errors=True)
