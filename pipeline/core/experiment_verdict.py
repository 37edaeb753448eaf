"""Champion and challenger on live traffic: go a step further, wait, go back, or promote; with every reason.

All tests hold however often one looks (`experiment_tests`), so that a rollout may be judged after every batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from pipeline.core.experiment import Arms, Decision, RolloutPolicy, RolloutVerdict, Step
from pipeline.core.experiment_tests import Estimate, difference, mean, mismatch, more_often, units_needed
from pipeline.core.metric_names import higher_is_better

SRM_LEVEL = 0.01
"""Chance of a false alarm about the shares, over a whole rollout."""
GUARDS = 3
"""Failed answers, slow answers, calibration: half of the chance of a false roll-back is theirs."""
FAILED_RATIO, SLOW_RATIO = 1.5, 2.0
"""How many times as often as with the champion an answer may fail, or be slower than its 99th percentile: a model
twice as slow has many times the slow answers, a noisy machine seldom twice."""
CALIBRATION_TOLERANCE = 0.05
"""How much farther from what came true probabilities may be, on average."""
FEWEST_UNITS = 30
"""Labelled units in each arm below which no interval is made: it stands on the central limit theorem."""
MOST_BOTH = 0.05
"""Share of the challenger's users who also met the champion, beyond which the arms are no arms."""


def judge(arms: Arms, policy: RolloutPolicy, step: Step) -> RolloutVerdict:
    """Judge one step, from what happened since it began.

    Roll back: the challenger is worse beyond doubt, in the metric or against a guard. Hold: the shares are not what
    was asked for, so that no comparison can be trusted; or it is too early; or the harm still possible is too large.
    Advance: the harm that is still possible on all traffic at the next share is within the margin. So a ramp goes fast
    where little can be lost, and its last step asks of the whole what the gate's non-inferiority asks. `ab`: promote
    where the challenger is better beyond doubt.

    Each step has its part of `alpha`, so the steps together keep it.
    """
    return _Judgement(arms, policy, step).verdict()


def _weight(looked_at: float) -> float:
    """Part of the error probability for looks at this share of the units, a power of one half.

    Each look may be at any number of units, but all at one growing set of them. Where a step becomes too large and its
    half is looked at, another set begins: the error probabilities of all that can follow, .9, .09, .009, ..., sum to 1.

    >>> [round(_weight(share), 4) for share in (1, 0.5, 0.25)]
    [0.9, 0.09, 0.009]
    """
    return 0.9 * 10 ** math.log2(looked_at)


