"""Validate: rows that break the schema or an expectation go to quarantine, with their reason."""

from __future__ import annotations

import shutil
from typing import Any

from pipeline.adapters.environment import code_digest, library_versions
from pipeline.adapters.store import Output, once
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.digest import digest_of
from pipeline.core.schema import Schema, check_schema
from pipeline.errors import DataRefused
from pipeline.records import IngestRecord, ValidateRecord
from pipeline.sections import Expectation
from pipeline.settings import Settings


def validate(ingest: IngestRecord, model: ModelConfig, context: RunContext, settings: Settings) -> ValidateRecord:
    """Type the rows by the pinned schema, set the bad ones apart, and stop where there are too many.

    Raises SchemaChanged, DataRefused (share of quarantined rows, broken table-level expectation), NotEnoughData.
    """
    from pipeline.adapters.schemas import pin, pinned_schema

    schema = pinned_schema(ingest, model, settings)
    key = digest_of(
        "validate", ingest.digest, ingest.rejected_reasons, schema.digest,
        model.model_dump(mode="json", include={"entity", "time", "target", "task", "validation", "features", "name"}),
        model.judged_columns,
        code_digest(), library_versions(),
    )  # fmt: skip
    record = once(settings, "validate", key, ValidateRecord,
                  lambda out: _check(ingest, model, context, settings, schema, key, out))  # fmt: skip
    pin(schema, model, settings)
    return record


def _check(
    ingest: IngestRecord,
    model: ModelConfig,
    context: RunContext,
    settings: Settings,
    schema: Schema,
    key: str,
    out: Output,
) -> ValidateRecord:
    from pipeline.adapters.expectations import (
        RowChecks,
        check_table,
        is_row_level,
        schema_expectations,
        summary,
        table_columns,
    )
    from pipeline.adapters.frames import column_facts, read_frame
    from pipeline.adapters.quarantine import separate

    where = f"{model.name} at {context.cutoff.isoformat()}"
    snapshot = settings.home / ingest.snapshot
    facts = {c.name: c for c in column_facts(snapshot, settings.threads)}
    check_schema(schema, facts, refuse_new=model.features.columns is None and model.features.new_columns == "refuse",
                 where=where, max_categories=model.features.max_categories)  # fmt: skip
    expectations = schema_expectations(schema, model.entity) + model.validation.expectations
    rows = RowChecks(expectations)
    sorted_out = separate(snapshot, schema, model, rows, out.path("clean.parquet"), out.path("quarantine.parquet"))
    whole = [e for e in expectations if not is_row_level(e)]
    results = rows.results()
    if whole:
        columns = [c for c in table_columns(whole) if c in facts]
        results += check_table(read_frame(out.path("clean.parquet"), columns, schema), whole)
    reasons = dict(sorted({**ingest.rejected_reasons, **sorted_out.reasons}.items(), key=lambda item: -item[1]))
    rejected = ingest.rejected_rows + sorted_out.quarantined
    seen = ingest.rows + ingest.rejected_rows
    share = rejected / seen
    problems = [
        summary(r)
        for r, stops in zip(results, _stopping(expectations, len(whole)), strict=True)
        if stops and not r.success
    ]
    if share > model.validation.max_quarantined_share:
        limit = f"validation.max_quarantined_share={model.validation.max_quarantined_share:g}"
        problems.insert(
            0, f"{rejected} of {seen} rows ({share:.1%}) are in quarantine, more than {limit}: {_most(reasons)}"
        )
    shown = {"rows that passed": sorted_out.clean, "rows in quarantine": f"{rejected} ({share:.2%})", **reasons}
    _write_docs(out, model, results, not problems, context, shown)
    if problems:
        kept = settings.runs / context.model / context.label / "refused-data-docs.html"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(out.path("data_docs.html"), kept)
        lines = "\n".join(f"  {p}" for p in problems)
        raise DataRefused(
            f"{where}: the data is refused:\n{lines}\n"
            f"  see {kept}; mend the source or change validation in the model file"
        )
    sorted_out.require_target(model, where)
    out.path("schema.json").write_text(schema.to_json(), encoding="utf-8")
    return ValidateRecord(
        key=key,
        clean=out.named("clean.parquet"),
        quarantine=out.named("quarantine.parquet"),
        data_docs=out.named("data_docs.html"),
        schema=out.named("schema.json"),
        schema_digest=schema.digest,
        rows=sorted_out.clean,
        quarantined_rows=sorted_out.quarantined,
        quarantined_reasons=sorted_out.reasons,
        digest=sorted_out.digest,
        ingest=ingest,
    )


def _stopping(expectations: tuple[Expectation, ...], whole: int) -> list[bool]:
    """Which results stop the run: row-level ones that state a `mostly`, and all `whole` table-level ones."""
    from pipeline.adapters.expectations import is_row_level

    return ["mostly" in e.arguments for e in expectations if is_row_level(e)] + [True] * whole


def _most(reasons: dict[str, int]) -> str:
    return "; ".join(f"{reason} ({count})" for reason, count in list(reasons.items())[:5])


def _write_docs(
    out: Output, model: ModelConfig, results: list[Any], success: bool, context: RunContext, facts: dict[str, Any]
) -> None:
    from pipeline.adapters.expectations import data_docs

    page = data_docs(results, success, f"Data of {model.name} as known at {context.cutoff.isoformat()}", facts)
    out.path("data_docs.html").write_text(page, encoding="utf-8")
