"""Trials: a challenger beside the champion, from its first share to its promotion or withdrawal.

Every move is one transaction with its line of the ledger, compare-and-set on the generation of the rollout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pipeline.adapters.promotion import Order, answering, proven_on_servers, roll_out, superseded
from pipeline.errors import BadConfiguration, DeploymentFailed
from pipeline.ledger import Event, Ledger
from pipeline.package_files import read_package
from pipeline.rollout import CHALLENGER, CHAMPION, Plan, Rollout, RolloutMoved, RolloutStore, Strategy, Variant
from pipeline.rollout_sections import RolloutSection
from pipeline.settings import Settings


@dataclass(frozen=True)
class Why:
    """Who moves a trial, and why."""

    reason: str
    by: str
    """A person, or the run."""
    run_id: str | None = None
    evidence: Mapping[str, Any] | None = None


def on_trial(rollout: Rollout) -> Variant | None:
    """The challenger of a rollout; None: nothing is on trial."""
    return rollout.active.challenger if rollout.active else None


def start(
    store: RolloutStore, rollout: Rollout, variant: Variant, section: RolloutSection, why: Why, settings: Settings
) -> Rollout:
    """Put a version on trial beside the champion; one that is on trial already is superseded. The alias stays.

    As with a promotion every live server has loaded and proven it before anything changes.
    Raises DeploymentFailed where a server does not take it in time, or another deployment came first.
    """
    champion = answering(rollout)
    assert champion is not None
    read_package(settings.home / variant.package)
    model, first = rollout.model, section.first_share
    plan = Plan(_strategy(section.strategy, first), (champion, replace(variant, name=CHALLENGER)), first,
                f"{model}:{variant.version}:{rollout.generation}")  # fmt: skip
    with proven_on_servers(store, rollout, plan, settings) as generation:
        now = datetime.now(UTC)
        plan = replace(plan, began=now.timestamp())
        event = _event("rollout_started", rollout, plan, variant, why, generation + 1,
                       digest=variant.digest, package=variant.package, cutoff=variant.cutoff)  # fmt: skip
        return store.move(model, plan, generation, event, now, *superseded(rollout, variant, why.by))


def advance(store: RolloutStore, rollout: Rollout, share: float, why: Why) -> Rollout:
    """Let more users meet the challenger: nothing has to be loaded, so it holds at once.

    Raises DeploymentFailed where the rollout has moved meanwhile.
    """
    plan, challenger = _running(rollout)
    now = datetime.now(UTC)
    following = replace(plan, strategy="canary", share=share, step=plan.step + 1, began=now.timestamp())
    event = _event("advanced", rollout, following, challenger, why, rollout.generation + 1, from_share=plan.share)
    return _moved(store, rollout, following, event, now)


def withdraw(store: RolloutStore, rollout: Rollout, why: Why) -> Rollout:
    """Let the champion answer alone. Only a person can promote the challenger after that.

    Raises DeploymentFailed where the rollout has moved meanwhile.
    """
    plan, challenger = _running(rollout)
    now = datetime.now(UTC)
    alone = Plan("direct", plan.variants[:1])
    event = _event("withdrawn", rollout, alone, challenger, why, rollout.generation + 1, from_share=plan.share,
                   digest=challenger.digest)  # fmt: skip
    return _moved(store, rollout, alone, event, now)


def promote(store: RolloutStore, rollout: Rollout, why: Why, settings: Settings) -> Rollout:
    """Let the challenger answer alone, and name it champion. Raises as `roll_out` does."""
    _, challenger = _running(rollout)
    order = Order("promoted", why.reason, why.by, why.run_id)
    return roll_out(store, rollout, replace(challenger, name=CHAMPION), order, dict(why.evidence or {}), settings)


def judged(ledger: Ledger, model: str, plan: Plan) -> Any:
    """The last verdict about this step; None: there is none yet."""
    challenger = plan.challenger
    if challenger is None:
        return None
    line = ledger.last(model, "rollout_judged", version=challenger.version)
    return line if line is not None and line.body["step"] == plan.step and line.body["salt"] == plan.salt else None


def _strategy(asked: Strategy, share: float) -> Strategy:
    """A canary's step at a share of 0 is a shadow."""
    return "shadow" if share == 0 else asked


def _running(rollout: Rollout) -> tuple[Plan, Variant]:
    challenger = on_trial(rollout)
    if rollout.active is None or challenger is None:
        raise BadConfiguration(f"{rollout.model} has no version on trial")
    return rollout.active, challenger


def _moved(store: RolloutStore, rollout: Rollout, plan: Plan, event: Event, now: datetime) -> Rollout:
    try:
        return store.move(rollout.model, plan, rollout.generation, event, now)
    except RolloutMoved as moved:
        raise DeploymentFailed(f"{moved}; what was judged is no longer what answers: judge it again") from moved


def _event(
    kind: Any, rollout: Rollout, plan: Plan, challenger: Variant, why: Why, generation: int, **more: Any
) -> Event:
    champion = plan.variants[0]
    return Event(rollout.model, kind, challenger.version, {
        "champion": champion.version, "strategy": plan.strategy, "share": plan.share, "step": plan.step,
        "salt": plan.salt, "reason": why.reason, "by": why.by, "run_id": why.run_id, "generation": generation,
        **more, **dict(why.evidence or {}),
    })  # fmt: skip
