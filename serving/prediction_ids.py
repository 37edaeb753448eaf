"""Names of answers: 32 hexadecimal digits that begin with the time, so that the name tells the day."""

from __future__ import annotations

import os

ROW_DIGITS = 6
"""Of the row in a batch: 16.8 million rows."""
_HELD = 256
_tails: list[str] = []
"""Random bits drawn ahead, 20 digits each: a draw costs more than a thousand slices."""
_after_fork: list[bool] = []


def new_prediction_id(now: float) -> str:
    """32 hexadecimal digits: milliseconds since 1970 in 12, then 80 random bits.

    >>> new_prediction_id(1_700_000_000.0)[:12]
    '018bcfe56800'
    """
    try:
        return "%012x" % int(now * 1000) + _tails.pop()  # noqa: UP031 (half the time of format's)
    except IndexError:
        return "%012x" % int(now * 1000) + _drawn()  # noqa: UP031


def new_batch_prefix(now: float) -> str:
    """26 hexadecimal digits: milliseconds since 1970 in 12, then 56 random bits; the row's 6 digits follow.

    >>> len(new_batch_prefix(1_700_000_000.0) + row_digits(7))
    32
    """
    return new_prediction_id(now)[: 32 - ROW_DIGITS]


def row_digits(row: int) -> str:
    """The end of the name of a batch's row.

    >>> row_digits(999)
    '0003e7'
    """
    return f"{row:0{ROW_DIGITS}x}"


def _drawn() -> str:
    if not _after_fork:
        # Two processes must not draw from one store.
        os.register_at_fork(after_in_child=_tails.clear)
        _after_fork.append(True)
    digits = os.urandom(10 * _HELD).hex()
    _tails.extend(digits[start : start + 20] for start in range(20, 20 * _HELD, 20))
    return digits[:20]
