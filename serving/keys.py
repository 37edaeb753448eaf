"""API keys: who may ask. The service knows their hashes only.

A key is random and long, so a fast hash is enough: there is no dictionary to try.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

from pipeline.errors import BadConfiguration

HASH = re.compile(r"[0-9a-f]{64}")


def hashed(key: str | bytes) -> str:
    """SHA-256 of a key: what EVERGREEN_API_KEYS holds.

    >>> hashed("abc")[:8]
    'ba7816bf'
    """
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).hexdigest()


class Keys:
    """The keys that open the doors."""

    def __init__(self, hashes: Sequence[str]) -> None:
        """`hashes`: as `hashed` gives them; none: no key is asked for. Raises BadConfiguration for what is no hash."""
        for one in hashes:
            if not HASH.fullmatch(one):
                raise BadConfiguration(
                    "EVERGREEN_API_KEYS holds something that is no SHA-256 in hexadecimal; "
                    "make one with `printf %s KEY | sha256sum`"
                )
        self._hashes = [one.encode() for one in hashes]
        self.required = bool(hashes)

    def allow(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether the request brings one of them. Takes the same time whichever it is, and where it is none."""
        given = headers.get(b"x-api-key")
        if given is None:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer":
                return False
        digest = hashed(given.strip()).encode()
        found = [hmac.compare_digest(digest, known) for known in self._hashes]
        return any(found)
