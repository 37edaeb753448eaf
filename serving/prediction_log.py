"""The prediction log: every answered request, one JSON line each, in a file a day, a model and a server."""

from __future__ import annotations

import json
import logging
import queue
import secrets
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

log = logging.getLogger("evergreen.serving")
CAPACITY = 100_000
"""Answers that may wait to be written; beyond it they are counted as lost, and said so."""


def new_prediction_id(now: float) -> str:
    """32 hexadecimal digits: milliseconds since 1970 in 12, then 80 random bits. So its day can be told from it.

    >>> new_prediction_id(1_700_000_000.0)[:12]
    '018bcfe56800'
    """
    return f"{int(now * 1000):012x}{secrets.token_hex(10)}"


class PredictionLog:
    """Writes in a thread of its own, so that no answer waits for a disk."""

    def __init__(self, folder: Path, server_id: str) -> None:
        self._folder, self._server_id = folder, server_id
        self._waiting: queue.Queue[tuple[str, dict[str, Any]] | None] = queue.Queue(CAPACITY)
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self.lost = 0
        """Answers that could not be written."""

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, then stop."""
        self._waiting.put(None)
        self._thread.join(timeout=30)

    def write(self, model: str, entry: dict[str, Any]) -> None:
        """Hand over one answer; never blocks."""
        try:
            self._waiting.put_nowait((model, entry))
        except queue.Full:
            self._lose(1, "the log cannot keep up")

    def _run(self) -> None:
        going = True
        while going:
            batch = [self._waiting.get()]
            while len(batch) < 1000:
                try:
                    batch.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            going = None not in batch
            self._write([item for item in batch if item is not None])

    def _write(self, batch: list[tuple[str, dict[str, Any]]]) -> None:
        lines: dict[Path, list[str]] = {}
        for model, entry in batch:
            day = datetime.fromtimestamp(entry["time"], UTC).strftime("%Y-%m-%d")
            path = self._folder / model / f"day={day}" / f"{self._server_id}.jsonl"
            lines.setdefault(path, []).append(json.dumps(entry))
        for path, texts in lines.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a", encoding="utf-8") as file:
                    file.write("\n".join(texts) + "\n")
            except OSError as error:
                self._lose(len(texts), str(error))

    def _lose(self, count: int, reason: str) -> None:
        self.lost += count
        log.error("%d predictions are not in the log: %s", count, reason)
