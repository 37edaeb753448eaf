"""The journal of one server: the file it appends to, and the counts that outlive a kill."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
from array import array
from collections.abc import Callable

from pipeline.core.log_frames import LINES, header
from pipeline.log_segments import COUNTS, begin, create_held, local_bytes, segment_path, write_whole
from pipeline.log_settings import LogSettings

ROOM_SECONDS = 1.0
"""How often the folder is measured."""


class Counts:
    """Four numbers (pipeline.log_segments.COUNTS), in a file that lives on where the process is killed.

    Each is raised by one thread alone. A number is stored by one machine instruction, so a kill leaves it whole.
    """

    def __init__(self) -> None:
        self.slots: array[int] | memoryview = array("Q", [0] * 4)
        """Until `keep`: of this process alone."""

    def keep(self, file: int) -> None:
        """From now on in this file, which must have its full length on the disk."""
        mapped = memoryview(mmap.mmap(file, COUNTS.size)).cast("Q")
        mapped[:] = array("Q", self.slots)
        self.slots = mapped


class Journal:
    """Segments of one server; of one thread alone.

    Every method raises OSError where the disk does not do its part; nothing is half-written then.
    """

    def __init__(self, settings: LogSettings, server: str, counts: Counts, clock: Callable[[], float]) -> None:
        self._settings, self._counts, self._clock = settings, counts, clock
        folder = settings.journal
        taken = (folder / f"{server}.count").exists() or segment_path(folder, server, 1).exists()
        self.server = f"{server}-{secrets.token_hex(4)}" if taken else server
        self._count_file: int | None = None
        self._file: int | None = None
        self._number = 0
        self._whole = 0
        """Bytes of the segment that are surely whole."""
        self._rows = 0
        """Accepted rows written so far, over all segments."""
        self._empty, self._sound = True, True
        self._opened = self._measured = -1e9

    def open(self) -> None:
        """Make what is not there yet. No answer is taken out of the buffer before."""
        if self._count_file is None:
            path = self._settings.journal / f"{self.server}.count"
            self._count_file = create_held(path, bytes(COUNTS.size))
            self._counts.keep(self._count_file)
        if self._file is None or not self._sound:
            self._next()

    def append(self, content: bytes, rows: int, *, commit: bool) -> None:
        """All of it, or nothing. `rows`: how many accepted ones; `commit`: on the disk before this returns."""
        self.open()
        self._check_room()
        assert self._file is not None
        try:
            write_whole(self._file, content)
            if commit:
                os.fdatasync(self._file)
        except OSError:
            self._cut(trusted=not commit)
            raise
        self._whole += len(content)
        self._rows += rows
        self._empty = False

    def probe(self, size: int) -> None:
        """See whether as much as this could be written; nothing stays."""
        self.open()
        self._check_room(now=True)
        assert self._file is not None
        payload = bytes(size)
        try:
            # No known kind: were we killed right here, it would be cut as torn.
            write_whole(self._file, header(0, payload) + payload)
        finally:
            self._cut(trusted=True)

    def rotate_if_due(self) -> None:
        """A new segment where this one is old or large, so that readers get what stands in it."""
        if self._file is None or self._empty:
            return
        if self._whole >= self._settings.segment_bytes or self._age() >= self._settings.segment_seconds:
            self._next()

    def close(self) -> None:
        """Let go: the segment is closed, the server gone."""
        for file in (self._file, self._count_file):
            if file is not None:
                # The map of the counts holds on to its file, and with it to the lock.
                fcntl.flock(file, fcntl.LOCK_UN)
                os.close(file)
        self._file = self._count_file = None

    def _age(self) -> float:
        return self._clock() - self._opened

    def _next(self) -> None:
        """The new one before the old one is let go: the last segment says how much was written before it."""
        first = begin(self.server, self._rows)
        new = create_held(segment_path(self._settings.journal, self.server, self._number + 1), first)
        if self._settings.mode == "strict":
            _sync_folder(str(self._settings.journal))
        if self._file is not None:
            os.close(self._file)
        self._file, self._number, self._whole = new, self._number + 1, len(first)
        self._empty, self._sound, self._opened = True, True, self._clock()

    def _cut(self, *, trusted: bool) -> None:
        """Back to the last whole record. Where that fails, or the disk lied about a sync, the segment is left."""
        assert self._file is not None
        try:
            os.ftruncate(self._file, self._whole)
        except OSError:
            trusted = False
        self._sound = self._sound and trusted

    def _check_room(self, *, now: bool = False) -> None:
        if not now and self._clock() - self._measured < ROOM_SECONDS:
            return
        used, allowed = local_bytes(self._settings.journal), self._settings.max_local_bytes
        if used > allowed:
            if not self._empty:
                self._next()  # what stands in this one can be brought away, too
            raise OSError(
                errno.EDQUOT,
                f"journals that wait for the store take {used:,} bytes, more than EVERGREEN_LOG_MAX_LOCAL_BYTES "
                f"({allowed:,})",
            )
        self._measured = self._clock()


def _sync_folder(folder: str) -> None:
    """So that the name of a new file survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


GROUP_ROWS = 256
"""Answers under one checksum: a group is written, and torn, together."""


def framed(records: list[tuple[int, bytes]], *, committed: bool) -> bytes:
    r"""Records as they stand in the journal. JSON objects are put together, a line each.

    >>> framed([(1, b"{}"), (1, b"{}")], committed=False)[9:]
    b'{}\n{}'
    """
    parts: list[bytes] = []
    lines: list[bytes] = []

    def flush() -> None:
        for start in range(0, len(lines), GROUP_ROWS):
            payload = b"\n".join(lines[start : start + GROUP_ROWS])
            parts.extend((header(LINES, payload, committed=committed), payload))
        lines.clear()

    for kind, payload in records:
        if kind == LINES:
            lines.append(payload)
            continue
        flush()
        parts.extend((header(kind, payload, committed=committed), payload))
    flush()
    return b"".join(parts)
