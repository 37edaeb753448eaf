"""Deploy: the servers take the new version, or the old one stays. Either way the ledger says why."""

from __future__ import annotations

import logging
from typing import Literal

from pipeline.adapters.promotion import Order, Refusal, answering, refusal, roll_out, variant_of
from pipeline.adapters.trials import Why, on_trial, start
from pipeline.adapters.versions import name_champion
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.digest import digest_of
from pipeline.ledger import Event, Ledger
from pipeline.records import DeployRecord, RegisterRecord
from pipeline.rollout import Rollout, RolloutStore
from pipeline.settings import Settings

log = logging.getLogger("evergreen.deploy")


def deploy(register: RegisterRecord, model: ModelConfig, context: RunContext, settings: Settings) -> DeployRecord:
    """Stage the version on every live server, wait until each reproduced its golden rows, then switch.

    With another strategy than `direct` it goes on trial beside the champion, and the champion stays champion.

    Refused, without touching anything: what a backfill made, what is not newer than the champion, what was judged
    against another champion, was rolled back, was not promoted by the gate, or waits for a person.
    Raises DeploymentFailed where a server does not take the version in time, or another deployment came first;
    the old version has answered all along.
    """
    with RolloutStore(settings.database_url) as store, Ledger(settings.database_url) as ledger:
        rollout = store.get(model.name)
        champion = answering(rollout)
        if champion is not None:  # a process may have died between the traffic and the alias
            name_champion(model.name, champion.version, rollout.generation, settings)
        if champion is not None and champion.digest == register.digest:
            return _record(register, model, store, rollout, "unchanged", f"version {champion.version} answers already")
        challenger = on_trial(rollout)
        if challenger is not None and challenger.digest == register.digest:
            told = f"version {challenger.version} is on trial already"
            return _record(register, model, store, rollout, "on_trial", told)
        refused = refusal(register, context, champion, ledger, approval=model.deployment.approval is not None,
                          challenger=challenger)  # fmt: skip
        if refused is not None:
            ledger.append(_refused(register, context, refused))
            return _record(register, model, store, rollout, "refused", refused.reason)
        verdict = register.evaluate.verdict
        order = Order("promoted", "; ".join(verdict.reasons), f"run {context.run_id}", context.run_id)
        evidence = {"verdict_key": register.evaluate.key, "mode": verdict.mode}
        variant = variant_of(register, context.cutoff)
        section = model.deployment.rollout
        if champion is not None and section.strategy != "direct":
            why = Why(order.reason, order.by, order.run_id, evidence)
            rollout = start(store, rollout, variant, section, why, settings)
            return _record(register, model, store, rollout, "on_trial", _on_trial(rollout))
        rollout = roll_out(store, rollout, variant, order, evidence, settings)
        servers = len(store.servers(model.name))
        told = "no server is running; the next to start answers with it"
        if servers:
            told = "one server answers with it" if servers == 1 else f"{servers} servers answer with it"
        return _record(register, model, store, rollout, "deployed", told)


def _on_trial(rollout: Rollout) -> str:
    plan = rollout.active
    assert plan is not None
    shown = "its answers are shown to nobody" if plan.strategy == "shadow" else f"{plan.share:.4g} of the users meet it"
    return f"{plan.strategy}: {shown}; version {plan.variants[0].version} stays champion"


def _refused(register: RegisterRecord, context: RunContext, refused: Refusal) -> Event:
    """One line for each version, cut-off and reason, however often the run is repeated."""
    evaluate = register.evaluate
    return Event(context.model, "refused", register.version, {
        "code": refused.code, "reason": refused.reason, "cutoff": context.cutoff.isoformat(),
        "run_id": context.run_id, "run_kind": context.kind, "digest": register.digest,
        "champion": evaluate.champion, "verdict": evaluate.verdict.decision, "mode": evaluate.verdict.mode,
        "verdict_key": evaluate.key, "by": f"run {context.run_id}",
    }, once=f"{register.version} {context.cutoff.isoformat()} {context.kind} {refused.reason}")  # fmt: skip


def _record(
    register: RegisterRecord,
    model: ModelConfig,
    store: RolloutStore,
    rollout: Rollout,
    status: Literal["deployed", "unchanged", "refused", "on_trial"],
    reason: str,
) -> DeployRecord:
    champion, trial = answering(rollout), on_trial(rollout)
    return DeployRecord(
        key=digest_of("deploy", register.key, rollout.generation, status),
        status=status,
        reason=reason,
        generation=rollout.generation,
        champion=champion.version if champion else None,
        challenger=trial.version if trial else None,
        servers=len(store.servers(model.name)),
        register=register,
    )
