"""Judge a rollout: hold challenger against champion on what this step has seen, write it down, move the ramp."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.adapters.promotion import answering
from pipeline.adapters.trials import Why, advance, on_trial, promote, withdraw
from pipeline.adapters.versions import name_champion
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.digest import digest_of
from pipeline.ledger import Event, Ledger, Line
from pipeline.rollout import Plan, Rollout, RolloutStore
from pipeline.rollout_records import JudgeRolloutRecord
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.core.experiment import RolloutPolicy, RolloutVerdict


def judge_rollout(
    model: ModelConfig, context: RunContext, settings: Settings, *, act: bool = False
) -> JudgeRolloutRecord:
    """Judge the step at which the rollout stands, and carry the verdict out where the model file says so.

    The same cut-off again is the same verdict, and what it asked for is done once. A backfill judges, but writes
    nothing down and moves nothing. `act`: carry it out although the model file leaves that to people.

    Raises OutsideFailure (database, store of the log), and DeploymentFailed where servers do not take a promotion, or
    another deployment came first; what answered goes on answering.
    """
    from pipeline.adapters.experiment_data import arms_of, began
    from pipeline.core.experiment import Step
    from pipeline.core.experiment_verdict import judge

    with RolloutStore(settings.database_url) as store, Ledger(settings.database_url) as ledger:
        rollout = store.get(model.name)
        champion, plan = answering(rollout), rollout.active
        if champion is not None:  # a process may have died between the traffic and the alias
            name_champion(model.name, champion.version, rollout.generation, settings)
        if plan is None or on_trial(rollout) is None:
            _show(model, context, settings, None)
            return _record(model, context, plan, "nothing on trial", None, ("nothing is on trial",))
        if context.cutoff <= began(plan):
            told = f"the step began at {began(plan).isoformat(timespec='seconds')}, which is not before the cut-off"
            return _record(model, context, plan, "too early", None, (told,))
        hours = (context.cutoff.timestamp() - plan.began) / 3600
        policy = policy_of(model, plan)
        step = Step(plan.step, plan.strategy, plan.share, hours)
        verdict = judge(arms_of(model, plan, context.cutoff, settings), policy, step)
        if context.kind == "backfill":
            return _record(model, context, plan, "judged", verdict, verdict.reasons)
        line = ledger.append(_event(verdict, policy, rollout, plan, model, context))
        _show(model, context, settings, verdict)
        done = ""
        if model.deployment.rollout.automatic or act:
            done = _carry_out(line, store, rollout, context, settings)
    if line.body["run_id"] == context.run_id:
        _tell(line, done, model)
    return _record(model, context, plan, "judged", verdict, tuple(line.body["reasons"]), line, done)


def policy_of(model: ModelConfig, plan: Plan) -> RolloutPolicy:
    """The model file's rules; of a trial that goes on although the file says `direct` now, the trial's strategy."""
    from pipeline.core.experiment import RolloutPolicy

    asked = model.deployment.rollout
    return RolloutPolicy(
        strategy=plan.strategy if asked.strategy == "direct" else asked.strategy, metric=model.rollout_metric,
        shares=asked.shares, margin=asked.margin, alpha=asked.alpha, min_hours=asked.min_hours,
        min_requests=asked.min_requests, min_labels=asked.min_labels,
    )  # fmt: skip


def _event(
    verdict: RolloutVerdict, policy: RolloutPolicy, rollout: Rollout, plan: Plan, model: ModelConfig,
    context: RunContext,
) -> Event:  # fmt: skip
    challenger = on_trial(rollout)
    assert challenger is not None
    return Event(model.name, "rollout_judged", challenger.version, {
        "decision": verdict.decision, "reasons": list(verdict.reasons), "next_share": verdict.next_share,
        "reason": f"{verdict.decision}: {verdict.reasons[0]}", "figures": verdict.figures, "policy": asdict(policy),
        "labels_needed": verdict.labels_needed, "strategy": plan.strategy, "share": plan.share, "step": plan.step,
        "salt": plan.salt, "champion": plan.variants[0].version, "generation": rollout.generation,
        "automatic": model.deployment.rollout.automatic, "cutoff": context.cutoff.isoformat(),
        "run_id": context.run_id, "run_kind": context.kind, "by": f"run {context.run_id}",
    }, once=f"{plan.salt} {plan.step} {context.cutoff.isoformat()}")  # fmt: skip


def _carry_out(line: Line, store: RolloutStore, rollout: Rollout, context: RunContext, settings: Settings) -> str:
    """Do what stands in the ledger, in a transaction that compares the generation."""
    body, version = line.body, line.version
    by = f"run {context.run_id}"
    why = Why("; ".join(body["reasons"]), by, context.run_id, {"judged": line.number})
    match body["decision"]:
        case "advance":
            advance(store, rollout, body["next_share"], why)
            return f"{body['next_share']:.4g} of the users meet version {version} now"
        case "roll_back":
            withdraw(store, rollout, why)
            return f"version {version} is withdrawn; version {body['champion']} answers alone"
        case "promote":
            promote(store, rollout, why, settings)
            return f"version {version} is champion"
    return ""


def _show(model: ModelConfig, context: RunContext, settings: Settings, verdict: RolloutVerdict | None) -> None:
    """The verdict as gauges; without a trial there are none. A backfill shows nothing."""
    if context.kind == "backfill":
        return
    from pipeline.adapters.gauges_of import rollout_gauges
    from pipeline.gauges import ONLY_WHEN_DUE, GaugeStore

    rows = 0 if verdict is None else int(verdict.figures["champion_answers"] + verdict.figures["challenger_answers"])
    with GaugeStore(settings.database_url) as gauges:
        gauges.replace(model.name, "rollout", rollout_gauges(model, verdict), context.cutoff, datetime.now(UTC),
                       rows=rows, max_age_seconds=ONLY_WHEN_DUE)  # fmt: skip


def _tell(line: Line, done: str, model: ModelConfig) -> None:
    """A call where the challenger goes back, and where nothing goes on because the data cannot be trusted."""
    from pipeline.adapters.notification import Note, notify
    from pipeline.settings import notification_settings

    reason, decision = str(line.body["reasons"][0]), line.body["decision"]
    if decision == "roll_back" or "mismatch" in reason:
        title = f"rollout of version {line.version}: {decision}: {reason}"[:200]
        severity = "critical" if decision == "roll_back" else "warning"
        lines = (*line.body["reasons"], *([done] if done else []))
        notify(Note(model.name, severity, title, lines), notification_settings(), datetime.now(UTC))  # type: ignore[arg-type]


def _record(
    model: ModelConfig, context: RunContext, plan: Plan | None, status: str, verdict: RolloutVerdict | None,
    reasons: tuple[str, ...], line: Line | None = None, done: str = "",
) -> JudgeRolloutRecord:  # fmt: skip
    challenger = plan.challenger if plan else None
    decision = line.body["decision"] if line else verdict.decision if verdict else "hold"
    figures = line.body["figures"] if line else verdict.figures if verdict else {}
    return JudgeRolloutRecord(
        key=digest_of("judge_rollout", model.name, plan.salt if plan else "", plan.step if plan else 0,
                      context.cutoff.isoformat(), decision, list(reasons)),
        status=status,  # type: ignore[arg-type]
        decision=decision,
        reasons=reasons,
        done=done,
        cutoff=context.cutoff.isoformat(),
        champion=plan.variants[0].version if plan else None,
        challenger=challenger.version if challenger else None,
        strategy=plan.strategy if plan else model.deployment.rollout.strategy,
        share=plan.share if plan else 0.0,
        step=plan.step if plan else 0,
        labels_needed=line.body["labels_needed"] if line else verdict.labels_needed if verdict else None,
        figures=figures,
        line=line.number if line else None,
    )  # fmt: skip
