"""Reading the prediction log: the files, and beside them the journals of this machine that are no files yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import BadConfiguration, OutsideFailure
from pipeline.log_rows import ROWS, of_day, rows_of
from pipeline.log_segments import read_segment, segments
from pipeline.log_settings import LogSettings
from pipeline.log_store import LogStore, open_store
from pipeline.prediction_files import ID_TIME_DIGITS, day_files

T = TypeVar("T")
ATTEMPTS = 5
"""Of reading a day while its files are merged."""


def answered_parts(
    model: str, day: date, settings: LogSettings, columns: Sequence[str], *, shadows: bool = False
) -> Iterator[pa.Table]:
    """Some columns of the answers of one UTC day, file by file; an answer may be in more than one of them.

    `shadows`: also what a shadow variant would have said. Raises OutsideFailure where the store does not answer.
    """
    # Journals first: what becomes a file meanwhile is then met twice, and never missed.
    waiting = _waiting(settings)
    yield _chosen(of_day(waiting.filter(pc.equal(waiting["model"], model)), day), columns, shadows)
    del waiting
    store, folder = open_store(settings), f"{model}/day={day.isoformat()}"
    read: set[str] = set()
    needed = [*columns, *({"shadow_of"} - set(columns))]
    for _ in range(ATTEMPTS):
        try:
            sizes, gone = day_files(store, folder)
            for name in sizes:
                if name not in gone and name not in read:
                    yield _chosen(store.table(f"{folder}/{name}", columns=needed), columns, shadows)
                    read.add(name)
        except FileNotFoundError:  # merged away meanwhile: what is in the merged file again is then met twice
            continue
        return
    raise OutsideFailure(_restless(folder))


def _chosen(rows: pa.Table, columns: Sequence[str], shadows: bool) -> pa.Table:
    return (rows if shadows else rows.filter(pc.is_null(rows["shadow_of"]))).select(list(columns))


def _restless(folder: str) -> str:
    return f"the files of {folder} change faster than they are read; try again"


def _waiting(settings: LogSettings) -> pa.Table:
    tables = [ROWS.empty_table()]
    for segment in segments(settings.journal):
        try:
            tables.append(rows_of(read_segment(segment.path).frames)[0])
        except FileNotFoundError:
            continue
    return pa.concat_tables(tables)


def _steadily(read: Callable[[], T], what: str) -> T:
    """Again where files were merged away meanwhile."""
    for _ in range(ATTEMPTS):
        try:
            return read()
        except FileNotFoundError:
            continue
    raise OutsideFailure(_restless(what))


def find(prediction_id: str, settings: LogSettings) -> dict[str, Any]:
    """One answer, with its model; time in seconds since 1970.

    Raises BadConfiguration where it is not in the log, OutsideFailure where the store does not answer.
    """
    found = _find_waiting(prediction_id, settings) or _find_filed(prediction_id, settings)
    if found is None:
        raise BadConfiguration(
            f"no prediction {prediction_id!r} in {settings.storage_url or settings.folder}; "
            "the identifier stands in the service's answer"
        )
    return {
        **found, "time": found["time"].timestamp(), "features": orjson.loads(found["features"]),
        "prediction": orjson.loads(found["prediction"]),
    }  # fmt: skip


def _find_waiting(prediction_id: str, settings: LogSettings) -> dict[str, Any] | None:
    """Among records that have the identifier, or the part of it that a batch shares, somewhere in their bytes."""
    needles = {prediction_id.encode(), prediction_id[:26].encode()} - {b""}
    for segment in reversed(segments(settings.journal)):
        try:
            frames = read_segment(segment.path).frames
        except FileNotFoundError:
            continue
        near = [frame for frame in frames if any(needle in bytes(frame.payload) for needle in needles)]
        rows, _ = rows_of(near)
        one = rows.filter(pc.equal(rows["prediction_id"], prediction_id)).to_pylist()
        if one:
            return dict(one[0])
    return None


def _find_filed(prediction_id: str, settings: LogSettings) -> dict[str, Any] | None:
    began = prediction_id[:ID_TIME_DIGITS]
    try:
        day = datetime.fromtimestamp(int(began, 16) / 1000, UTC).date()
        near = [day, day - timedelta(days=1), day + timedelta(days=1)]
    except (ValueError, OverflowError, OSError):
        return None
    store = open_store(settings)
    models = store.folders("")
    for one in near:
        for model in models:
            folder = f"{model}/day={one.isoformat()}"
            row = _steadily(lambda folder=folder: _look(store, folder, prediction_id), folder)  # type: ignore[misc]
            if row is not None:
                return {**row, "model": model}
    return None


def _look(store: LogStore, folder: str, prediction_id: str) -> dict[str, Any] | None:
    """In the files whose names say that they begin no later and end no earlier."""
    began = prediction_id[:ID_TIME_DIGITS]
    for name in store.files(folder):
        first, _, rest = name.partition("-")
        if name.endswith(".parquet") and first <= began <= rest.partition("-")[0]:
            rows = store.table(f"{folder}/{name}", filters=[("prediction_id", "=", prediction_id)]).to_pylist()
            if rows:
                return dict(rows[0])
    return None
