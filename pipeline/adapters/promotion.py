"""Promotion: the laws about who may become champion, and the one way in which traffic moves.

A version is staged on every live server, proven there, then activated: one transaction that also writes the
ledger. The alias in the registry follows; it is moved again by whoever comes next, should this process die.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pipeline.adapters.versions import name_champion
from pipeline.context import RunContext
from pipeline.errors import DeploymentFailed
from pipeline.ledger import Event, Ledger
from pipeline.package_files import read_package
from pipeline.records import RegisterRecord
from pipeline.rollout import Plan, Rollout, RolloutMoved, RolloutStore, ServerStatus, Variant
from pipeline.settings import Settings

POLL_SECONDS = 0.1
Code = Literal["backfill", "stale_cutoff", "champion_moved", "gate", "withdrawn", "approval", "rejected"]


@dataclass(frozen=True)
class Refusal:
    """Why a version may not become champion."""

    code: Code
    reason: str


@dataclass(frozen=True)
class Order:
    """Who makes this version champion, and why."""

    kind: Literal["promoted", "rolled_back"]
    reason: str
    by: str
    """A person, or the run."""
    run_id: str | None = None
    overruled: bool = False
    """A person did so against the verdict."""


def answering(rollout: Rollout) -> Variant | None:
    """The champion of a rollout."""
    return rollout.active.variants[0] if rollout.active else None


def law_of_time(cutoff: datetime, *others: Variant | None) -> Refusal | None:
    """Only a newer cut-off than the champion's, or the challenger's, may take its place."""
    for other in others:
        if other is not None and cutoff <= datetime.fromisoformat(other.cutoff):
            return Refusal(
                "stale_cutoff",
                f"refused: the cut-off {cutoff.isoformat()} is not newer than the {other.name}'s {other.cutoff} "
                f"(version {other.version}); use a later --cutoff, or `rollback` to go back on purpose",
            )
    return None


def refusal(
    register: RegisterRecord,
    context: RunContext,
    champion: Variant | None,
    ledger: Ledger,
    *,
    approval: bool,
    challenger: Variant | None = None,
) -> Refusal | None:
    """Why this version may not become champion by itself, or go on trial in the challenger's place; None: it may."""
    verdict = register.evaluate.verdict
    if context.kind == "backfill":
        return Refusal("backfill", f"refused: a backfill moves no traffic (its verdict was {verdict.decision})")
    late = law_of_time(context.cutoff, champion, challenger)
    if late is not None:
        return late
    moved = _moved(register, champion)
    if moved is not None:
        return moved
    if is_withdrawn(ledger, context.model, register.version):
        return Refusal(
            "withdrawn", f"refused: version {register.version} was rolled back; only a person can `promote` it again"
        )
    if verdict.decision != "PROMOTE":
        return Refusal("gate", f"{verdict.decision}: {'; '.join(verdict.reasons)}")
    return _unapproved(register, context.model, ledger) if approval else None


def _moved(register: RegisterRecord, champion: Variant | None) -> Refusal | None:
    if register.evaluate.champion == (champion.digest if champion else None):
        return None
    return Refusal(
        "champion_moved",
        "champion moved: another version answers now than the one it was judged against; run the stages again",
    )


def may_be_promoted(
    register: RegisterRecord, cutoff: datetime, champion: Variant | None, *, overrule: bool
) -> Refusal | None:
    """The laws that bind a person too. Only the gate's verdict can be overruled, and then it is written down."""
    against = _moved(register, champion) or law_of_time(cutoff, champion)
    if against is not None:
        return against
    verdict = register.evaluate.verdict
    if verdict.decision != "PROMOTE" and not overrule:
        told = f"{verdict.decision}: {'; '.join(verdict.reasons)}"
        return Refusal("gate", f"{told}; --overrule promotes it nevertheless, and the ledger will say so")
    return None


