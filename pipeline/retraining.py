"""Doing what was decided, and saying what came of it."""

from __future__ import annotations

from typing import Any

from pipeline.adapters.champions import champion_of
from pipeline.adapters.registry import Registry
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.ledger import Event, Ledger
from pipeline.monitoring_records import DecideRetrainingRecord
from pipeline.records import DeployRecord
from pipeline.settings import Settings


def carry_out(decision: DecideRetrainingRecord, model: ModelConfig, context: RunContext, settings: Settings) -> str:
    """Let the predecessor answer again where that was decided; what was done, in one line.

    Raises BadConfiguration where there is none any more, DeploymentFailed where the servers do not take it.
    """
    if decision.action != "roll back":
        return f"{decision.action}: {decision.reasons[0]}"
    target = decision.performance.predecessor_version
    registry = Registry(model.name, settings)
    champion = champion_of(model.name, settings)
    if champion is not None and champion.version == target:
        return f"version {target} answers again already"
    was, now = registry.rollback(to=target, by=f"run {context.run_id}", reason="; ".join(decision.reasons))
    return f"rolled back from version {was} to {now}: {decision.reasons[0]}"


def report(
    decision: DecideRetrainingRecord, deploy: DeployRecord | None, model: ModelConfig, context: RunContext,
    settings: Settings,
) -> str:  # fmt: skip
    """Write down what came of a retraining; in one line, for people.

    `deploy` None: a stage failed. Whether it helped on later rows is told by the checks of the days after.
    """
    status = deploy.status if deploy else "failed"
    body: dict[str, Any] = {
        "decision": decision.line, "status": status, "asked_for": list(decision.reasons),
        "cutoff": context.cutoff.isoformat(), "run_id": context.run_id, "run_kind": context.kind,
        "by": f"run {context.run_id}",
    }  # fmt: skip
    if deploy is None:
        told = "the retraining failed; the log of the stage that failed says why, and the old version answers"
    else:
        evaluate = deploy.register.evaluate
        gap = evaluate.difference
        compared = "there was no champion to compare with"
        if gap is not None:
            compared = (
                f"{evaluate.primary} {'better' if gap.value >= 0 else 'worse'} than the champion's by "
                f"{abs(gap.value):.4f} ({gap.low:+.4f} to {gap.high:+.4f}) on the same rows"
            )
            body |= {"difference": gap.value, "low": gap.low, "high": gap.high}
        told = f"version {deploy.register.version} {status}: {compared}; {deploy.reason}"
    with Ledger(settings.database_url) as ledger:
        ledger.append(Event(model.name, "retrained", deploy.register.version if deploy else None,
                            {**body, "reason": told}, once=f"decision {decision.line} {status}"))  # fmt: skip
    return told
