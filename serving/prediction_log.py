"""The prediction log's writer: the event loop hands answers over, a thread of its own brings them to the disk.

`write` (mode fast): the answer is sent at once, and written with all that waits within some milliseconds. A kill loses
what waits, and the counts that outlive it tell how much. `commit` (mode strict): the answer is sent once it is on the
disk; all that wait for that share one write and one sync.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from pipeline.log_settings import LogSettings
from serving.journal import Counts, Journal, framed
from serving.prediction_ids import new_batch_prefix, new_prediction_id

__all__ = ["PredictionLog", "new_batch_prefix", "new_prediction_id"]

log = logging.getLogger("evergreen.serving")
BUFFER_BYTES = 64 * 1024 * 1024
"""Answers that may wait where the disk does not take them; beyond it they are lost, or refused."""
WRITE_BYTES = 4 * 1024 * 1024
"""Of one write, where much waits."""
RETRY_SECONDS = 1.0
STOP_SECONDS = 5.0
"""How long the end waits for a disk that does not take what is left."""
ACCEPTED, OVERFLOWED, FAILED, UNCOMMITTED = range(4)
"""Of the counts, see pipeline.log_segments.COUNTS."""

Payload = Any
"""A buffer (bytes, an Arrow buffer), or a list of buffers that are joined when they are written. None may change until
then."""
Record = tuple[int, Payload]
Done = Callable[[Exception | None], None]
Group = tuple[list[Record], int, Done]


class PredictionLog:
    """All methods but those of the thread are called by one thread, the event loop's; none blocks but `stop`."""

    def __init__(
        self,
        settings: LogSettings,
        server_id: str,
        buffer_bytes: int = BUFFER_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._clock = settings, clock
        self._counts = Counts()
        self._journal = Journal(settings, server_id, self._counts, clock)
        self._refuse = settings.on_failure == "refuse"
        self._waiting: deque[tuple[int, Payload, int]] = deque()
        self._append = self._waiting.append
        self._groups: queue.SimpleQueue[Group | None] = queue.SimpleQueue()
        self._limit = buffer_bytes
        self._given = self._taken = self._accepted = 0
        self._told, self._told_at = 0, -1e9
        self._retry_at, self._failed_bytes = -1e9, 0
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self.problem: str | None = None
        """Why the log cannot be written now."""
        self.accepting = True
        """False only where the policy is to refuse what would not be in the log."""

    @property
    def lost(self) -> int:
        """Answers that were sent and are not in the log, of this process."""
        return sum(self._counts.slots[OVERFLOWED:])

    def start(self) -> None:
        """Begin to write. Where that fails, `problem` says why, and it is tried again."""
        try:
            self._journal.open()
        except OSError as error:
            self._fail(error)
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, then stop."""
        self._groups.put(None)
        self._thread.join()

    def write(self, kind: int, payload: Payload, rows: int = 1) -> bool:
        """Hand over one record of so many answers; False: it is not taken, and the answer must be refused."""
        size = sum(map(len, payload)) if type(payload) is list else len(payload)
        if self._given - self._taken > self._limit:
            return self._overflow(rows)
        self._accepted = accepted = self._accepted + rows
        self._counts.slots[ACCEPTED] = accepted
        self._given += size
        self._append((kind, payload, rows))
        return True

    def commit(self, records: list[Record], done: Done, rows: int = 1) -> None:
        """Hand over answers that are sent once `done(None)` is called, by the thread; `done(error)`: refuse them."""
        self._groups.put((records, rows, done))
        if self._ended:
            self._refuse_left()

    def _overflow(self, rows: int) -> bool:
        if self._refuse:
            self.accepting = False
            return False
        self._accepted += rows
        self._counts.slots[ACCEPTED] = self._accepted
        self._counts.slots[OVERFLOWED] += rows
        return True

    # From here on: the thread.

    def _run(self) -> None:
        try:
            going = True
            while going:
                groups, going = self._collect(self._settings.fast_milliseconds / 1000)
                self._turn(groups)
                self._tell()
            self._finish()
        finally:
            # Reached by an error of our own too: nobody writes any more, and everybody shall know.
            self.problem, self.accepting = self.problem or "the log is closed", not self._refuse
            self._ended = True
            self._refuse_left()
            self._journal.close()

    def _refuse_left(self) -> None:
        groups, _ = self._collect(0)
        self._refuse_groups(groups, OSError(self.problem))

    def _collect(self, seconds: float) -> tuple[list[Group], bool]:
        """What is to be committed, waited for so long; and whether to go on."""
        groups: list[Group] = []
        try:
            group = self._groups.get(timeout=seconds)
            while group is not None:
                groups.append(group)
                group = self._groups.get_nowait()
        except queue.Empty:
            return groups, True
        return groups, False

    def _turn(self, groups: list[Group]) -> None:
        if self.problem is not None and self._clock() < self._retry_at:
            self._refuse_groups(groups, OSError(self.problem))
            return
        try:
            if self.problem is not None:
                self._journal.probe(self._failed_bytes)
            if groups:
                self._commit(groups)
                groups = []
            self._write_waiting()
            self._journal.rotate_if_due()
        except OSError as error:
            self._fail(error)
            self._refuse_groups(groups, error)
        else:
            if self.problem is not None:
                log.warning("the prediction log is written again")
            self.problem, self.accepting = None, True

    def _commit(self, groups: list[Group]) -> None:
        records = [(kind, _joined(payload)) for group in groups for kind, payload in group[0]]
        content = framed(records, committed=True)
        self._failed_bytes = len(content)
        self._journal.append(content, 0, commit=True)
        for _, _, done in groups:
            _call(done, None)

    def _refuse_groups(self, groups: list[Group], error: OSError) -> None:
        for _, rows, done in groups:
            if self._refuse:
                _call(done, error)
            else:
                self._counts.slots[UNCOMMITTED] += rows
                _call(done, None)

    def _write_waiting(self) -> None:
        """Everything that waited when this began; what fails stays in front."""
        many = len(self._waiting)
        while many > 0:
            taken: list[tuple[int, Payload, int]] = []
            size = 0
            while many > 0 and size < WRITE_BYTES:
                taken.append(self._waiting.popleft())
                many -= 1
                size += _size(taken[-1][1])
            content = framed([(kind, _joined(payload)) for kind, payload, _ in taken], committed=False)
            self._failed_bytes = len(content)
            try:
                self._journal.append(content, sum(rows for _, _, rows in taken), commit=False)
            except OSError:
                self._waiting.extendleft(reversed(taken))
                raise
            self._taken += size

    def _fail(self, error: OSError) -> None:
        self.problem = str(error)
        self.accepting = not self._refuse
        self._retry_at = self._clock() + RETRY_SECONDS

    def _tell(self) -> None:
        """Loudly, but once a second at most."""
        lost, now = self.lost, self._clock()
        if now - self._told_at < RETRY_SECONDS:
            return
        if lost > self._told:
            log.error(
                "%d answers are not in the prediction log (%d since the start): %s",
                lost - self._told, lost, self.problem or "it cannot keep up",
            )  # fmt: skip
        elif self.problem is not None:
            what = "requests are refused" if self._refuse else "answers wait in memory"
            log.error("the prediction log cannot be written, %s: %s", what, self.problem)
        else:
            return
        self._told, self._told_at = lost, now

    def _finish(self) -> None:
        """The last try of what a failing disk has left waiting; then it is lost."""
        end = self._clock() + STOP_SECONDS
        while self._waiting and self._clock() < end:
            time.sleep(0.1)
            self._turn([])
        left = sum(rows for _, _, rows in self._waiting)
        self._counts.slots[FAILED] += left
        self._told_at = -1e9
        if left:
            self._tell()


def _size(payload: Payload) -> int:
    return sum(map(len, payload)) if type(payload) is list else len(payload)


def _joined(payload: Payload) -> bytes:
    joined: bytes = b"".join(payload) if type(payload) is list else payload
    return joined


def _call(done: Done, error: Exception | None) -> None:
    try:
        done(error)
    except RuntimeError as gone:
        log.warning("nobody waits for this commit any more: %s", gone)  # its event loop is closed
