from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from local.processes import free_port, known, log_tail, start, stop
from pipeline.errors import OutsideFailure

FAMILY = """
import os, subprocess, sys, time, signal
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import os, time; os.setpgid(0, 0); time.sleep(600)"])
print("the family is up", flush=True)
time.sleep(600)
"""


def launch(tmp_path, kind="polite", name="family"):
    process = start(
        name, [sys.executable, "-c", FAMILY, kind], folder=tmp_path / "processes", environ=os.environ, cwd=tmp_path,
        log=tmp_path / "log", owner=os.getpid(),
    )  # fmt: skip
    end = time.monotonic() + 10
    while "up" not in log_tail(process):
        assert time.monotonic() < end
        time.sleep(0.02)
    return process


def session(pid: int) -> list[int]:
    found = []
    for other in psutil.process_iter():
        try:
            if os.getsid(other.pid) == pid and other.status() != psutil.STATUS_ZOMBIE:
                found.append(other.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


@pytest.mark.parametrize("kind", ["polite", "stubborn"])
def test_stopping_ends_a_process_and_all_it_started_even_in_another_group(kind, tmp_path):
    process = launch(tmp_path, kind)
    assert len(session(process.pid)) == 2
    stop([process], tmp_path / "processes", grace_seconds=1)
    assert session(process.pid) == []
    assert known(tmp_path / "processes") == []


def test_a_process_is_found_again_by_another_command(tmp_path):
    process = launch(tmp_path)
    try:
        folder = str(tmp_path / "processes")
        code = f"""
from pathlib import Path
from local.processes import known
print([process.alive for process in known(Path({folder!r}))])
"""
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "[True]"
    finally:
        stop([process], tmp_path / "processes", grace_seconds=1)


def test_what_a_killed_process_left_behind_is_ended(tmp_path):
    process = launch(tmp_path)
    psutil.Process(process.pid).kill()
    end = time.monotonic() + 5
    while process.alive:
        assert time.monotonic() < end
    assert len(session(process.pid)) == 1
    stop(known(tmp_path / "processes"), tmp_path / "processes", grace_seconds=1)
    assert session(process.pid) == []


def test_a_file_that_is_no_process_is_named(tmp_path):
    (tmp_path / "odd.json").write_text("{")
    with pytest.raises(OutsideFailure, match=r"odd\.json is damaged"):
        known(tmp_path)


def test_a_taken_port_is_replaced_by_a_free_one():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
