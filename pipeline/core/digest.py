"""Digests: equal content, equal name."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest_of(*parts: Any) -> str:
    """SHA-256 over the canonical JSON of the parts, as 32 hexadecimal digits.

    Raises TypeError for a part that is no JSON, ValueError for NaN or infinity.

    >>> digest_of({"b": 1, "a": 2}) == digest_of({"a": 2, "b": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
