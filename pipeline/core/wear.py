"""Holdout wear: rows that judged many candidates find one that is good by luck, unless more is asked each time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from pipeline.core.verdict import Wear


def wear(shares: Iterable[float], confidence: float) -> Wear:
    """What these rows must ask of one more candidate, after others were judged on them.

    `shares`: for every other candidate before this one, the share of its rows that are among these, 0 to 1.
    The k-th candidate gets 1/k**2 of the chance of error. However many there are, the chance that one no better
    than the champion is ever promoted stays below 1 - confidence, since the sum over all k of (1 - confidence) / 2
    / k**2 is (1 - confidence) * pi**2 / 12 (alpha spending by a union bound, as Foster & Stine, Journal of the
    Royal Statistical Society B 70, 2008, spend theirs).

    >>> wear([], 0.95)
    Wear(candidates=1.0, confidence=0.95)
    >>> round(wear([1.0] * 9, 0.95).confidence, 4)
    0.9995
    """
    candidates = 1.0 + math.fsum(shares)
    return Wear(candidates, 1 - (1 - confidence) / candidates**2)


def overlap(window: tuple[str | None, str | None], other: tuple[str | None, str | None]) -> float:
    """Share of the other window's time that lies in this one; 1 where there are no instants to tell by.

    >>> overlap(("2026-01-01", "2026-03-02"), ("2026-01-31", "2026-04-01"))
    0.5
    """
    start, end, begin, until = (None if text is None else datetime.fromisoformat(text) for text in (*window, *other))
    if start is None or end is None or begin is None or until is None:
        return 1.0
    length = (until - begin).total_seconds()
    if length <= 0:
        return 1.0 if start <= begin <= end else 0.0
    shared = (min(end, until) - max(start, begin)).total_seconds()
    return max(0.0, shared) / length
