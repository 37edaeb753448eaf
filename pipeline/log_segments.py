"""The journals of this machine: which there are, whose, and whether their writer lives.

Files of the folder `journal`:
SERVER-NUMBER.journal   records (pipeline.core.log_frames); the writer holds a lock (flock) until it is closed
SERVER.count            four numbers of 8 bytes that the server raises in memory (mmap); locked while the server lives
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.log_frames import BEGIN, Frame, header, read_frames

COUNTS = struct.Struct("=4Q")
"""Of the server: answers accepted to be written later; of these those that it counted as lost because too many
waited; because the disk failed; and answers that were sent although their commit had failed."""
STALE_SECONDS = 60.0
"""A file under its first name this old was left by somebody who was killed."""


@dataclass(frozen=True, order=True)
class Segment:
    """One journal file."""

    server: str
    number: int
    path: Path

    @property
    def name(self) -> str:
        """Unlike any other."""
        return self.path.stem


@dataclass(frozen=True)
class Content:
    """What a segment holds."""

    frames: list[Frame]
    before: int
    """Accepted rows that the server had written into earlier segments."""
    intact_bytes: int
    torn_bytes: int
    """What a writer that was killed, or a disk that was full, left half-written."""


def segment_path(folder: Path, server: str, number: int) -> Path:
    """Where it lies."""
    return folder / f"{server}-{number:06d}.journal"


def segments(folder: Path) -> list[Segment]:
    """All of them, those of one server in their order."""
    found = []
    for path in folder.glob("*.journal"):
        server, _, number = path.stem.rpartition("-")
        if server and number.isdecimal():
            found.append(Segment(server, int(number), path))
    return sorted(found)


def local_bytes(folder: Path) -> int:
    """What the journals take."""
    total = 0
    for path in folder.glob("*.journal"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def begin(server: str, before: int) -> bytes:
    """The first record of a segment."""
    payload = json.dumps({"format": 1, "server": server, "before": before}).encode()
    return header(BEGIN, payload) + payload


def read_segment(path: Path) -> Content:
    """Its whole records. Raises FileNotFoundError where it has become Parquet meanwhile."""
    content = path.read_bytes()
    frames, length = read_frames(content)
    first: dict[str, Any] = {"before": 0}
    if frames and frames[0].kind == BEGIN:
        first = json.loads(bytes(frames[0].payload))
    rest = [frame for frame in frames if frame.kind != BEGIN]
    return Content(rest, int(first["before"]), length, len(content) - length)


def held(path: Path) -> bool:
    """Whether a living process writes it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        # Shared: two who look at once do not take each other for the writer.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def create_held(path: Path, content: bytes) -> int:
    """A new file with this content that is locked from its first moment on; returns its descriptor.

    Raises OSError where it cannot be written whole; then there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write_whole(descriptor, content)
        temporary.rename(path)
    except OSError:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)
        raise
    return descriptor


def write_whole(descriptor: int, content: bytes) -> None:
    """All of it. Raises OSError; then a part of it may stand there."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def read_counts(path: Path) -> tuple[int, int, int, int] | None:
    """The numbers of a server, see COUNTS; None where the file was cut."""
    content = path.read_bytes()
    return COUNTS.unpack_from(content) if len(content) >= COUNTS.size else None


def sweep(folder: Path) -> None:
    """Delete what those who were killed left under first names."""
    for path in folder.glob(".*.new"):
        try:
            if time.time() - path.stat().st_mtime > STALE_SECONDS and not held(path):
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue


@contextmanager
def store_lock(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """One process at a time moves rows from journals to files; False: another one does, and we do not wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".store.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
