"""Ingest: a snapshot of the source as known at the cut-off, versioned."""

from __future__ import annotations

from datetime import UTC

from pipeline.adapters.environment import code_digest, library_versions
from pipeline.adapters.store import Output, once
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.digest import digest_of
from pipeline.errors import NotEnoughData
from pipeline.records import IngestRecord
from pipeline.settings import Settings


def ingest(model: ModelConfig, context: RunContext, settings: Settings) -> IngestRecord:
    """Take the snapshot, or find the one that still holds at this cut-off.

    Raises SourceUnreadable, NotEnoughData (nothing known yet), OutsideFailure (disk, database, data remote).
    """
    from pipeline.adapters.snapshot_index import find_snapshot, note_snapshot
    from pipeline.adapters.sources import fingerprint

    fixed = digest_of("ingest", model.model_dump(mode="json", include={"source", "entity", "time", "target"}),
                      code_digest(), library_versions())  # fmt: skip
    seen = fingerprint(model.source)
    found = find_snapshot(settings, digest_of(fixed, seen), context.cutoff) if seen else None
    if found:
        return found
    cutoff = context.cutoff.isoformat()
    key = digest_of(fixed, seen or context.run_id, cutoff)
    record = once(settings, "ingest", key, IngestRecord, lambda out: _take(model, context, settings, key, out))
    if seen:
        note_snapshot(settings, digest_of(fixed, seen), record)
    return record


def _take(model: ModelConfig, context: RunContext, settings: Settings, key: str, out: Output) -> IngestRecord:
    from pipeline.adapters.data_versions import version
    from pipeline.adapters.snapshots import take_snapshot
    from pipeline.adapters.sources import open_table

    table = open_table(model.source)
    table.require([*model.reserved_columns, *(model.features.columns or {}), *model.judged_columns])
    path = out.path("snapshot.parquet")
    taken = take_snapshot(table, model, context.cutoff, path, out.path("rejected.parquet"), settings.threads)
    if taken.rows == 0:
        first = (
            f"; the earliest became known at {taken.first_known.astimezone(UTC).isoformat()}"
            if taken.first_known
            else ""
        )
        raise NotEnoughData(
            f"no row of {table.where} was known at {context.cutoff.isoformat()}{first}; choose a later --cutoff"
        )
    return IngestRecord(
        key=key,
        cutoff=context.cutoff.isoformat(),
        snapshot=out.named("snapshot.parquet"),
        rejected=out.named("rejected.parquet"),
        rows=taken.rows,
        rejected_rows=sum(taken.rejected_reasons.values()),
        superseded_rows=taken.superseded_rows,
        later_rows=taken.later_rows,
        unmatured_rows=taken.unmatured_rows,
        rejected_reasons=dict(sorted(taken.rejected_reasons.items())),
        digest=version(settings.store / "ingest", path, settings),
        unchanged_until=taken.unchanged_until.astimezone(UTC).isoformat() if taken.unchanged_until else None,
    )
