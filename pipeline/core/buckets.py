"""A stable place for everybody: who meets which variant."""

from __future__ import annotations

import hashlib


def bucket(user_id: str, salt: str) -> float:
    """A stable place in [0, 1): the first 53 bits of SHA-256 over `salt:user_id` in UTF-8, over 2**53.

    The same in every language and every process, unlike Python's hash(); a double holds it exactly. Which users are
    below a share is independent between salts. `docs/rollouts.md` tells it in words, with test vectors.

    >>> round(bucket("user-1", "churn"), 6)
    0.758364
    """
    digest = hashlib.sha256(f"{salt}:{user_id}".encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
