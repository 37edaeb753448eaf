"""Kills the compaction of a prediction log before each of its file operations, and lets it go on.

A process of its own: the libraries are imported once, then each attempt is a fork of it.
`python -m tests.compaction_runner SEED SCRATCH` copies the folder SEED for each attempt and prints a line of JSON for
each: the identifiers that a reader finds after the kill, and those that the files hold after another compaction.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.log_losses import recovered_losses
from pipeline.log_settings import LogSettings
from pipeline.prediction_erasure import erase_user
from pipeline.prediction_files import compact, merge
from tests.predictions import logged

WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def work(settings: LogSettings) -> None:
    """Everything that moves or deletes rows."""
    compact(settings)
    merge(settings, date(2026, 1, 10))
    erase_user("gone", settings)


def in_fork(what: Callable[[], None]) -> int:
    """Do it in a fork; its status."""
    pid = os.fork()
    if pid == 0:
        what()
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def dying(settings: LogSettings, operations: int) -> None:
    """Work until so many file operations have been done."""
    left = operations

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        writes = event in WRITES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_WRONLY)
        if writes and str(settings.folder) in str(arguments[0]):
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    sys.addaudithook(watch)
    work(settings)


def main() -> None:
    """Until an attempt lives to its end."""
    seed, scratch = Path(sys.argv[1]), Path(sys.argv[2])
    operations, status = 0, 1
    while status:
        folder = scratch / str(operations)
        shutil.copytree(seed, folder)
        settings = LogSettings(folder, fast_milliseconds=1)
        status = in_fork(lambda settings=settings, many=operations: dying(settings, many))  # type: ignore[misc]
        told = folder / "told.json"

        def look(settings: LogSettings = settings, told: Path = told) -> None:
            read = sorted(row["prediction_id"] for row in logged(settings))
            work(settings)
            files = sorted(settings.folder.rglob("*.parquet"))
            kept = sorted(one for path in files for one in pq.read_table(path)["prediction_id"].to_pylist())
            rest = [str(path) for path in settings.folder.rglob("*.journal")]
            rest += [str(path) for path in settings.folder.rglob(".*.part")]
            told.write_text(
                json.dumps(
                    {"read": read, "kept": kept, "files": len(files), "rest": rest, "lost": recovered_losses(settings)}
                )
            )

        assert in_fork(look) == 0
        print(
            json.dumps({"operations": operations, "killed": bool(status), **json.loads(told.read_text())}), flush=True
        )
        operations += 1


if __name__ == "__main__":
    main()