class _Judgement:
    """One look at one step."""

    def __init__(self, arms: Arms, policy: RolloutPolicy, step: Step) -> None:
        self.arms, self.policy, self.step = arms, policy, step
        self.weight = _weight(arms.looked_at)
        alpha = policy.alpha / policy.steps * self.weight
        self.guard_level = alpha / 2 / GUARDS
        self.interval_level = alpha  # two-sided: the side that rolls back has half of it
        self.better = 1 if higher_is_better(policy.metric) else -1
        self.figures: dict[str, float] = dict(self._counts())
        self.gap = self._gap()

    def verdict(self) -> RolloutVerdict:
        """The first of these that holds."""
        broken = [*self._failed(), *self._slow()]
        if broken:
            return self._said("roll_back", *broken)
        split = self._mismatch()
        if split:
            return self._said("hold", *split)
        worse = [*self._worse(), *self._calibration()]
        if worse:
            return self._said("roll_back", *worse)
        early = list(self._early())
        if early:
            return self._said("hold", *early)
        return self._weighed()

    def _said(self, decision: Decision, *reasons: str, **more: float | None) -> RolloutVerdict:
        needed = more.get("labels_needed")
        return RolloutVerdict(decision, reasons, more.get("next_share"), None if needed is None else int(needed),
                              self.figures)  # fmt: skip

    def _counts(self) -> Iterator[tuple[str, float]]:
        yield "hours", self.step.hours
        for name, arm in (("champion", self.arms.champion), ("challenger", self.arms.challenger)):
            yield f"{name}_units", arm.units
            yield f"{name}_answers", arm.answers
            yield f"{name}_failed_units", arm.failed
            yield f"{name}_slow_units", arm.slow
            yield f"{name}_labelled_units", arm.metric.units
            yield f"{name}_metric", arm.metric.mean
        yield "users_in_both", self.arms.both
        yield "displaced_units", self.arms.displaced
        yield "looked_at", self.arms.looked_at

    @property
    def _margin(self) -> float:
        """In units of the metric."""
        return self.policy.margin * abs(self.arms.champion.metric.mean)

    @property
    def _exposed(self) -> float:
        """Share of the users that will meet the challenger if it goes on."""
        return self.policy.after(self.step.share) or 1.0

    @property
    def _width(self) -> float:
        """The difference that this step has to tell from none: there the interval is tightest."""
        return (self._margin or self.policy.margin) / self._exposed

    def _labelled(self) -> int:
        if self.arms.paired is not None:
            return self.arms.paired.units
        return min(self.arms.champion.metric.units, self.arms.challenger.metric.units)

    def _gap(self) -> Estimate | None:
        """Challenger less champion, positive where the challenger is better; None: too few to tell."""
        if self._labelled() < FEWEST_UNITS:
            return None
        scale = self._width
        if self.arms.paired is not None:
            found = mean(self.arms.paired, scale, self.interval_level)
        else:
            found = difference(self.arms.challenger.metric, self.arms.champion.metric, scale, self.interval_level)
        if self.better < 0:
            found = Estimate(-found.value, -found.high, -found.low, found.variance)
        self.figures |= {"difference": found.value, "difference_low": found.low, "difference_high": found.high,
                         "margin": self._margin}  # fmt: skip
        return found

    def _told(self) -> str:
        assert self.gap is not None
        champion, challenger = self.arms.champion.metric, self.arms.challenger.metric
        way = "better" if self.gap.value >= 0 else "worse"
        paired = "paired, " if self.arms.paired is not None else ""
        units = f"{self._labelled():,} pairs" if paired else f"{challenger.units:,} and {champion.units:,} units"
        return (
            f"{self.policy.metric} {challenger.mean:.4f} against the champion's {champion.mean:.4f}: {way} by "
            f"{abs(self.gap.value):.4f} (interval {self.gap.low:+.4f} to {self.gap.high:+.4f} at all looks together, "
            f"{paired}{units})"
        )

    def _events(self, what: str, challenger: int, champion: int, ratio: float) -> Iterator[str]:
        ours, theirs = self.arms.challenger.units, self.arms.champion.units
        if not ours or not theirs:
            return
        p_value = more_often(challenger, champion, ours / (ours + theirs), ratio)
        self.figures[f"{what}_p"] = p_value
        if p_value <= self.guard_level:
            yield (
                f"{what} answers: {challenger:,} of {ours:,} units with the challenger, {champion:,} of {theirs:,} "
                f"with the champion: more than {ratio:g} times as often beyond doubt (p = {p_value:.2g})"
            )

    def _failed(self) -> Iterator[str]:
        yield from self._events("failed", self.arms.challenger.failed, self.arms.champion.failed, FAILED_RATIO)

    def _slow(self) -> Iterator[str]:
        if self.step.share > 0:  # in shadow answers are not timed as they are for callers
            yield from self._events("slow", self.arms.challenger.slow, self.arms.champion.slow, SLOW_RATIO)

    def _mismatch(self) -> list[str]:
        """Sample-ratio mismatch, and users who met both arms."""
        if self.step.share <= 0:
            return []
        ours, theirs, both = self.arms.challenger.units, self.arms.champion.units, self.arms.both
        p_value = mismatch(ours, theirs, self.step.share)
        self.figures["srm_p"] = p_value
        if p_value <= SRM_LEVEL / self.policy.steps * self.weight:
            share = ours / (ours + theirs)
            return [
                f"sample-ratio mismatch: {ours:,} of {ours + theirs:,} units, {share:.2%}, met the challenger where "
                f"{self.step.share:.2%} was asked for (p = {p_value:.2g}): answers are missing or users are routed "
                "otherwise, so that the arms cannot be compared; look for servers that lack the challenger, and for "
                "losses of the prediction log"
            ]
        if both > MOST_BOTH * max(ours, 1) and both >= FEWEST_UNITS:
            return [f"{both:,} users met both variants, beside {ours:,} units of the challenger's: they are not sticky"]
        return []

    def _worse(self) -> Iterator[str]:
        if self.gap is not None and self.gap.high < 0 and not self.gap.low >= -self._margin:
            yield f"{self._told()}: worse beyond doubt"

    def _calibration(self) -> Iterator[str]:
        ours, theirs = self.arms.challenger.calibration, self.arms.champion.calibration
        if ours is None or theirs is None or min(ours.units, theirs.units) < FEWEST_UNITS:
            return
        level = self.guard_level / 2
        mine = mean(ours, CALIBRATION_TOLERANCE, level, theirs)
        other = mean(theirs, CALIBRATION_TOLERANCE, level, ours)
        least = max(0.0, mine.low, -mine.high)
        most = max(abs(other.low), abs(other.high))
        self.figures |= {"challenger_bias": mine.value, "champion_bias": other.value}
        if least > most + CALIBRATION_TOLERANCE:
            yield (
                f"calibration: the challenger's probabilities are off by {mine.value:+.3f} on average (interval "
                f"{mine.low:+.3f} to {mine.high:+.3f}), the champion's by {other.value:+.3f}: farther off beyond doubt"
            )

    def _early(self) -> Iterator[str]:
        policy, challenger = self.policy, self.arms.challenger
        if self.step.hours < policy.min_hours:
            yield f"the step is {self.step.hours:.1f} hours old, {policy.min_hours:g} are asked for"
        if challenger.answers < policy.min_requests:
            yield f"the challenger answered {challenger.answers:,} requests, {policy.min_requests:,} are asked for"
        if self._labelled() < policy.min_labels:
            which = "pairs" if self.arms.paired is not None else "units in the smaller arm"
            yield f"{self._labelled():,} labelled {which}, {policy.min_labels:,} are asked for"

    def _weighed(self) -> RolloutVerdict:
        following = self.policy.after(self.step.share)
        onward: Decision = "promote" if following is None else "advance"
        if self.gap is None:
            if self.policy.min_labels > 0:
                return self._said("hold", f"{self._labelled():,} labelled units are too few to compare")
            told = "no guard was broken; too few labels are known to compare, and the model file asks for none"
            return self._said(onward, told, next_share=following)
        exposed = self._exposed
        goal = 0.0 if self.policy.strategy == "ab" else -self._margin / exposed
        if self.gap.low > goal or (self.gap.low >= goal and goal < 0):
            enough = "better beyond doubt"
            if self.policy.strategy != "ab":
                enough = f"the loss that is still possible at a share of {exposed:.0%} is within the margin of " \
                         f"{self.policy.margin:.0%}"  # fmt: skip
            return self._said(onward, f"{self._told()}: {enough}", next_share=following)
        needed = self._needed(goal)
        settle = "no number of labels would settle so small a difference"
        if needed is not None:
            settle = f"about {float(f'{needed:.2g}'):,.0f} further labelled units would settle it at this difference"
        unclear = "not better beyond doubt"
        if goal < 0:
            unclear = f"a loss of {-self.gap.low:.4f} is still possible, {-goal:.4f} may be at a share of {exposed:.0%}"
        return self._said("hold", f"{self._told()}: {unclear}; {settle}", labels_needed=needed)

    def _needed(self, goal: float) -> int | None:
        """Until the interval lies above the goal, or below 0, whichever comes first."""
        assert self.gap is not None
        units = self._labelled() if self.arms.paired is not None else (
            self.arms.champion.metric.units + self.arms.challenger.metric.units)  # fmt: skip
        ways = [
            units_needed(self.gap, distance, units, self._width, self.interval_level)
            for distance in (self.gap.value - goal, -self.gap.value)
            if distance > 0
        ]
        return min((way for way in ways if way is not None), default=None)
