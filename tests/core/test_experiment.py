"""Champion and challenger on live traffic, judged after every batch: how often a verdict errs, how soon it comes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest

from pipeline.core.experiment import Arm, Arms, RolloutPolicy, RolloutVerdict, Step
from pipeline.core.experiment_rows import metric_values, residuals, sample_of
from pipeline.core.experiment_tests import Sample, mismatch, more_often, reach
from pipeline.core.experiment_verdict import judge
from pipeline.core.paired import Judged

POLICY = RolloutPolicy("canary", "accuracy")
ACCURACY = 0.8


@dataclass
class Outcome:
    """How a simulated rollout ended."""

    verdict: RolloutVerdict
    users: int
    exposed: int
    """Users who met the challenger."""
    share: float
    """Of the last step."""


def samples(values: np.ndarray, arm: np.ndarray) -> list[list[Sample]]:
    """For each batch the sample of each arm up to then. Shapes (batches, users)."""
    found = []
    for side in (0, 1):
        count = (arm == side).sum(1).cumsum()
        total = np.where(arm == side, values, 0).sum(1).cumsum()
        squares = np.where(arm == side, values**2, 0).sum(1).cumsum()
        mean = total / np.maximum(count, 1)
        variance = np.maximum(squares - count * mean**2, 0) / np.maximum(count - 1, 1)
        found.append([Sample(*one) for one in zip(count.tolist(), mean.tolist(), variance.tolist(), strict=True)])
    return found


def arm_of(sample: Sample, **more: object) -> Arm:
    return replace(Arm(sample.units, sample.units, 0, 0, sample), **more)


def canary(draw, policy: RolloutPolicy, rng: np.random.Generator, batch: int, looks: int) -> Outcome:
    """One canary through its ramp: `batch` new users a batch, each labelled, judged after every batch."""
    users = exposed = 0
    for number, share in enumerate(policy.shares):
        arm = (rng.random((looks, batch)) < share).astype(int)
        champion, challenger = samples(draw(rng, arm), arm)
        off = samples(rng.normal(0, 0.4, arm.shape), arm)
        failed, slow = (happened(rng, arm, chance) for chance in (0.003, 0.01))
        for look in range(looks):
            theirs, ours = (
                arm_of(one[look], failed=failed[side][look], slow=slow[side][look], calibration=off[side][look])
                for side, one in enumerate((champion, challenger))
            )
            verdict = judge(Arms(theirs, ours), policy, Step(number, "canary", share, 2.0))
            if verdict.decision != "hold":
                break
        users += (look + 1) * batch
        exposed += challenger[look].units
        if verdict.decision != "advance":
            break
    return Outcome(verdict, users, exposed, share)


def happened(rng: np.random.Generator, arm: np.ndarray, chance: float) -> list[list[int]]:
    """For each arm, how many units something has happened to up to each batch."""
    met = rng.random(arm.shape) < chance
    return [(met & (arm == side)).sum(1).cumsum().tolist() for side in (0, 1)]


def hits(champion: float, challenger: float):
    """Right or wrong, with these chances."""
    return lambda rng, arm: (rng.random(arm.shape) < np.where(arm == 1, challenger, champion)).astype(float)


def money(rng: np.random.Generator, arm: np.ndarray) -> np.ndarray:
    """60 for a hit, -15 for a false alarm, mostly nothing: skewed."""
    chance = rng.beta(0.6, 3, arm.shape)
    return np.where(chance > 0.2, np.where(rng.random(arm.shape) < chance, 60.0, -15.0), 0.0)


def log_losses(rng: np.random.Generator, arm: np.ndarray) -> np.ndarray:
    chance = rng.beta(0.6, 3, arm.shape).clip(1e-3, 1 - 1e-3)
    return np.where(rng.random(arm.shape) < chance, -np.log(chance), -np.log1p(-chance))


@pytest.mark.parametrize(
    ("metric", "draw"),
    [("accuracy", hits(ACCURACY, ACCURACY)), ("money_per_thousand", money), ("log_loss", log_losses)],
)
def test_of_500_canaries_that_are_the_champion_itself_at_most_one_in_twenty_is_rolled_back(metric, draw):
    rng = np.random.default_rng(11)
    # Accuracy gets as many users a step as a promotion takes; the noisier metrics are here for their false alarms.
    batch, looks = (500, 50) if metric == "accuracy" else (250, 40)
    ends = [canary(draw, replace(POLICY, metric=metric), rng, batch, looks) for _ in range(500)]
    rolled_back = sum(end.verdict.decision == "roll_back" for end in ends)
    assert rolled_back <= 0.05 * 500, rolled_back
    if metric == "accuracy":
        assert sum(end.verdict.decision == "promote" for end in ends) >= 0.9 * 500


def test_users_who_come_back_again_and_again_are_one_unit_and_err_no_more_often():
    rng = np.random.default_rng(12)
    policy = RolloutPolicy("canary", "accuracy", shares=(0.1, 0.5))
    users, batch, looks, ended = 3_000, 1_000, 30, Counter()
    for _ in range(500):
        skill = rng.beta(8, 2, users)  # a user is mostly right or mostly wrong, with either model
        place, habit = rng.random(users), rng.dirichlet(np.full(users, 0.5)).cumsum()
        for number, share in enumerate(policy.shares):
            ours, right, came = place < share, np.zeros(users), np.zeros(users)
            for _look in range(looks):
                who = np.searchsorted(habit, rng.random(batch)).clip(0, users - 1)
                came += np.bincount(who, minlength=users)
                right += np.bincount(who, rng.random(batch) < skill[who], minlength=users)
                seen = came > 0
                arms = []
                for side in (~ours & seen, ours & seen):
                    means = right[side] / came[side]
                    arms.append(arm_of(Sample(len(means), float(means.mean()), float(means.var(ddof=1)))))
                verdict = judge(Arms(arms[0], arms[1]), policy, Step(number, "canary", share, 2.0))
                if verdict.decision != "hold":
                    break
            if verdict.decision != "advance":
                break
        ended[verdict.decision] += 1
    assert ended["roll_back"] <= 0.05 * 500, ended


def test_a_challenger_a_tenth_worse_is_rolled_back_before_three_tenths_of_the_traffic_saw_it():
    rng = np.random.default_rng(13)
    ends = [canary(hits(ACCURACY, 0.9 * ACCURACY), POLICY, rng, batch=500, looks=80) for _ in range(500)]
    assert [end.verdict.decision for end in ends if end.verdict.decision != "roll_back"] == []
    # Of all users up to the roll-back, so many had met it: in every run.
    assert max(end.exposed / end.users for end in ends) < 0.3
    # A tenth is just what the step at 25 % lets pass (the margin over the next share), so it passes by chance alone,
    # at the level of one side of one step; no run is allowed more.
    wrongly_on = sum(end.share > 0.3 for end in ends)
    assert wrongly_on <= POLICY.alpha / POLICY.steps / 2 * 500, wrongly_on
    assert np.median([end.users for end in ends]) < 30_000
    assert np.median([end.exposed for end in ends]) < 1_000
    told = ends[0].verdict.reasons[0]
    assert "accuracy" in told
    assert "worse beyond doubt" in told


def test_where_the_split_is_not_what_was_asked_for_it_holds_and_says_so():
    rng = np.random.default_rng(14)
    policy = RolloutPolicy("ab", "accuracy", shares=(0.5,))
    found, users = [], []
    for _ in range(200):
        arm = (rng.random((40, 250)) < 0.55).astype(int)
        champion, challenger = samples((rng.random(arm.shape) < ACCURACY).astype(float), arm)
        for look in range(40):
            arms = Arms(arm_of(champion[look]), arm_of(challenger[look]))
            verdict = judge(arms, policy, Step(0, "ab", 0.5, 2.0))
            if "sample-ratio mismatch" in verdict.reasons[0]:
                break
        found.append(verdict)
        users.append((look + 1) * 250)
    assert {verdict.decision for verdict in found} == {"hold"}
    assert all("sample-ratio mismatch" in verdict.reasons[0] for verdict in found)
    assert np.median(users) <= 3_000
    assert max(users) < 10_000


def test_a_split_that_is_as_asked_is_called_a_mismatch_no_more_often_than_the_level_says():
    rng = np.random.default_rng(15)
    alarms = 0
    for share in (0.01, 0.5):
        met = (rng.random((1_000, 100, 100)) < share).sum(2).cumsum(1)
        seen = 100 * np.arange(1, 101)
        for row in met:
            alarms += any(mismatch(int(m), int(n - m), share) <= 0.01 for m, n in zip(row, seen, strict=True))
    assert alarms <= 0.01 * 2_000, alarms


def test_a_model_that_fails_or_dawdles_is_rolled_back_whatever_its_metric_and_one_that_does_not_is_kept():
    rng = np.random.default_rng(16)
    fine, bad = Counter(), Counter()
    for times, ended in ((1.0, fine), (5.0, bad)):
        for _ in range(300):
            ours = rng.binomial(50, 0.01 * times, 40).cumsum()
            theirs = rng.binomial(950, 0.01, 40).cumsum()
            ended[any(more_often(int(o), int(t), 0.05, 2.0) <= 0.002 for o, t in zip(ours, theirs, strict=True))] += 1
    assert fine[True] <= 1
    assert bad[True] >= 0.95 * 300
    sample = Sample(5_000, ACCURACY, 0.16)
    arms = Arms(arm_of(sample, failed=4), arm_of(sample, failed=40))
    verdict = judge(arms, POLICY, Step(3, "canary", 0.5, 2.0))
    assert verdict.decision == "roll_back"
    assert verdict.reasons[0].startswith("failed answers: 40 of 5,000 units")
    slow = judge(Arms(arm_of(sample, slow=50), arm_of(sample, slow=300)), POLICY, Step(3, "canary", 0.5, 2.0))
    assert slow.reasons[0].startswith("slow answers")
    assert slow.decision == "roll_back"


def test_probabilities_that_mean_nothing_are_rolled_back_though_the_answers_are_right():
    sample = Sample(4_000, ACCURACY, 0.16)
    fair, off = Sample(4_000, 0.01, 0.15), Sample(4_000, 0.15, 0.15)
    step = Step(3, "canary", 0.5, 2.0)
    verdict = judge(Arms(arm_of(sample, calibration=fair), arm_of(sample, calibration=off)), POLICY, step)
    assert verdict.decision == "roll_back"
    assert verdict.reasons[0].startswith("calibration")
    both_off = judge(Arms(arm_of(sample, calibration=off), arm_of(sample, calibration=off)), POLICY, step)
    assert both_off.decision == "promote"


def test_in_shadow_the_same_rows_tell_with_far_fewer_labels_what_two_arms_cannot():
    arm = arm_of(Sample(400, ACCURACY, 0.16))
    policy = RolloutPolicy("shadow", "accuracy")
    step = Step(0, "shadow", 0.0, 2.0)
    paired = judge(Arms(arm, arm, Sample(400, 0.0, 0.02)), policy, step)
    assert paired.decision == "promote"
    apart = judge(Arms(arm, arm), replace(policy, strategy="ab"), Step(0, "ab", 0.5, 2.0))
    assert apart.decision == "hold"
    worse = judge(Arms(arm, arm_of(Sample(400, 0.72, 0.2)), Sample(400, -0.08, 0.06)), policy, step)
    assert worse.decision == "roll_back"
    assert "400 pairs" in worse.reasons[0]


def test_five_hundred_shadows_of_the_champion_itself_are_not_rolled_back_either():
    rng = np.random.default_rng(17)
    policy = RolloutPolicy("shadow", "accuracy", margin=0.001)
    ended = Counter()
    for _ in range(500):
        gaps = rng.choice([-1.0, 0.0, 1.0], (40, 100), p=[0.03, 0.94, 0.03])
        _, paired = samples(gaps, np.ones_like(gaps, dtype=int))
        arm = arm_of(Sample(4_000, ACCURACY, 0.16))
        verdicts = (judge(Arms(arm, arm, one), policy, Step(0, "shadow", 0.0, 2.0)) for one in paired)
        ended[next((v.decision for v in verdicts if v.decision != "hold"), "hold")] += 1
    assert ended["roll_back"] <= 0.05 * 500, ended


def test_too_early_is_told_by_name_and_unclear_by_how_many_labels_would_settle_it():
    few = arm_of(Sample(40, ACCURACY, 0.16))
    early = judge(Arms(few, few), POLICY, Step(3, "canary", 0.5, 0.2))
    assert early.decision == "hold"
    assert [reason.split(",")[-1].strip() for reason in early.reasons] == [
        "1 are asked for", "200 are asked for", "100 are asked for"
    ]  # fmt: skip
    some = arm_of(Sample(500, ACCURACY, 0.16))
    unclear = judge(Arms(some, some), POLICY, Step(3, "canary", 0.5, 2.0))
    assert unclear.decision == "hold"
    assert unclear.labels_needed is not None
    more = (1_000 + unclear.labels_needed) // 2
    enough = arm_of(Sample(more, ACCURACY, 0.16))
    assert judge(Arms(enough, enough), POLICY, Step(3, "canary", 0.5, 2.0)).decision == "promote"
    assert 1_000 < unclear.labels_needed < 10_000


def test_without_labels_the_guards_alone_let_it_go_on_only_where_the_model_file_says_so():
    none = arm_of(Sample(0, 0.0, 0.0), units=500, answers=500)
    step = Step(0, "canary", 0.5, 2.0)
    assert judge(Arms(none, none), POLICY, step).decision == "hold"
    trusting = judge(Arms(none, none), replace(POLICY, min_labels=0), step)
    assert trusting.decision == "promote"
    assert "asks for none" in trusting.reasons[0]


def test_users_who_met_both_variants_are_told_and_hold_the_rollout():
    arm = arm_of(Sample(500, ACCURACY, 0.16))
    verdict = judge(Arms(arm, arm, both=100), POLICY, Step(3, "canary", 0.5, 2.0))
    assert verdict.decision == "hold"
    assert verdict.reasons[0].startswith("100 users met both variants")


def test_a_ramp_waits_where_the_loss_still_possible_at_the_next_share_is_above_the_margin():
    # At 5 % of the users, 200 of them: a quarter of all would be told on by an interval this wide only in part.
    arms = Arms(arm_of(Sample(3_800, ACCURACY, 0.16)), arm_of(Sample(200, 0.77, 0.18)))
    at = Step(1, "canary", 0.05, 2.0)
    verdict = judge(arms, POLICY, at)
    low = verdict.figures["difference_low"]
    assert (verdict.decision == "advance") == (-0.25 * low <= 0.05 * ACCURACY)
    sooner = judge(arms, replace(POLICY, shares=(0.05, 0.06)), at)
    assert sooner.decision == "advance"
    assert sooner.next_share == 0.06


def test_the_interval_covers_at_all_looks_together():
    rng = np.random.default_rng(18)
    values = rng.normal(0, 1, (2_000, 400)).cumsum(1)
    counts = np.arange(1, 401)
    left = np.zeros(2_000, dtype=bool)
    for look in range(10, 400):
        left |= np.abs(values[:, look] / counts[look]) > reach(1 / counts[look], 0.2, 0.05)
    assert left.mean() <= 0.05


def test_the_metric_of_a_row_is_the_one_whose_mean_is_the_metric():
    actual, scores = np.array([1, 0, 1]), np.array([[0.2, 0.8], [0.7, 0.3], [0.9999, 0.0001]])
    judged = Judged("binary", actual, None)
    assert metric_values(judged, "accuracy", scores).tolist() == [1.0, 1.0, 0.0]
    assert metric_values(judged, "log_loss", scores)[2] == pytest.approx(-np.log(1e-3))
    with pytest.raises(ValueError, match="roc_auc is no mean over rows"):
        metric_values(judged, "roc_auc", scores)
    assert residuals("binary", actual, scores).tolist() == pytest.approx([0.2, -0.3, 0.9999])
    assert residuals("regression", actual, scores) is None
    assert sample_of(np.array([]), np.array([])) == Sample(0, 0.0, 0.0)
