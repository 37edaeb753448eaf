"""Versions in MLflow's model registry: tags and aliases. The same content is one version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipeline.adapters.store import exclusive
from pipeline.adapters.tracking import guarded
from pipeline.config import ModelConfig
from pipeline.ledger import MOVES, Ledger, Line
from pipeline.records import EvaluateRecord
from pipeline.settings import Settings

DIGEST_TAG = "evergreen.package_sha256"
FENCE_TAG = "evergreen.generation"
ANCHOR_TAG = "evergreen.ledger"
CHAMPION, CHALLENGER = "champion", "challenger"


def make_version(
    evaluate: EvaluateRecord, model: ModelConfig, tags: Mapping[str, str], settings: Settings, *, digest: str,
    challenges: bool,
) -> int:  # fmt: skip
    """The number of the version that holds this package, made now if there is none.

    `challenges`: whether it is to be the challenger; what a backfill makes is none.
    """
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
            tags={DIGEST_TAG: digest, **tags},
        )
        if challenges:
            client.set_registered_model_alias(model.name, CHALLENGER, made.version)
        return int(made.version)


def name_champion(model: str, version: int, generation: int, settings: Settings) -> None:
    """Move the champion alias to the version that answers since this generation, and leave the move's seal beside it.

    The generation is a fencing token: a process that was held up writes nothing over what a later
    promotion has written.
    """
    note = settings.home / "champions" / model
    text = f"{generation} {version}"
    if note.is_file() and note.read_text(encoding="utf-8") == text:
        return
    with one_at_a_time(model, settings), guarded(settings) as client:
        registered = client.get_registered_model(model)
        if int(registered.tags.get(FENCE_TAG, 0)) > generation:
            return
        client.set_registered_model_tag(model, FENCE_TAG, str(generation))
        with Ledger(settings.database_url) as ledger:
            move = ledger.last(model, *MOVES)
        if move is not None:
            client.set_registered_model_tag(model, ANCHOR_TAG, f"{move.number}:{move.hash}")
        if str(registered.aliases.get(CHAMPION)) != str(version):
            client.set_registered_model_alias(model, CHAMPION, str(version))
        if str(registered.aliases.get(CHALLENGER)) == str(version):
            client.delete_registered_model_alias(model, CHALLENGER)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(text, encoding="utf-8")


def name_challenger(model: str, version: int, settings: Settings) -> None:
    """Put a version on trial."""
    with one_at_a_time(model, settings), guarded(settings) as client:
        client.set_registered_model_alias(model, CHALLENGER, str(version))


def version_under(model: str, alias: str, settings: Settings) -> int | None:
    """The version under an alias; None where there is none."""
    with guarded(settings) as client:
        aliases = client.get_registered_model(model).aliases
    return int(aliases[alias]) if alias in aliases else None


def anchor(model: str, version: int, line: Line, settings: Settings) -> None:
    """Leave the seal of a ledger line on its version, outside of the ledger's own database."""
    with guarded(settings) as client:
        client.set_model_version_tag(model, str(version), ANCHOR_TAG, f"{line.number}:{line.hash}")


def anchors(settings: Settings) -> Iterator[tuple[int, str, str]]:
    """Number and seal of every line that the registry remembers, and what that line told."""
    with guarded(settings) as client:
        for registered in client.search_registered_models(max_results=1000):
            if ANCHOR_TAG in registered.tags:
                number, _, seal = registered.tags[ANCHOR_TAG].partition(":")
                yield int(number), seal, f"who became champion of {registered.name} last"
            for version in client.search_model_versions(f"name = '{registered.name}'", max_results=10_000):
                if ANCHOR_TAG in version.tags:
                    number, _, seal = version.tags[ANCHOR_TAG].partition(":")
                    yield int(number), seal, f"that version {version.version} of {registered.name} was registered"


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
