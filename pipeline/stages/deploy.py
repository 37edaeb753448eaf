"""Deploy: the servers take the new version, or the old one stays. The champion alias moves last."""

from __future__ import annotations

import logging
import time
from datetime import datetime
from typing import Literal

from pipeline.adapters.champions import champion_of
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.digest import digest_of
from pipeline.errors import DeploymentFailed
from pipeline.records import DeployRecord, RegisterRecord
from pipeline.rollout import Plan, RolloutMoved, RolloutStore, ServerStatus, Variant
from pipeline.settings import Settings

log = logging.getLogger("evergreen.deploy")
POLL_SECONDS = 0.1


def deploy(register: RegisterRecord, model: ModelConfig, context: RunContext, settings: Settings) -> DeployRecord:
    """Stage the version on every live server, wait until each reproduced its golden rows, then switch.

    Refused, without touching anything: what the gate did not promote, what a backfill made, and what is not
    newer than the champion. Raises DeploymentFailed where a server does not take the version in time, or
    another deployment came first; the old version has answered all along.
    """
    with RolloutStore(settings.database_url) as store:
        champion = champion_of(model.name, settings)
        if champion is not None and champion.digest == register.digest:
            _name_champion(model, champion.version, settings)
            return _record(register, model, store, "unchanged", f"version {champion.version} answers already")
        reason = refusal(register, context, champion)
        if reason is not None:
            return _record(register, model, store, "refused", reason)
        _roll_out(store, register, model, context, settings, champion)
        _name_champion(model, register.version, settings)
        servers = len(store.servers(model.name))
        told = "no server is running; the next to start answers with it"
        if servers:
            told = "one server answers with it" if servers == 1 else f"{servers} servers answer with it"
        return _record(register, model, store, "deployed", told)


def refusal(register: RegisterRecord, context: RunContext, champion: Variant | None) -> str | None:
    """Why this version may not become champion; None where it may."""
    verdict = register.evaluate.verdict
    if context.kind == "backfill":
        return f"refused: a backfill moves no traffic (its verdict was {verdict.decision})"
    if champion is not None and context.cutoff <= datetime.fromisoformat(champion.cutoff):
        return (
            f"refused: the cut-off {context.cutoff.isoformat()} is not newer than the champion's {champion.cutoff} "
            f"(version {champion.version}); use a later --cutoff"
        )
    if register.evaluate.champion != (champion.digest if champion else None):
        return "champion moved: another version answers now than the one it was judged against; run the stages again"
    if verdict.decision != "PROMOTE":
        return f"{verdict.decision}: {'; '.join(verdict.reasons)}"
    return None


def _roll_out(
    store: RolloutStore,
    register: RegisterRecord,
    model: ModelConfig,
    context: RunContext,
    settings: Settings,
    champion: Variant | None,
) -> None:
    from pipeline.package_files import read_package

    read_package(settings.home / register.package)
    plan = Plan(model.deployment.strategy, (Variant(
        name="champion", version=register.version, package=register.package, digest=register.digest,
        cutoff=context.cutoff.isoformat(), model_digest=register.evaluate.train.digest,
        judged_against=champion.package if champion else None,
    ),))  # fmt: skip
    generation = store.get(model.name).generation
    try:
        generation = store.stage(model.name, plan, generation).generation
    except RolloutMoved as moved:
        raise DeploymentFailed(f"champion moved: {moved}; run the stages again to be judged against it") from moved
    try:
        _wait(store, model.name, generation, settings.deploy_timeout_seconds, active=False)
        generation = store.activate(model.name, generation).generation
    except (DeploymentFailed, RolloutMoved, KeyboardInterrupt):
        store.unstage(model.name, generation)
        raise
    _wait(store, model.name, generation, settings.deploy_timeout_seconds, active=True)


def _wait(store: RolloutStore, model: str, generation: int, timeout_seconds: float, *, active: bool) -> None:
    """Until every live server has staged (or activated) this generation; servers that die are not waited for."""
    end = time.monotonic() + timeout_seconds
    while True:
        waiting = [s for s in store.servers(model) if not _done(s, generation, active)]
        failed = [s for s in waiting if s.staged_state == "failed" and s.generation >= generation]
        if failed:
            raise DeploymentFailed(
                f"server {failed[0].server_id} refused the new version: {failed[0].detail}; the old one still answers"
            )
        if not waiting:
            return
        if time.monotonic() > end:
            raise DeploymentFailed(
                f"server {waiting[0].server_id} did not {'switch to' if active else 'load'} the new version within "
                f"{timeout_seconds:g} s; look at its log, or raise EVERGREEN_DEPLOY_TIMEOUT_SECONDS"
            )
        time.sleep(POLL_SECONDS)


def _done(server: ServerStatus, generation: int, active: bool) -> bool:
    return server.generation >= generation and (active or server.staged_state == "ready")


def _name_champion(model: ModelConfig, version: int, settings: Settings) -> None:
    """Move the alias; a note beside the state spares an unchanged run the question to MLflow."""
    note = settings.home / "champions" / model.name
    if note.is_file() and note.read_text(encoding="utf-8") == str(version):
        return
    from pipeline.adapters.registry import name_champion

    name_champion(model.name, version, settings)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(str(version), encoding="utf-8")


def _record(
    register: RegisterRecord,
    model: ModelConfig,
    store: RolloutStore,
    status: Literal["deployed", "unchanged", "refused"],
    reason: str,
) -> DeployRecord:
    rollout = store.get(model.name)
    champion = rollout.active.variants[0].version if rollout.active else None
    return DeployRecord(
        key=digest_of("deploy", register.key, rollout.generation, status),
        status=status,
        reason=reason,
        generation=rollout.generation,
        champion=champion,
        servers=len(store.servers(model.name)),
        register=register,
    )
