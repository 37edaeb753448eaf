"""What is missing from the prediction log: found once, and written down, a file for each server that lost some."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.log_segments import held, read_counts, read_segment, segments
from pipeline.log_settings import LogSettings

log = logging.getLogger("evergreen.log")


@dataclass(frozen=True)
class Loss:
    """Answers that were sent and are not in the log."""

    server: str
    killed: int
    """Waited to be written when the server died."""
    unwritten: int
    """The disk or the buffer did not take them; the server said so while it lived."""
    unreadable: int = 0
    """Stand in a journal, but are no answers."""


def settle(settings: LogSettings) -> list[Loss]:
    """Count what each dead server lost, once. The caller holds the store lock.

    Before this the last segment of a server is not deleted, because it tells what was written before it.
    """
    found = []
    for path in sorted(settings.journal.glob("*.count")):
        if held(path):
            continue
        loss = _loss_of(path, settings)
        if loss.killed or loss.unwritten:
            found.append(loss)
            _keep(loss, settings)
            log.error(
                "server %s ended with %d answers that are not in the prediction log: %d because it was killed, "
                "%d because they could not be written", loss.server, loss.killed + loss.unwritten, loss.killed,
                loss.unwritten,
            )  # fmt: skip
        path.unlink()
    return found


def _loss_of(path: Path, settings: LogSettings) -> Loss:
    # Servers, which only ask for what has been written down, do without Arrow.
    from pipeline.log_rows import count_rows

    server = path.stem
    counts = read_counts(path)
    if counts is None:
        return Loss(server, 0, 0)
    accepted, overflowed, failed, uncommitted = counts
    written = 0
    own = [segment for segment in segments(settings.journal) if segment.server == server]
    if own:
        last = read_segment(own[-1].path)
        written = last.before + count_rows([frame for frame in last.frames if not frame.committed])
    return Loss(server, max(0, accepted - overflowed - failed - written), overflowed + failed + uncommitted)


def keep_unreadable(server: str, segment: str, payloads: list[bytes], settings: LogSettings) -> None:
    """Set aside what a journal holds but nobody can read; the files themselves are for a person."""
    folder = settings.folder / "unreadable"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / segment).write_bytes(b"\n".join(payloads))
    _keep(Loss(server, 0, 0, len(payloads)), settings, segment)
    log.error("%d records of journal %s are no answers; they lie in %s", len(payloads), segment, folder)


def _keep(loss: Loss, settings: LogSettings, name: str | None = None) -> None:
    """Whole or not at all; again is the same."""
    settings.losses.mkdir(parents=True, exist_ok=True)
    path = settings.losses / f"{name or loss.server}.json"
    temporary = path.with_suffix(".part")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(asdict(loss), file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def losses(settings: LogSettings) -> Iterator[Loss]:
    """All that were written down."""
    for path in sorted(settings.losses.glob("*.json")):
        yield Loss(**json.loads(path.read_text(encoding="utf-8")))


def recovered_losses(settings: LogSettings) -> int:
    """Answers that servers lost by being killed: what no server could count of itself."""
    return sum(loss.killed + loss.unreadable for loss in losses(settings))
