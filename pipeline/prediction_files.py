"""The prediction log as it is kept: Parquet files in a folder for each model and day.

predictions/MODEL/day=YYYY-MM-DD/FIRST-LAST-SEGMENT-HASH.parquet, where FIRST and LAST are the beginnings of the first
and last identifier in it; merged files have `merged` for the segment and name their sources in their metadata, and
whoever reads leaves out a source that is named. So a process may be killed anywhere: names follow from what is in a
file, what is written twice is the same, and nothing is deleted before what takes its place is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.log_losses import keep_unreadable, settle
from pipeline.log_rows import COLUMNS, of_day, rows_of
from pipeline.log_segments import Segment, held, read_segment, segments, store_lock, sweep
from pipeline.log_settings import MIB, LogSettings
from pipeline.log_store import LogStore, open_store

SOURCES = b"evergreen.sources"
"""Of a merged file: the names of the files that went into it, as JSON."""
ID_TIME_DIGITS = 12
SMALL_BYTES = 64 * MIB
"""A larger file is not merged again."""
MANY_TODAY = 60
"""Files of the day that is not over are merged when there are so many; of an earlier day, when there are two."""
UNIQUE = ("prediction_id", "features", "latency_seconds", "time", "confidence")
"""Columns that no dictionary makes smaller."""
ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Compacted:
    """What became of closed journals."""

    segments: int = 0
    rows: int = 0
    files: int = 0
    torn_bytes: int = 0
    """Half-written ends that were cut."""


def compact(settings: LogSettings) -> Compacted:
    """Make Parquet of every closed journal, then delete it.

    Raises OutsideFailure where the store fails: the journals stay.
    """
    with store_lock(settings.folder):
        return compact_locked(settings)


def compact_locked(settings: LogSettings) -> Compacted:
    """As `compact`, for those who hold the lock."""
    sweep(settings.journal)
    settle(settings)
    store, done = open_store(settings), Compacted()
    for segment in _closed(settings):
        one = _compact(segment, store, settings)
        done = Compacted(done.segments + 1, done.rows + one.rows, done.files + one.files,
                         done.torn_bytes + one.torn_bytes)  # fmt: skip
    return done


def _closed(settings: LogSettings) -> list[Segment]:
    """Journals that nobody writes, but not the last of a server whose losses have not been counted."""
    # First who lives: a server that ends meanwhile has its last segment among those that are found after.
    alive = {path.stem for path in settings.journal.glob("*.count")}
    found = segments(settings.journal)
    last = {segment.server: segment.number for segment in found}
    return [s for s in found if not held(s.path) and (s.server not in alive or s.number < last[s.server])]


def _compact(segment: Segment, store: LogStore, settings: LogSettings) -> Compacted:
    content = read_segment(segment.path)
    rows, bad = rows_of(content.frames)
    if bad:
        keep_unreadable(segment.server, segment.name, bad, settings)
    digest = hashlib.sha256()
    for frame in content.frames:
        digest.update(frame.payload)
    files = 0
    for model, day, some in _parts(rows):
        name = _file_name(some, segment.name, digest.hexdigest())
        store.put(f"{model}/day={day}/{name}", encode(some))
        files += 1
    segment.path.unlink()
    return Compacted(1, rows.num_rows, files, content.torn_bytes)


def _parts(rows: pa.Table) -> Iterator[tuple[str, str, pa.Table]]:
    """The rows of each model and day, each identifier once, in their order."""
    for model in sorted(pc.unique(rows["model"]).to_pylist()):
        mine = rows.filter(pc.equal(rows["model"], model))
        ends = pc.min_max(mine["time"]).as_py()
        day, last = ends["min"].date(), ends["max"].date()
        while day <= last:
            some = of_day(mine, day)
            if some.num_rows:
                yield model, day.isoformat(), once(some.select(COLUMNS.names))
            day = max(day + ONE_DAY, _next_day(mine, day))


def _next_day(rows: pa.Table, day: date) -> date:
    """The day of the first row after this one: a row with a wild time must not make us walk a million days."""
    after = rows["time"].filter(
        pc.greater_equal(rows["time"], datetime.combine(day + ONE_DAY, datetime.min.time(), UTC))
    )
    first = pc.min(after).as_py()
    return day + ONE_DAY if first is None else first.date()


def once(rows: pa.Table) -> pa.Table:
    """Each identifier once, ordered by it: that is, by time."""
    ordered = rows.take(pc.sort_indices(rows["prediction_id"])).combine_chunks()
    ids = ordered["prediction_id"]
    if ordered.num_rows < 2:
        return ordered
    new = pc.not_equal(ids[1:], ids[:-1])
    if pc.all(new).as_py():
        return ordered
    return ordered.filter(pa.concat_arrays([pa.array([True]), pa.chunked_array(new).combine_chunks()]))


def _file_name(rows: pa.Table, middle: str, digest: str) -> str:
    ids = pc.min_max(rows["prediction_id"]).as_py()
    first, last = ids["min"][:ID_TIME_DIGITS], ids["max"][:ID_TIME_DIGITS]
    return f"{first}-{last}-{middle}-{digest[:16]}.parquet"


def encode(rows: pa.Table, sources: list[str] | None = None) -> Any:
    """The content of a file: rows by COLUMNS, and what went into it where it is a merged one."""
    kept = {} if sources is None else {SOURCES: json.dumps(sources)}
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows.select(COLUMNS.names).cast(COLUMNS).replace_schema_metadata(kept), sink, compression="zstd",
        use_dictionary=[name for name in COLUMNS.names if name not in UNIQUE and name != "scores"],
    )  # fmt: skip
    return sink.getvalue()


def day_files(store: LogStore, folder: str) -> tuple[dict[str, int], set[str]]:
    """Sizes by name of the files of a day, and those among them that have been merged into others.

    Raises FileNotFoundError where one was merged away meanwhile; ask again.
    """
    sizes = {name: size for name, size in store.files(folder).items() if name.endswith(".parquet")}
    gone: set[str] = set()
    for name in sizes:
        if _is_merged(name):
            gone.update(sources_of(store, f"{folder}/{name}"))
    return sizes, gone & set(sizes)


def swept(store: LogStore, folder: str) -> dict[str, int]:
    """The files that hold a day; those that were merged into others, but not deleted before a kill, are deleted."""
    sizes, gone = day_files(store, folder)
    for name in gone:
        store.delete(f"{folder}/{name}")
    return {name: size for name, size in sizes.items() if name not in gone}


def sources_of(store: LogStore, name: str) -> list[str]:
    """What went into a file; itself is not among it."""
    sources: list[str] = json.loads(store.metadata(name).get(SOURCES, b"[]"))
    return sources


def _is_merged(name: str) -> bool:
    return "-merged-" in name


def merge(settings: LogSettings, today: date) -> int:
    """Make few files of the many of a day; returns how many went into others. Raises OutsideFailure."""
    with store_lock(settings.folder):
        return merge_locked(settings, today)


def merge_locked(settings: LogSettings, today: date, newest_days: int | None = None) -> int:
    """As `merge`, for those who hold the lock; where it is given, of the newest days only."""
    store, merged = open_store(settings), 0
    first = "" if newest_days is None else (today - newest_days * ONE_DAY).isoformat()
    for folder, day in days(store):
        if first <= day <= today.isoformat():
            merged += _merge(store, folder, MANY_TODAY if day == today.isoformat() else 2)
    return merged


def days(store: LogStore, model: str | None = None) -> Iterator[tuple[str, str]]:
    """Folder and day, of one model or of all."""
    for name in [model] if model is not None else store.folders(""):
        for folder in store.folders(name):
            if folder.startswith("day="):
                yield f"{name}/{folder}", folder.removeprefix("day=")


def _merge(store: LogStore, folder: str, least: int) -> int:
    if not any(len(group) >= least for group in _groups(store.files(folder))):
        return 0
    sizes = swept(store, folder)
    merged = 0
    for group in _groups(sizes):
        if len(group) < least:
            continue
        rows = once(pa.concat_tables([store.table(f"{folder}/{name}") for name in group]))
        # Those of its sources too: one of them can come again, by a compaction that was killed before its end.
        known = sorted({*group, *(old for name in group if _is_merged(name)
                                  for old in sources_of(store, f"{folder}/{name}"))})  # fmt: skip
        digest = hashlib.sha256("\n".join(known).encode()).hexdigest()
        store.put(f"{folder}/{_file_name(rows, 'merged', digest)}", encode(rows, known))
        for name in group:
            store.delete(f"{folder}/{name}")
        merged += len(group)
    return merged


def _groups(sizes: dict[str, int]) -> list[list[str]]:
    """Small files that together are not too large, in the order of their names, that is, of time.

    >>> _groups({"a": 40 * MIB, "b": 40 * MIB, "c": 1, "d": 70 * MIB, "e": 2})
    [['a'], ['b', 'c', 'e']]
    """
    groups: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if size >= SMALL_BYTES:
            continue
        if not groups or size > room:
            groups.append([])
            room = SMALL_BYTES
        groups[-1].append(name)
        room -= size
    return groups
