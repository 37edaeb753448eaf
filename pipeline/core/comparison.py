"""Candidate against champion: better by enough, beyond doubt; if not yet, how many labels would tell."""

from __future__ import annotations

import math

from pipeline.core.gate_rules import GateRules
from pipeline.core.metric_names import MONEY, higher_is_better
from pipeline.core.paired import quantile
from pipeline.core.verdict import Check, Difference, Evidence, Wear

NEVER = 10_000_000
"""More labels than this are no plan."""


def comparison(gap: Difference, mine: float, theirs: float, evidence: Evidence, rules: GateRules) -> Check:
    """Better than the champion, beyond doubt; or not worse beyond the margin, where that is enough.

    `mine`, `theirs`: the primary metric of candidate and champion on the rows that compare them.
    """
    assert evidence.wear is not None
    name, wear = rules.primary, evidence.wear
    rows = f"{evidence.compared_rows:,} rows"
    if evidence.compared_rows != evidence.rows:
        rows = f"{evidence.compared_rows:,} of {evidence.rows:,} rows, which neither was trained on"
    told = (
        f"{name} {mine:.4f} against the champion's {theirs:.4f}: "
        f"{'better' if gap.value >= 0 else 'worse'} by {abs(gap.value):.4f} "
        f"({rules.confidence:.0%} interval {gap.low:+.4f} to {gap.high:+.4f}, {gap.method}, {rows})"
    )
    goal = goal_of(rules, theirs)
    asked = quantile(wear.confidence, gap.degrees) * gap.standard_error
    worn = ""
    if wear.candidates > 1:
        worn = (
            f"; these rows have judged {wear.candidates:.1f} candidates, so {wear.confidence:.4%} confidence is asked"
        )
    enough = f"better beyond doubt by more than {goal:.4f}, from where on a gain matters"
    too_little = f"no gain of {goal:.4f}, from where on it matters"
    if rules.require == "non_inferiority":
        enough = f"not worse than the margin of {rules.margin:g} allows"
        too_little = f"worse than the margin of {rules.margin:g} allows"
    if gap.standard_error == 0 and gap.value == 0 and goal >= 0:
        return Check("comparison", name, "fail", f"{told}: it gives the champion's answers, so nothing is gained")
    if gap.value - asked > goal:
        return Check("comparison", name, "pass", f"{told}: {enough}{worn}")
    if gap.high < goal:
        return Check("comparison", name, "fail", f"{told}: {'worse than the champion' if gap.high < 0 else too_little}")
    needed = evidence.labels_needed
    settle = "no number of labels would settle so small a difference"
    if needed is not None:
        settle = f"about {float(f'{needed:.2g}'):,.0f} further labels would settle it at this difference"
    return Check("comparison", name, "unclear", f"{told}: unclear{worn}; {settle}")


def goal_of(rules: GateRules, champion: float) -> float:
    """The difference that the candidate must be above; `champion` is its value of the primary metric.

    Two models of one recipe and different seeds differ in truth, if only a little; a gain of that size is no
    reason to change what answers. So superiority begins at a share of the champion's error: of the value itself
    for errors and losses, of what is missing to 1 for scores.

    >>> round(goal_of(GateRules("roc_auc", {}, min_gain=0.02), 0.80), 4)
    0.004
    """
    if rules.require == "non_inferiority":
        return -rules.margin
    name = rules.primary
    error = abs(champion) if name == MONEY or not higher_is_better(name) else 1 - champion
    return rules.min_gain * error


def labels_needed(gap: Difference, goal: float, rows: int, rules: GateRules, wear: Wear | None) -> int | None:
    """Further labels after which the interval would leave the goal, were the difference what it is now.

    The standard error falls with the root of the rows. None: more than anyone will wait for.

    >>> gap = Difference(0.01, -0.0096, 0.0296, 0.01, "DeLong", 4999)
    >>> labels_needed(gap, 0.0, 5000, GateRules("roc_auc", {}), None)
    14218
    """
    distance = gap.value - goal
    confidence = wear.confidence if wear and distance > 0 else rules.confidence
    reach = quantile(confidence, gap.degrees) * gap.standard_error
    if reach < abs(distance):
        return 0
    if abs(distance) * math.sqrt(NEVER) <= reach * math.sqrt(rows):
        return None
    return math.ceil(rows * ((reach / distance) ** 2 - 1)) + 1
