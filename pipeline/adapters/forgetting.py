"""Erasing a user from the copies that the monitors made of the prediction log."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.adapters.duck import ROW_GROUP
from pipeline.adapters.observed import ENTITY
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
    table = pq.read_table(path)
    keep = pc.fill_null(pc.not_equal(table[ENTITY], user_id), True)
    gone: int = table.num_rows - int(pc.sum(keep).as_py() or 0)
    if gone:
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        pq.write_table(table.filter(keep), temporary, compression="zstd", row_group_size=ROW_GROUP)
        temporary.replace(path)
    return gone
