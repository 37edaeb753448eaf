"""Which variant answers whom: the same user always meets the same one."""

from __future__ import annotations

import random
from dataclasses import dataclass

from pipeline.core.buckets import bucket
from pipeline.core.predictor import Predictor
from pipeline.rollout import Plan, Strategy, Variant


@dataclass(frozen=True, eq=False)
class Served:
    """A variant with what computes its answers."""

    variant: Variant
    predictor: Predictor
    form: str


@dataclass(frozen=True)
class Route:
    """Everything that one generation of a rollout answers with; swapped whole, by one assignment."""

    model: str
    generation: int
    served: tuple[Served, ...]
    """The champion; behind it the challenger, where one is on trial and could be loaded."""
    strategy: Strategy = "direct"
    share: float = 0.0
    """Of the users that meet the challenger; 0 where there is none to meet."""
    salt: str = ""

    def choose(self, user_id: str | None) -> Served:
        """The variant for this user; of a request of nobody, one at random."""
        if not self.share:
            return self.served[0]
        place = bucket(user_id, self.salt) if user_id else random.random()
        return self.served[1 if place < self.share else 0]

    @property
    def challenger(self) -> Served | None:
        """What is on trial beside the champion, where it could be loaded."""
        return self.served[1] if len(self.served) > 1 else None

    @property
    def shadow(self) -> Served | None:
        """What answers the same rows, unseen."""
        return self.challenger if self.strategy == "shadow" else None

    def named(self, name: str) -> Served | None:
        """The variant of this name, `champion` or `challenger`."""
        return next((one for one in self.served if one.variant.name == name), None)


def route_of(model: str, generation: int, plan: Plan, served: tuple[Served, ...]) -> Route:
    """The route of a plan; without its challenger, where that could not be loaded, the champion answers everybody."""
    share = plan.share if len(served) > 1 and plan.strategy in ("canary", "ab") else 0.0
    return Route(model, generation, served, plan.strategy, share, plan.salt)
