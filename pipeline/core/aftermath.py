"""What became of a promotion: whether it helped, and whether it should be undone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.core.situation import Drop, Policy, Situation
from pipeline.core.verdict import Difference

BEYOND_LOOKS = 3.0
"""Standard errors that the second of two witnesses has to be ahead by, looked at every day."""
UNMISTAKABLE = 4.5
"""Standard errors from which a predecessor's lead needs no second witness: one-sided 3.4e-6 a look, so looking every
day of a year errs in 0.1 % of years."""


@dataclass(frozen=True)
class Help:
    """Whether a retraining helped; None: not yet known."""

    helped: bool | None
    reason: str


def did_it_help(before: Drop | None, after: Drop | None, previous: Difference | None, min_gain: float = 0.0) -> Help:
    """Whether the champion that a retraining made is better than the one it replaced.

    `previous`: the replaced champion on fresh rows that both answered, positive where it is better. Where that
    decides it decides alone: both met the same world. Else the drop before is held against the drop after, both from
    the registration of the replaced champion, both realised or both estimated, on rows of different days; the
    interval of the difference is made of theirs (Zou & Donner, Statistics in Medicine 27, 2008).

    `min_gain`, as a share of the registered error: a gain that is smaller beyond doubt is none.

    >>> did_it_help(Drop(0.30, 0.22, 0.38), Drop(0.05, -0.02, 0.12), None).helped
    True
    >>> did_it_help(Drop(0.30, 0.22, 0.38), Drop(0.28, 0.16, 0.40), None).helped is None
    True
    >>> did_it_help(None, None, Difference(-0.03, -0.05, -0.01, 0.01, "DeLong", 900)).helped
    True
    """
    if previous is not None and previous.low > 0:
        return Help(False, f"the replaced champion is better by {_gap(previous)} on the same rows")
    if previous is not None and previous.high < 0:
        return Help(True, f"better than the replaced champion by {_gap(previous, -1)} on the same rows")
    if before is None or after is None:
        return Help(None, "the performance before or after it is not known")
    if not (before.mature and after.mature):
        return Help(None, "the labels are not mature yet")
    if before.source != after.source:
        return Help(None, f"{before.source} before cannot be held against {after.source} after")
    gain = before.value - after.value
    low = gain - math.hypot(before.value - before.low, after.high - after.value)
    high = gain + math.hypot(before.high - before.value, after.value - after.low)
    told = f"{before} before, {after} after: a gain of {gain:+.1%} (interval {low:+.1%} to {high:+.1%})"
    if low > 0 and gain >= min_gain:
        return Help(True, f"{told}: it helped")
    if high < min_gain or high <= 0:
        return Help(False, f"{told}: it did not help")
    return Help(None, f"{told}: unclear")


def undoing(situation: Situation, policy: Policy) -> str | None:
    """The reason to let the predecessor answer again; None: there is none.

    Two witnesses: labels show the champion worse than it was registered beyond doubt, and on the same fresh rows its
    predecessor is better by three standard errors, since it is looked at every day. Or one that is unmistakable: a
    champion that was bad when it was registered, such as one forced past the gate, does not fall below that.
    """
    gap, drop, champion = situation.previous, situation.realised, situation.champion
    if gap is None or champion is None or gap.degrees + 1 < policy.min_rows:
        return None
    better = f"on the same fresh rows its predecessor is better by {_gap(gap)}"
    answers = f"the champion that answers since {champion.since:%Y-%m-%d %H:%M}"
    fell = drop is not None and drop.mature and drop.source == "realised" and drop.low > 0
    if fell and gap.value - BEYOND_LOOKS * gap.standard_error > policy.min_regress:
        return f"{answers} is worse than at registration, {drop}; {better}"
    if gap.value - UNMISTAKABLE * gap.standard_error > policy.min_regress:
        return f"{answers} is bad: {better}, more than {UNMISTAKABLE:g} standard errors: unmistakable by itself"
    return None


def _gap(gap: Difference, sign: int = 1) -> str:
    low, high = sorted((sign * gap.low, sign * gap.high))
    return f"{sign * gap.value:.4f} (interval {low:+.4f} to {high:+.4f})"
