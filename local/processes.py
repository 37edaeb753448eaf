"""Processes that outlive the command that started them, and are found and ended again.

Each is the leader of a session of its own: whatever it starts is in that session, also what moves to another
process group (as Airflow's tasks do), so ending the session leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from pipeline.errors import OutsideFailure

TERM_GRACE_SECONDS = 8.0
"""From TERM to KILL. A scheduler waits for its running tasks, however long these take."""


@dataclass(frozen=True)
class Process:
    """A started process, as its file remembers it."""

    name: str
    pid: int
    """Also the number of its session."""
    created: float
    """Start time as the system tells it: with the pid, no other process is taken for this one."""
    port: int | None
    log: str
    owner: int | None
    """The command that ends with it; None: it stays until `down`."""

    @property
    def alive(self) -> bool:
        """Whether the process itself still runs."""
        return _is_it(self.pid, self.created)


def start(
    name: str,
    command: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    cwd: Path,
    log: Path,
    port: int | None = None,
    owner: int | None = None,
) -> Process:
    """Start a process in its own session, its output in `log`, and write its file to `folder`.

    Raises OutsideFailure where the program cannot be started.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("ab") as output:
            child = subprocess.Popen(
                list(command), cwd=cwd, env=dict(environ), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
    except OSError as error:
        raise OutsideFailure(f"{name} cannot be started: {error}") from error
    child.returncode = 0  # said for Popen's own book-keeping: nobody waits for it, it outlives this command
    process = Process(name, child.pid, _created(child.pid), port, str(log), owner)
    temporary = folder / f"{name}.tmp"
    temporary.write_text(json.dumps(asdict(process)) + "\n", encoding="utf-8")
    temporary.replace(folder / f"{name}.json")
    return process


def known(folder: Path) -> list[Process]:
    """Every process that has a file, alive or not, and of which something may be left."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(Process(**json.loads(path.read_text(encoding="utf-8"))))
        except (ValueError, TypeError) as error:
            raise OutsideFailure(f"{path} is damaged ({error}); end that process by hand and delete the file") from None
    return found


def stop(processes: Iterable[Process], folder: Path, grace_seconds: float = TERM_GRACE_SECONDS) -> None:
    """End the processes and everything in their sessions: TERM, wait, KILL. Their files go last.

    Raises OutsideFailure where something cannot be ended.
    """
    processes = list(processes)
    told: set[int] = set()
    end = time.monotonic() + grace_seconds
    while (left := _left(processes)) and time.monotonic() < end:
        leaders = {process.pid for process in processes if process.alive}
        for pid in set(left) - told:
            if pid in leaders or _session(pid) not in leaders:
                _signal(pid, signal.SIGTERM)  # a leader ends its own; what it leaves behind is told then
                told.add(pid)
        time.sleep(0.05)
    end = time.monotonic() + grace_seconds
    while (left := _left(processes)) and time.monotonic() < end:
        for pid in left:
            _signal(pid, signal.SIGKILL)
        time.sleep(0.02)
    if left:
        raise OutsideFailure(f"processes {', '.join(map(str, left))} cannot be ended; do it by hand")
    for process in processes:
        (folder / f"{process.name}.json").unlink(missing_ok=True)


def owner_alive(process: Process) -> bool:
    """Whether the command that started it, and would end it, is still there."""
    if process.owner is None or not psutil.pid_exists(process.owner):
        return False
    return _created(process.owner) <= process.created


def log_tail(process: Process, lines: int = 25) -> str:
    """The end of what the process said."""
    path = Path(process.log)
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 20_000))
        text = file.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def free_port(preferred: int, taken: Iterable[int] = ()) -> int:
    """The preferred port of this machine's own address, else any free one."""
    for port in (preferred, 0):
        if port in taken:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OutsideFailure("no free port on 127.0.0.1")


def _left(processes: Sequence[Process]) -> list[int]:
    """Pids of everything alive in the processes' sessions."""
    booted = psutil.boot_time()
    sessions = {
        p.pid for p in processes
        if p.created >= booted - 1 and (p.alive or not _running(p.pid))
    }  # fmt: skip
    return [pid for pid in psutil.pids() if _session(pid) in sessions and _running(pid)] if sessions else []


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _running(pid: int) -> bool:
    _reap(pid)
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _reap(pid: int) -> None:
    """Collect a child of ours that has ended, so that it does not stay as a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _is_it(pid: int, created: float) -> bool:
    return _running(pid) and abs(_created(pid) - created) < 1


def _created(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
