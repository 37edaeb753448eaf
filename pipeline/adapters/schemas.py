"""The pinned schema of each model: written at the first run that passes, read ever after."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.adapters.store import exclusive
from pipeline.config import ModelConfig
from pipeline.core.schema import Schema, infer_schema
from pipeline.records import IngestRecord
from pipeline.settings import Settings


def pinned_schema(ingest: IngestRecord, model: ModelConfig, settings: Settings) -> Schema:
    """The model file's features, else the pinned schema, else one inferred from this snapshot."""
    import pyarrow.parquet as pq

    snapshot = settings.home / ingest.snapshot
    if model.features.columns is not None:
        present = pq.read_schema(snapshot).names
        return Schema(dict(model.features.columns), tuple(c for c in present if c not in model.features.columns))
    path = _path(model, settings)
    if path.is_file():
        return Schema.from_json(path.read_text(encoding="utf-8"))
    from pipeline.adapters.frames import column_facts

    return infer_schema(column_facts(snapshot, settings.threads), model.reserved_columns, model.features.exclude)


def pin(schema: Schema, model: ModelConfig, settings: Settings) -> None:
    """Keep the schema for the runs to come, unless one is kept already."""
    path = _path(model, settings)
    if path.is_file() or model.features.columns is not None:
        return
    with exclusive(path.with_suffix(".lock")):
        if not path.is_file():
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(schema.to_json(), encoding="utf-8")
            temporary.replace(path)


def unpin(model: ModelConfig, settings: Settings) -> None:
    """Forget the pinned schema; the next run infers and pins another."""
    _path(model, settings).unlink(missing_ok=True)


def _path(model: ModelConfig, settings: Settings) -> Path:
    return settings.schemas / f"{model.name}.json"
