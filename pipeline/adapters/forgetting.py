"""Erasing a user from the copies that the monitors made of the prediction log."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.adapters.duck import RowGroups
from pipeline.adapters.frames import batches
from pipeline.adapters.observed_files import ENTITY, REFUSED
from pipeline.adapters.store import exclusive
from pipeline.config import load_model, model_names
from pipeline.settings import Settings


def forget_observed(user_id: str, model: str | None, settings: Settings) -> int:
    """Delete this user's rows from the observed days of models that are watched by their log; returns how many."""
    if not settings.models_dir.is_dir():
        return 0
    names = [model] if model is not None else model_names(settings.models_dir)
    forgotten = 0
    for name in names:
        folder = settings.home / "observed" / name
        if folder.is_dir() and load_model(name, settings.models_dir).monitoring.data == "predictions":
            for path in sorted(folder.glob("*/day=*.parquet")):
                with exclusive(path.parent / ".lock"):
                    forgotten += _forget(path, user_id)
    return forgotten


def _forget(path: Path, user_id: str) -> int:
    if not any(pc.any(pc.equal(batch[ENTITY], user_id)).as_py() for batch in batches(path, [ENTITY])):
        return 0
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    footer = pq.read_metadata(path)
    with RowGroups(temporary, pq.read_schema(path).remove_metadata()) as groups:
        for batch in batches(path):
            keep = pc.fill_null(pc.not_equal(batch[ENTITY], user_id), True)
            groups.add(pa.Table.from_batches([batch.filter(keep)]).replace_schema_metadata())
        groups.close({REFUSED: footer.metadata[REFUSED.encode()].decode()})
    temporary.replace(path)
    return int(footer.num_rows) - groups.rows
