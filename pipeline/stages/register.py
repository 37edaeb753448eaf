"""Register: the candidate as a version in the registry, with its model card and its line in the ledger. Once."""

from __future__ import annotations

import json

from pipeline.adapters.champions import champion_of
from pipeline.adapters.environment import code_digest, code_version, installed_packages, library_versions
from pipeline.adapters.store import Output, once
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.digest import digest_of
from pipeline.ledger import Event, Ledger
from pipeline.records import EvaluateRecord, RegisterRecord
from pipeline.settings import Settings


def register(evaluate: EvaluateRecord, model: ModelConfig, context: RunContext, settings: Settings) -> RegisterRecord:
    """Make the version, whatever the verdict: the registry remembers refused ones too.

    Raises OutsideFailure (MLflow, database, disk).
    """
    train = evaluate.train
    key = digest_of(
        "register", model.name, train.digest, evaluate.key, settings.mlflow_uri, code_digest(), library_versions()
    )
    record = once(settings, "register", key, RegisterRecord,
                  lambda out: _register(evaluate, model, context, settings, key, out))  # fmt: skip
    with Ledger(settings.database_url) as ledger:
        line = ledger.append(_event(record, model, context))
    note = settings.store / "register" / key / "anchored"
    if not note.is_file():
        from pipeline.adapters.versions import anchor

        anchor(model.name, record.version, line, settings)
        note.touch()
    return record


def _register(
    evaluate: EvaluateRecord, model: ModelConfig, context: RunContext, settings: Settings, key: str, out: Output
) -> RegisterRecord:
    from pipeline.adapters.model_card import attach, model_card
    from pipeline.adapters.promotion import law_of_time
    from pipeline.adapters.versions import make_version

    tags = {
        "evergreen.package": evaluate.package,
        "evergreen.form": evaluate.form,
        "evergreen.cutoff": context.cutoff.isoformat(),
        "evergreen.run_kind": context.kind,
        "evergreen.data_md5": evaluate.train.prepare.validate.ingest.digest,
        "evergreen.model_sha256": evaluate.train.digest,
        "evergreen.verdict": evaluate.verdict.decision,
    }
    late = context.kind == "backfill" or law_of_time(context.cutoff, champion_of(model.name, settings)) is not None
    version = make_version(evaluate, model, tags, settings, digest=evaluate.package_digest, challenges=not late)
    record = RegisterRecord(
        key=key,
        version=version,
        package=evaluate.package,
        digest=evaluate.package_digest,
        form=evaluate.form,
        model_card=out.named("model_card.html"),
        evaluate=evaluate,
    )
    page = model_card(record, model, context, settings, code_version())
    out.path("model_card.html").write_text(page, encoding="utf-8")
    attach(page, record, settings)
    return record


def _event(record: RegisterRecord, model: ModelConfig, context: RunContext) -> Event:
    """Everything that is needed to trace the version and to make it again."""
    plain = json.loads(record.to_json())
    return Event(model.name, "registered", record.version, {
        "record": plain, "cutoff": context.cutoff.isoformat(), "run_id": context.run_id, "run_kind": context.kind,
        "model_file": model.model_dump(mode="json"), "code_version": code_version(), "code_digest": code_digest(),
        "libraries": library_versions(), "packages": digest_of(installed_packages()),
    }, once=f"{record.version} {record.digest} {record.key}")  # fmt: skip
