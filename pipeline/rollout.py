"""Rollouts: which version answers, told to the servers through the database.

Two phases. A plan is *staged*: every live server loads its package beside the one that answers, reproduces
the golden rows and reports ready. Then it is *activated*, and each server swaps by one assignment. Until
then nothing changes for anyone; on failure the plan is *unstaged*.

A plan whose packages are all loaded already, such as a larger share, is *moved* to at once.

Every change is a compare-and-set on the generation, which only grows; who comes second is told RolloutMoved.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from pipeline.database import Database, tables
from pipeline.errors import DeploymentFailed
from pipeline.ledger import Event, append

LIVE_SECONDS = 20.0
"""A server that has not reported for longer counts as gone; loading a package takes less."""
LABELS_AT_ONCE = 50_000

rollouts = sa.Table(
    "evergreen_rollout",
    tables,
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("active", sa.Text),
    sa.Column("staged", sa.Text),
)
servers = sa.Table(
    "evergreen_server",
    tables,
    sa.Column("server_id", sa.String(128), primary_key=True),
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("staged_state", sa.String(16), nullable=False),
    sa.Column("active_version", sa.Integer),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("heartbeat", sa.Float, nullable=False),
)
feedback = sa.Table(
    "evergreen_feedback",
    tables,
    sa.Column("prediction_id", sa.String(64), primary_key=True),
    sa.Column("actual", sa.Text, nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("times", sa.Integer, nullable=False),
)


class RolloutMoved(DeploymentFailed):
    """Another deployment changed the rollout first."""


@dataclass(frozen=True)
class Variant:
    """A version that answers, or is to answer."""

    name: str
    version: int
    package: str
    """Folder of the model package, relative to the state folder."""
    digest: str
    model_digest: str
    """SHA-256 of the model file inside."""
    cutoff: str
    judged_against: int | None
    """Version of the champion that it was judged against."""


Strategy = Literal["direct", "shadow", "canary", "ab"]
CHAMPION, CHALLENGER = "champion", "challenger"
"""Names of variants. The first variant of a plan is the champion."""


@dataclass(frozen=True)
class Plan:
    """How traffic is shared."""

    strategy: Strategy
    variants: tuple[Variant, ...]
    """The champion; behind it the challenger, while one is on trial."""
    share: float = 0.0
    """Of the users that meet the challenger, in [0, 1); 0 in shadow."""
    salt: str = ""
    """Of the hash that decides who does; the same for the whole life of a rollout, so that a share only grows."""
    step: int = 0
    """Number of the step, from 0."""
    began: float = 0.0
    """When the step began, seconds since 1970."""

    @property
    def challenger(self) -> Variant | None:
        """What is on trial beside the champion."""
        return self.variants[1] if len(self.variants) > 1 else None


@dataclass(frozen=True)
class Rollout:
    """What answers for a model, and what is about to."""

    model: str
    generation: int = 0
    active: Plan | None = None
    staged: Plan | None = None


StagedState = Literal["none", "ready", "failed"]


@dataclass(frozen=True)
class ServerStatus:
    """What one server says of one model."""

    server_id: str
    model: str
    generation: int
    """The generation of the rollout that it has carried out."""
    staged_state: StagedState
    active_version: int | None
    detail: str = ""


@dataclass(frozen=True)
class Label:
    """What really became of a prediction."""

    prediction_id: str
    actual: str
    """As JSON."""
    received_at: float
    """Seconds since 1970, of the last time that it was told."""


class RolloutStore:
    """The rollouts, the servers and the labels that came back, in Evergreen's database."""

    def __init__(self, url: str) -> None:
        """`url` is SQLAlchemy's; SQLite and PostgreSQL are supported. Nothing is opened yet."""
        self.url = url
        self._database = Database(url)

    def get(self, model: str) -> Rollout:
        """The rollout of a model; an empty one before its first deployment."""
        with self._database.transaction() as connection:
            row = connection.execute(sa.select(rollouts).where(rollouts.c.model == model)).one_or_none()
        return Rollout(model) if row is None else _rollout(row)

    def all(self) -> dict[str, Rollout]:
        """The rollout of every model that has one, by name."""
        with self._database.transaction() as connection:
            rows = connection.execute(sa.select(rollouts).order_by(rollouts.c.model)).all()
        return {row.model: _rollout(row) for row in rows}

    def stage(self, model: str, plan: Plan, generation: int) -> Rollout:
        """Put a plan before the servers; the active one goes on answering."""
        return self._change(model, generation, {"staged": json.dumps(asdict(plan))}, may_be_first=True)

    def activate(self, model: str, generation: int, event: Event, now: datetime, *more: Event) -> Rollout:
        """Let the staged plan answer, and write it into the ledger: both or neither."""
        values = {"active": rollouts.c.staged, "staged": None}
        return self._change(model, generation, values, events=(event, *more), now=now)

    def move(self, model: str, plan: Plan, generation: int, event: Event, now: datetime, *more: Event) -> Rollout:
        """Share the traffic otherwise among packages that the servers hold already; what is staged is dropped."""
        values = {"active": json.dumps(asdict(plan)), "staged": None}
        return self._change(model, generation, values, events=(event, *more), now=now)

    def unstage(self, model: str, generation: int) -> Rollout:
        """Take the staged plan back."""
        return self._change(model, generation, {"staged": None})

    def unstage_quietly(self, model: str, generation: int) -> None:
        """Take the staged plan back, if it is still the one of this generation."""
        with suppress(RolloutMoved):
            self.unstage(model, generation)

    def report(self, status: ServerStatus) -> None:
        """A server's word on one model; it also tells that the server lives."""
        values = asdict(status) | {"heartbeat": time.time()}
        which = (servers.c.server_id == status.server_id) & (servers.c.model == status.model)
        with self._database.transaction(writes=True) as connection:
            if connection.execute(sa.update(servers).where(which).values(values)).rowcount == 0:
                connection.execute(sa.insert(servers).values(values))

    def servers(self, model: str) -> list[ServerStatus]:
        """Live servers of a model."""
        live = (servers.c.model == model) & (servers.c.heartbeat > time.time() - LIVE_SECONDS)
        with self._database.transaction() as connection:
            rows = connection.execute(sa.select(servers).where(live).order_by(servers.c.server_id)).all()
        return [
            ServerStatus(r.server_id, r.model, r.generation, r.staged_state, r.active_version, r.detail) for r in rows
        ]

    def forget(self, server_id: str) -> None:
        """A server leaves; deployments do not wait for it any more."""
        with self._database.transaction(writes=True) as connection:
            connection.execute(sa.delete(servers).where(servers.c.server_id == server_id))

    def take_feedback(self, prediction_id: str, actual: Any, received_at: float | None = None) -> bool:
        """Keep the label of a prediction; the same prediction again replaces it. True the first time.

        `received_at`: seconds since 1970; now where it is left out.
        """
        which = feedback.c.prediction_id == prediction_id
        values = {"actual": json.dumps(actual), "received_at": time.time() if received_at is None else received_at}
        try:
            with self._database.transaction(writes=True) as connection:
                # The same label told again became known when it was told first.
                first = sa.case(
                    (feedback.c.actual == values["actual"], feedback.c.received_at), else_=values["received_at"]
                )
                again = (
                    sa.update(feedback)
                    .where(which)
                    .values(values | {"received_at": first, "times": feedback.c.times + 1})
                )
                if connection.execute(again).rowcount:
                    return False
                connection.execute(sa.insert(feedback).values(values | {"prediction_id": prediction_id, "times": 1}))
                return True
        except IntegrityError:  # the same label through two servers at once: the other was first
            return self.take_feedback(prediction_id, actual, received_at)

    def labels(self, since: float, until: float) -> Iterator[list[Label]]:
        """Labels that came between two instants, both included, in pieces; seconds since 1970."""
        query = sa.select(feedback.c.prediction_id, feedback.c.actual, feedback.c.received_at).where(
            feedback.c.received_at.between(since, until)
        )
        with self._database.transaction() as connection:
            found = connection.execution_options(yield_per=LABELS_AT_ONCE).execute(query)
            for rows in found.partitions():
                yield [Label(*row) for row in rows]

    def feedback_count(self) -> int:
        """Predictions whose label is known."""
        with self._database.transaction() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(feedback)).scalar_one())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def _change(
        self,
        model: str,
        generation: int,
        values: dict[str, Any],
        *,
        may_be_first: bool = False,
        events: Sequence[Event] = (),
        now: datetime | None = None,
    ) -> Rollout:
        """Compare-and-set: only who names the current generation changes it."""
        new = {**values, "generation": generation + 1}
        which = (rollouts.c.model == model) & (rollouts.c.generation == generation)
        try:
            with self._database.transaction(writes=True) as connection:
                if connection.execute(sa.update(rollouts).where(which).values(new)).rowcount == 0:
                    if generation != 0 or not may_be_first:
                        raise RolloutMoved(f"the rollout of {model} is no longer at generation {generation}")
                    connection.execute(sa.insert(rollouts).values({"model": model, **new}))
                for event in events:
                    append(connection, event, now or datetime.now(UTC))
                row = connection.execute(sa.select(rollouts).where(rollouts.c.model == model)).one()
        except IntegrityError:
            raise RolloutMoved(f"the rollout of {model} is no longer at generation {generation}") from None
        return _rollout(row)


def _rollout(row: Any) -> Rollout:
    return Rollout(row.model, row.generation, _plan(row.active), _plan(row.staged))


def _plan(text: str | None) -> Plan | None:
    if text is None:
        return None
    content = json.loads(text)
    return Plan(**{**content, "variants": tuple(Variant(**variant) for variant in content["variants"])})
