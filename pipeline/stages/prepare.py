"""Prepare: the rows that train, and the later rows that judge."""

from __future__ import annotations

from datetime import datetime

from pipeline.adapters.environment import code_digest, library_versions
from pipeline.adapters.store import Output, once
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.digest import digest_of
from pipeline.core.schema import Schema
from pipeline.errors import NotEnoughData
from pipeline.records import PrepareRecord, ValidateRecord
from pipeline.settings import Settings


def prepare(validate: ValidateRecord, model: ModelConfig, context: RunContext, settings: Settings) -> PrepareRecord:
    """Split by time, with an embargo for labels that were not yet known; by entity where there is no time.

    Raises NotEnoughData naming the part that is too small, DataRefused naming a column that knows the future.
    """
    sections = model.model_dump(mode="json", include={"split", "target", "time", "entity"})
    digest = digest_of(validate.digest, validate.schema_digest, sections)
    key = digest_of("prepare", digest, model.features.trusted, code_digest(), library_versions())
    return once(settings, "prepare", key, PrepareRecord, lambda out: _cut(validate, model, settings, digest, key, out))


def _cut(
    validate: ValidateRecord, model: ModelConfig, settings: Settings, digest: str, key: str, out: Output
) -> PrepareRecord:
    from pipeline.adapters.leaks import refuse_leaks
    from pipeline.adapters.parts import cut

    train, test = out.path("train.parquet"), out.path("test.parquet")
    parts = cut(settings.home / validate.clean, model, train, test, settings.threads)
    for name, rows in (("train", parts.train), ("judge", parts.test)):
        if rows < model.split.min_rows:
            raise NotEnoughData(
                f"{model.name}: {rows} rows are left to {name}, fewer than split.min_rows={model.split.min_rows} "
                f"(train {parts.train}, judge {parts.test}, no final label {parts.unlabelled}, in the embargo "
                f"{parts.embargoed}, before the training window {parts.outside}); "
                "choose a later --cutoff or change split"
            )
    schema = Schema.from_json((settings.home / validate.schema).read_text(encoding="utf-8"))
    refuse_leaks(train, parts.train, schema, model, settings.threads)
    window = parts.window
    return PrepareRecord(
        key=key,
        train=out.named("train.parquet"),
        test=out.named("test.parquet"),
        train_rows=parts.train,
        test_rows=parts.test,
        unlabelled_rows=parts.unlabelled,
        embargoed_rows=parts.embargoed,
        outside_rows=parts.outside,
        train_until=_text(window.train_until if window else None),
        test_from=_text(window.test_from if window else None),
        test_until=_text(window.test_until if window else None),
        digest=digest,
        validate=validate,
    )


def _text(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant else None
