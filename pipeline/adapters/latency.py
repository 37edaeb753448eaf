"""Latency of a package in the real server: a process of its own, on a free port, asked over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import PackageInvalid
from pipeline.ledger import Event
from pipeline.package_files import read_golden
from pipeline.rollout import Plan, RolloutStore, Variant
from pipeline.settings import Settings

WARM_UP, REQUESTS = 50, 300
START_SECONDS = 60.0
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Latency:
    """Time of single requests, in milliseconds, as the caller sees it."""

    p50_ms: float
    p99_ms: float


def measure_latency(package: str, digest: str, model: str, settings: Settings) -> Latency:
    """Serve the package to nobody else, and ask it its golden rows one by one.

    Raises PackageInvalid where the server does not come up with it.
    """
    rows, _ = read_golden(settings.home / package)
    with tempfile.TemporaryDirectory(prefix="evergreen-latency-") as folder:
        home = Path(folder)
        shutil.copytree(settings.home / package, home / package)
        url = f"sqlite:///{home / 'evergreen.db'}"
        with RolloutStore(url) as store:
            variant = Variant("champion", 1, package, digest, "", datetime.now(UTC).isoformat(), None)
            staged = store.stage(model, Plan("direct", (variant,)), 0)
            store.activate(model, staged.generation, Event(model, "promoted", 1, {}), datetime.now(UTC))
        port = _free_port()
        environ = {**os.environ, "EVERGREEN_HOME": folder, "EVERGREEN_DATABASE_URL": url}
        with (home / "log").open("wb") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "serving", "--port", str(port), "--model", model], cwd=REPOSITORY, env=environ,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            _wait_until_ready(server, port, home / "log")
            return _ask(port, model, rows)
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_until_ready(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        problem = "it does not answer"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/ready")
            answer = connection.getresponse()
            if answer.status == 200:
                return
            problem = answer.read().decode()[:500]
        except OSError:
            pass
        finally:
            connection.close()
        if server.poll() is not None or time.monotonic() > end:
            told = log.read_text(encoding="utf-8", errors="replace")[-1000:]
            raise PackageInvalid(f"the server does not come up with this package: {problem}\n{told}")
        time.sleep(0.05)


def _ask(port: int, model: str, rows: list[dict[str, Any]]) -> Latency:
    bodies = [json.dumps({"features": row}).encode() for row in rows]
    headers = {"Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    taken = []
    try:
        for number in range(WARM_UP + REQUESTS):
            started = time.perf_counter()
            connection.request("POST", f"/models/{model}/predict", bodies[number % len(bodies)], headers)
            answer = connection.getresponse()
            content = answer.read()
            taken.append(1000 * (time.perf_counter() - started))
            if answer.status != 200:
                raise PackageInvalid(f"the server refuses a golden row: {content.decode()[:500]}")
    finally:
        connection.close()
    p50, p99 = np.quantile(taken[WARM_UP:], [0.5, 0.99])
    return Latency(float(p50), float(p99))
