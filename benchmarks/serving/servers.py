"""Starting a server, waiting until it answers, checking what it answers, ending it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.serving.peers import Peer
from benchmarks.serving.worlds import World
from local.processes import free_port

CHECKED = 200
START_SECONDS = 60.0


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    address: str
    process: psutil.Process
    started_seconds: float
    """From its start to the first right answer."""

    def memory_bytes(self) -> tuple[int, int]:
        """Proportional memory of the largest process that answers, and of the one that keeps our log (0: none)."""
        answering, keeping = 0, 0
        for one in (self.process, *self.process.children(recursive=True)):
            taken = one.memory_full_info().pss
            if "serving.log_keeper" in one.cmdline():
                keeping = taken
            else:
                answering = max(answering, taken)
        return answering, keeping


def ours(world: World, port: int, workers: int, **environ: str) -> Peer:
    """Evergreen, with validation, routing, log and metrics on."""
    command = [sys.executable, "-m", "serving", "--port", str(port), "--workers", str(workers)]
    mode = f", {environ['EVERGREEN_LOG_MODE']}" if environ else ""
    return Peer(
        f"Evergreen, {workers} worker{'s' if workers > 1 else ''}{mode}", command, f"/models/{world.name}/predict",
        Path.cwd(), {"EVERGREEN_HOME": str(world.home), **environ},
    )  # fmt: skip


def bodies_of(peer: Peer, world: World) -> list[str]:
    """The rows as this server wants them."""
    if peer.body == "tensor":
        width = len(world.rows[0])
        return [
            json.dumps({"inputs": [{"name": "predict", "shape": [1, width], "datatype": "FP64", "data": row}],
                        "outputs": [{"name": "predict_proba"}]})
            for row in world.rows
        ]  # fmt: skip
    if peer.body == "array":
        return [json.dumps({"input_data": [row]}) for row in world.rows]
    return world.bodies


@contextmanager
def running(peer: Peer, world: World) -> Iterator[Running]:
    """The server for as long as it is needed."""
    port = int(next(part for part in _port_of(peer)))
    address = f"http://127.0.0.1:{port}"
    begun = time.perf_counter()
    process = subprocess.Popen(
        peer.command, cwd=peer.folder, env={**os.environ, **peer.environ}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    body = bodies_of(peer, world)[0]
    try:
        while True:
            try:
                if httpx.post(address + peer.path, content=body, headers=_JSON).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if process.poll() is not None or time.perf_counter() - begun > START_SECONDS:
                raise RuntimeError(f"{peer.name} does not answer")
            time.sleep(0.01)
        yield Running(address, psutil.Process(process.pid), time.perf_counter() - begun)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


_JSON = {"content-type": "application/json"}


def _port_of(peer: Peer) -> Iterator[str]:
    if "--port" in peer.command:
        yield peer.command[peer.command.index("--port") + 1]
    yield str(json.loads((peer.folder / "settings.json").read_text())["http_port"])


def largest_difference(address: str, peer: Peer, world: World) -> float:
    """From scikit-learn's probability, over CHECKED rows asked one by one."""
    worst = 0.0
    with httpx.Client(base_url=address, timeout=20) as client:
        for body, expected in zip(bodies_of(peer, world)[:CHECKED], world.expected, strict=False):
            answer = client.post(peer.path, content=body, headers=_JSON)
            answer.raise_for_status()
            worst = max(worst, abs(_probability(answer.json()) - expected))
    return worst


def _probability(answer: Any) -> float:
    """Of the second class, out of any of the forms."""
    if isinstance(answer, list):
        return float(answer[0][1])
    if "outputs" in answer:
        return float(np.reshape(answer["outputs"][0]["data"], (-1, 2))[0, 1])
    confidence = float(answer["confidence"])
    return confidence if answer["prediction"] == 1 else 1 - confidence


def ports() -> int:
    """A free port, with two free ones behind it as far as anybody can tell."""
    return free_port(0)
