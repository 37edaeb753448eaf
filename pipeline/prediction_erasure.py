"""Deleting from the prediction log: one user's rows, and days that are too old."""

from __future__ import annotations

import time
from datetime import date, timedelta

import pyarrow.compute as pc

from pipeline.log_rows import rows_of
from pipeline.log_segments import Segment, held, read_segment, segments, store_lock
from pipeline.log_settings import LogSettings
from pipeline.log_store import LogStore, open_store
from pipeline.prediction_files import compact_locked, days, encode, sources_of, swept

CLOSE_SECONDS = 30.0
"""How long, past the age at which a journal is closed, we wait for it."""


def erase_user(user_id: str, settings: LogSettings, model: str | None = None) -> int:
    """Delete this user's rows, of one model or of all; returns how many.

    What was answered before this began is erased, in journals too. Raises OutsideFailure; then begin again.
    """
    time.sleep(2 * settings.fast_milliseconds / 1000)
    erased = 0
    with store_lock(settings.folder):
        _wait_until_closed(user_id, settings)
        compact_locked(settings)
        store = open_store(settings)
        for folder, _ in days(store, model):
            for name in swept(store, folder):
                erased += _erase(store, f"{folder}/{name}", user_id)
    return erased


def _erase(store: LogStore, name: str, user_id: str) -> int:
    """In place: whole before, whole after."""
    if not pc.any(pc.equal(store.table(name, columns=["user_id"])["user_id"], user_id)).as_py():
        return 0
    sources = sources_of(store, name)
    rows = store.table(name)
    keep = pc.fill_null(pc.not_equal(rows["user_id"], user_id), True)
    store.put(name, encode(rows.filter(keep), sources or None))
    return int(rows.num_rows - pc.sum(keep).as_py())


def _wait_until_closed(user_id: str, settings: LogSettings) -> None:
    """Until no journal that a server still writes holds a row of this user that stood there when we began."""
    mine = [s for s in segments(settings.journal) if held(s.path) and _holds(s, user_id)]
    end = time.monotonic() + settings.segment_seconds + CLOSE_SECONDS
    while any(s.path.exists() and held(s.path) for s in mine) and time.monotonic() < end:
        time.sleep(0.1)


def _holds(segment: Segment, user_id: str) -> bool:
    try:
        rows, _ = rows_of(read_segment(segment.path).frames)
    except FileNotFoundError:
        return False
    return bool(pc.any(pc.equal(rows["user_id"], user_id)).as_py())


def retain(settings: LogSettings, keep_days: int, today: date) -> list[str]:
    """Delete the folders of days that are more than so many days past; returns their names. Raises OutsideFailure."""
    with store_lock(settings.folder):
        return retain_locked(settings, keep_days, today)


def retain_locked(settings: LogSettings, keep_days: int, today: date) -> list[str]:
    """As `retain`, for those who hold the lock."""
    store, first = open_store(settings), (today - timedelta(days=keep_days)).isoformat()
    old = [folder for folder, day in days(store) if day < first]
    for folder in old:
        store.delete_folder(folder)
    return old
