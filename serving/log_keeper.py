"""`python -m serving.log_keeper`: makes Parquet of closed journals, merges, deletes what is too old.

A process of its own, so that no request waits for it; it can fail and be killed without harm. Of several on one
machine, one works at a time. Where the store does not answer it says so, keeps the journals, and tries again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime

import psutil

from pipeline.errors import EvergreenError
from pipeline.log_segments import local_bytes, segments, store_lock
from pipeline.log_settings import LogSettings, log_settings

log = logging.getLogger("evergreen.log")
PERIOD_SECONDS = 3.0
MERGE_SECONDS = 300.0
"""Merging looks at every day of every model: rarely."""
NEWEST_DAYS = 8
"""Older days are merged by `python -m pipeline predictions compact`: they do not change by themselves."""
NICENESS = 10
BUSY_PERCENT = 85.0
PATIENCE, PATIENCE_SECONDS = 0.25, 30.0
"""Requests come first: while the processors are as busy as this, journals wait, up to this share of what may wait, and
this long."""
STATUS = "keeper.json"
STALE_SECONDS = 60.0
STOP_SECONDS = 20.0
"""For its last round: a store that does not answer must not hold up the end."""


@dataclass(frozen=True)
class KeeperStatus:
    """How the keeper is doing."""

    at: float
    """Seconds since 1970."""
    problem: str | None
    """Why journals do not become files."""
    waiting_segments: int
    waiting_bytes: int
    rows: int
    """Brought into files since it began."""


def start_keeper() -> subprocess.Popen[bytes]:
    """Start one beside this process, with its environment; it ends soon after this process does.

    Stop it after the servers with `terminate()` and `wait()`: it brings what they left into files first.
    """
    return subprocess.Popen([sys.executable, "-m", "serving.log_keeper", "--with-parent"], stdin=subprocess.DEVNULL)


class KeptKeeper:
    """A keeper beside this process; one that dies is replaced."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._process = start_keeper()
        self._thread = threading.Thread(target=self._watch, name="keeper", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(PERIOD_SECONDS):
            if self._process.poll() is not None:
                log.error("the keeper of the prediction log has died; another takes its place")
                self._process = start_keeper()

    def stop(self) -> None:
        """Let it bring what the servers left into files, then end it."""
        self._stop.set()
        self._thread.join()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            log.error("the keeper did not end; the journals wait for the next one")
            self._process.kill()
            self._process.wait()


def keeper_status(settings: LogSettings, now: float) -> KeeperStatus | None:
    """What the keeper said last; None where there is none. One that has been silent for long is a problem."""
    try:
        found = KeeperStatus(**json.loads((settings.folder / STATUS).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    if found.problem is None and now - found.at > STALE_SECONDS:
        return KeeperStatus(**{**asdict(found), "problem": "the keeper of the prediction log does not run"})
    return found


class Keeper:
    """One round after the other."""

    def __init__(self, settings: LogSettings) -> None:
        self._settings = settings
        self._merged_at = self._turned_at = -1e9
        self._rows = 0
        self.problem: str | None = None

    def turn(self, today: date) -> bool:
        """One round; False where another keeper works. Failures of the world are kept in `problem`."""
        self._turned_at = time.monotonic()
        try:
            with store_lock(self._settings.folder, wait=False) as mine:
                if not mine:
                    return False
                self._work(today)
        except (EvergreenError, OSError) as error:
            if str(error) != self.problem:
                log.error("the prediction log's journals wait: %s", error)
            self.problem = str(error)
        else:
            if self.problem is not None:
                log.warning("the prediction log's journals become files again")
            self.problem = None
        self.tell()
        return True

    def waits(self, busy_percent: float) -> bool:
        """Whether the journals had better wait. `busy_percent`: of all processors, since it was last asked."""
        if busy_percent < BUSY_PERCENT or time.monotonic() - self._turned_at > PATIENCE_SECONDS:
            return False
        return local_bytes(self._settings.journal) < PATIENCE * self._settings.max_local_bytes

    def _work(self, today: date) -> None:
        # Servers, which only start a keeper or ask for its state, do without Arrow.
        from pipeline.prediction_erasure import retain_locked
        from pipeline.prediction_files import compact_locked, merge_locked

        self._rows += compact_locked(self._settings).rows
        if time.monotonic() - self._merged_at >= MERGE_SECONDS:
            if self._settings.retain_days is not None:
                for folder in retain_locked(self._settings, self._settings.retain_days, today):
                    log.warning("deleted %s, older than %d days", folder, self._settings.retain_days)
            merge_locked(self._settings, today, NEWEST_DAYS)
            self._merged_at = time.monotonic()

    def tell(self) -> None:
        """Write down how it is doing, for the servers' metrics."""
        journal = self._settings.journal
        status = KeeperStatus(
            time.time(), self.problem, len(segments(journal)), local_bytes(journal), self._rows
        )  # fmt: skip
        path = self._settings.folder / STATUS
        temporary = path.with_suffix(f".{os.getpid()}.part")
        try:
            temporary.write_text(json.dumps(asdict(status)), encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            log.error("the keeper's state cannot be written: %s", error)
            temporary.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Work until told to stop, then once more."""
    parser = argparse.ArgumentParser(prog="python -m serving.log_keeper", description=__doc__)
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this has ended")
    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Ctrl-C reaches the servers too; what they write at their end is for the round after it.
    signal.signal(signal.SIGINT, signal.SIG_IGN if parsed.with_parent else lambda *_: stop.set())
    os.nice(NICENESS)
    keeper, parent = Keeper(log_settings()), os.getppid()
    psutil.cpu_percent()  # the first call begins to measure
    while not stop.is_set():
        # First of all too: the servers beside it are starting, and need the processors.
        end = time.monotonic() + PERIOD_SECONDS
        while not stop.wait(0.5) and time.monotonic() < end:
            if parsed.with_parent and os.getppid() != parent:
                stop.set()
        if keeper.waits(psutil.cpu_percent()):
            keeper.tell()
        elif not stop.is_set():
            keeper.turn(datetime.now(UTC).date())
    keeper.turn(datetime.now(UTC).date())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
