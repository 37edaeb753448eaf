"""Which variant answers whom: the same user always meets the same one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pipeline.core.predictor import Predictor
from pipeline.rollout import Variant


@dataclass(frozen=True)
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

    def choose(self, user_id: str | None) -> Served:
        """The variant for this user. With the strategy `direct` there is one."""
        return self.served[0]


def bucket(user_id: str, salt: str) -> float:
    """A stable place in [0, 1): the first 8 bytes of SHA-256 over `salt:user_id`, big-endian, over 2**64.

    The same in every language and every process, unlike Python's hash().

    >>> round(bucket("user-1", "churn"), 6)
    0.758364
    """
    digest = hashlib.sha256(f"{salt}:{user_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
