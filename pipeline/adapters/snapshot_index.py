"""Which stored snapshot still holds at a cut-off, so that an unchanged source is not read again."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

from pipeline.adapters.store import RECORD, exclusive
from pipeline.records import IngestRecord
from pipeline.settings import Settings


def find_snapshot(settings: Settings, source_digest: str, cutoff: datetime) -> IngestRecord | None:
    """A snapshot of this very source, taken at or before the cut-off, since which nothing became known."""
    index = _index(settings, source_digest)
    keys: list[str] = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else []
    for key in keys:
        path = settings.store / "ingest" / key / RECORD
        if path.is_file():
            record = IngestRecord.from_json(path.read_text(encoding="utf-8"))
            until = record.unchanged_until
            if datetime.fromisoformat(record.cutoff) <= cutoff and (
                until is None or cutoff < datetime.fromisoformat(until)
            ):
                return record
    return None


def note_snapshot(settings: Settings, source_digest: str, record: IngestRecord) -> None:
    """Remember that this snapshot was taken of this source."""
    index = _index(settings, source_digest)
    with exclusive(index.with_suffix(".lock")):
        keys = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else []
        temporary = index.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps([key for key in keys if key != record.key] + [record.key]), encoding="utf-8")
        temporary.replace(index)


def _index(settings: Settings, source_digest: str) -> Path:
    return settings.store / "ingest" / f".{source_digest}.index.json"
