"""The model registry: MLflow versions, tags and aliases. The same content is one version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.adapters.store import exclusive
from pipeline.adapters.tracking import guarded
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.records import EvaluateRecord
from pipeline.settings import Settings

DIGEST_TAG = "evergreen.package_sha256"
CHAMPION, CHALLENGER = "champion", "challenger"


def register_version(
    evaluate: EvaluateRecord,
    model: ModelConfig,
    context: RunContext,
    settings: Settings,
    *,
    package: str,
    digest: str,
    form: str,
) -> int:
    """The number of the version that holds this package, made now if there is none."""
    train = evaluate.train
    with one_at_a_time(model.name, settings), guarded(settings) as client:
        _ensure(client, model)
        found = client.search_model_versions(f"name = '{model.name}' and tags.`{DIGEST_TAG}` = '{digest}'")
        if found:
            return min(int(version.version) for version in found)
        made = client.create_model_version(
            model.name,
            source=train.mlflow_model,
            run_id=train.mlflow_run,
            description=f"{evaluate.verdict.decision}: {'; '.join(evaluate.verdict.reasons)}",
            tags={
                DIGEST_TAG: digest,
                "evergreen.package": package,
                "evergreen.form": form,
                "evergreen.cutoff": context.cutoff.isoformat(),
                "evergreen.run_kind": context.kind,
                "evergreen.data_md5": train.prepare.validate.ingest.digest,
                "evergreen.model_sha256": train.digest,
                "evergreen.verdict": evaluate.verdict.decision,
            },
        )
        client.set_registered_model_alias(model.name, CHALLENGER, made.version)
        return int(made.version)


def name_champion(model: str, version: int, settings: Settings) -> None:
    """Move the champion alias to this version, if it is not there already."""
    with one_at_a_time(model, settings), guarded(settings) as client:
        if current_champion(client, model) != version:
            client.set_registered_model_alias(model, CHAMPION, str(version))


def current_champion(client: Any, model: str) -> int | None:
    """The version under the champion alias."""
    aliases = client.get_registered_model(model).aliases
    return int(aliases[CHAMPION]) if CHAMPION in aliases else None


@contextmanager
def one_at_a_time(model: str, settings: Settings) -> Iterator[None]:
    """One writer of a model's registry entries at a time, over machines where the database is PostgreSQL."""
    if not settings.database_url.startswith("postgresql"):
        with exclusive(settings.home / "locks" / f"registry-{model}.lock"):
            yield
        return
    import sqlalchemy as sa

    number = int.from_bytes(hashlib.sha256(f"evergreen registry {model}".encode()).digest()[:8], "big", signed=True)
    engine = sa.create_engine(settings.database_url)
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:n)"), {"n": number})
            yield
    finally:
        engine.dispose()


def _ensure(client: Any, model: ModelConfig) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(model.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(model.name, description=model.description or None)