def is_withdrawn(ledger: Ledger, model: str, version: int | None) -> bool:
    """Whether the version was rolled back, as champion or in its trial, and no person has promoted it since."""
    lines = ledger.lines(model, "rolled_back", "withdrawn")
    back = [
        line for line in lines
        if version == (line.version if line.kind == "withdrawn" else line.body["from_version"])
    ]  # fmt: skip
    if not back:
        return False
    again = ledger.last(model, "promoted", version=version)
    return again is None or again.number < back[-1].number


def _unapproved(register: RegisterRecord, model: str, ledger: Ledger) -> Refusal | None:
    answer = ledger.last(model, "approved", "rejected", version=register.version)
    if answer is None or answer.body["champion"] != register.evaluate.champion:
        return Refusal(
            "approval",
            f"version {register.version} waits for a person: "
            f"`python -m pipeline approve {register.version} --model {model}` (or --reject)",
        )
    if answer.kind == "rejected":
        return Refusal("rejected", f"rejected by {answer.body['by']}: {answer.body['reason']}")
    return None


def variant_of(register: RegisterRecord, cutoff: datetime) -> Variant:
    """A registered version as the one that is to answer."""
    return Variant(
        name="champion",
        version=register.version,
        package=register.package,
        digest=register.digest,
        cutoff=cutoff.isoformat(),
        model_digest=register.evaluate.train.digest,
        judged_against=register.evaluate.champion_version,
    )


def roll_out(
    store: RolloutStore,
    rollout: Rollout,
    variant: Variant,
    order: Order,
    evidence: dict[str, Any],
    settings: Settings,
) -> Rollout:
    """Move the traffic to this version, or raise DeploymentFailed and leave all as it is.

    `rollout` is what was looked at when it was decided: where it is no longer so, "champion moved".
    Raises DeploymentFailed also where it is done, but a server is slow to follow; the message says so.
    """
    read_package(settings.home / variant.package)
    model, champion = rollout.model, answering(rollout)
    event = Event(model, order.kind, variant.version, {
        "digest": variant.digest, "package": variant.package, "cutoff": variant.cutoff,
        "from_version": champion.version if champion else None, "reason": order.reason, "by": order.by,
        "run_id": order.run_id, "overruled": order.overruled, "generation": rollout.generation + 2, **evidence,
    })  # fmt: skip
    with proven_on_servers(store, rollout, Plan("direct", (variant,)), settings) as generation:
        done = store.activate(model, generation, event, datetime.now(UTC), *superseded(rollout, variant, order.by))
    name_champion(model, variant.version, done.generation, settings)
    try:
        _wait(store, model, done.generation, settings.deploy_timeout_seconds, active=True)
    except DeploymentFailed as slow:
        raise DeploymentFailed(f"version {variant.version} is champion, but {slow}") from slow
    return done


@contextmanager
def proven_on_servers(store: RolloutStore, rollout: Rollout, plan: Plan, settings: Settings) -> Iterator[int]:
    """Stage a plan, wait until every live server has proven it, give its generation; whatever fails, take it back.

    Raises DeploymentFailed, also where another deployment came first.
    """
    model = rollout.model
    try:
        generation = store.stage(model, plan, rollout.generation).generation
        try:
            _wait(store, model, generation, settings.deploy_timeout_seconds, active=False)
            yield generation
        except (DeploymentFailed, KeyboardInterrupt):
            store.unstage_quietly(model, generation)
            raise
    except RolloutMoved as moved:
        raise DeploymentFailed(f"champion moved: {moved}; run the stages again to be judged against it") from moved


def superseded(rollout: Rollout, variant: Variant, by: str) -> list[Event]:
    """The line for a challenger whose trial ends because another version comes; none where nothing is on trial."""
    challenger = rollout.active.challenger if rollout.active else None
    if challenger is None or challenger.version == variant.version:
        return []
    return [Event(rollout.model, "superseded", challenger.version, {
        "by": by, "reason": f"version {variant.version} takes its place", "digest": challenger.digest,
        "superseded_by": variant.version,
    })]  # fmt: skip


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
