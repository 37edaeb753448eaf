"""The gate's promises about error, in worlds whose truth is known. Seeds are fixed, bounds are stated."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier

from benchmarks.worlds import RULES, TwoModels
from pipeline.core.behaviour import Direction, Invariance, Minimum, check
from pipeline.core.decision import Payoff
from pipeline.core.gate import examine, judge
from pipeline.core.gate_rules import DeclaredSlice, GateRules
from pipeline.core.metrics import evaluate
from pipeline.core.paired import Judged, difference
from pipeline.core.verdict import Check
from pipeline.core.wear import wear


def decisions(champion: float, candidate: float, pairs: int, rows: int = 5000) -> Counter:
    return Counter(
        TwoModels(rows, champion, candidate, np.random.default_rng([7, seed])).verdict().decision
        for seed in range(pairs)
    )


def test_of_two_hundred_reseeded_twins_at_most_one_in_twenty_is_promoted():
    rng = np.random.default_rng(11)
    features = rng.normal(size=(60_000, 6))
    labels = (rng.random(60_000) < 1 / (1 + np.exp(-features[:, 0] - features[:, 1] * features[:, 2]))).astype(int)
    promoted = 0
    for pair in range(200):
        rows = rng.choice(60_000, 3_000, replace=False)
        learn, fresh = rows[:1000], rows[1000:]
        champion, candidate = (
            RandomForestClassifier(50, min_samples_leaf=10, random_state=seed)
            .fit(features[learn], labels[learn])
            .predict_proba(features[fresh])
            for seed in (2 * pair, 2 * pair + 1)
        )
        examined = examine(
            Judged("binary", labels[fresh], None), pd.DataFrame(features[fresh], columns=list("abcdef")),
            candidate, champion, np.ones(2000, dtype=bool), RULES, wear([], 0.95),
        )  # fmt: skip
        promoted += judge(examined, RULES).decision == "PROMOTE"
    assert promoted <= 10


def test_of_two_hundred_equals_at_most_one_in_twenty_is_promoted():
    assert decisions(0.80, 0.80, 200)["PROMOTE"] <= 10


def test_a_candidate_truly_two_points_better_on_five_thousand_rows_is_promoted_at_least_four_times_in_five():
    assert decisions(0.80, 0.82, 200)["PROMOTE"] >= 160


def test_a_candidate_truly_two_points_worse_is_never_promoted():
    assert decisions(0.82, 0.80, 300)["PROMOTE"] == 0


def test_what_is_unclear_is_held_and_the_labels_it_asks_for_settle_it():
    held = settled = 0
    for seed in range(60):
        rng = np.random.default_rng([3, seed])
        examined = TwoModels(1500, 0.80, 0.81, rng).examine()
        if judge(examined, RULES).decision != "HOLD" or (examined.evidence.labels_needed or 99_999) > 20_000:
            continue
        held += 1
        more = 3 * (1500 + examined.evidence.labels_needed)
        settled += TwoModels(more, 0.80, 0.80 + examined.difference.value, rng).verdict().decision != "HOLD"
    assert held >= 20
    assert settled >= 0.8 * held


def test_five_hundred_noise_challengers_on_one_window_are_all_turned_away():
    rng = np.random.default_rng(5)
    rules = replace(RULES, search_slices=False, min_gain=0.0)  # every gain matters: the hardest case
    world = TwoModels(4000, 0.80, 0.80, rng)
    odds = np.log(world.champion[:, 1] / world.champion[:, 0])
    promoted = without_memory = 0
    for number in range(500):
        noisy = 1 / (1 + np.exp(-(odds + rng.normal(0, 0.3, len(odds)))))
        world.candidate = np.column_stack([1 - noisy, noisy])
        examined = world.examine(rules, judged_before=number)
        promoted += judge(examined, rules).decision == "PROMOTE"
    for number in range(500):
        twin = TwoModels(4000, 0.80, 0.80, np.random.default_rng([6, number]))
        without_memory += judge(twin.examine(rules), rules).decision == "PROMOTE"
        examined = twin.examine(rules, judged_before=number)
        promoted += judge(examined, rules).decision == "PROMOTE"
    assert promoted == 0
    assert without_memory > 3  # what a gate that forgets would have let through


def broken_on_two_year(seed: int) -> TwoModels:
    """A candidate that ranks better everywhere but on contract=two_year, where it is turned upside down."""
    world = TwoModels(6000, 0.78, 0.88, np.random.default_rng(seed))
    part = (world.table["contract"] == "two_year").to_numpy() & (world.table["plan"] == "plus").to_numpy()
    world.candidate[part] = world.candidate[part][:, ::-1]
    return world


def test_a_candidate_that_is_better_overall_but_breaks_a_declared_slice_is_rejected_by_its_name():
    world = broken_on_two_year(1)
    where = {"contract": "two_year", "plan": "plus"}
    rules = replace(RULES, declared=(DeclaredSlice("loyal", where, {}),), search_slices=False)
    assert world.verdict(replace(rules, declared=())).decision == "PROMOTE"
    verdict = world.verdict(rules)
    assert verdict.decision == "REJECT"
    assert verdict.reasons[0].startswith("slice loyal: mean loss")


def test_a_candidate_that_breaks_a_slice_nobody_named_is_rejected_by_its_name():
    for seed in range(20):
        verdict = broken_on_two_year(seed).verdict()
        assert verdict.decision == "REJECT"
        told = " ".join(verdict.reasons)
        assert "contract=two_year" in told or "plan=plus" in told


def test_searching_hundreds_of_slices_of_twins_rejects_at_most_one_in_twenty():
    rejected = 0
    for seed in range(100):
        world = TwoModels(3000, 0.8, 0.8, np.random.default_rng([9, seed]))
        examined = world.examine(replace(RULES, slice_margin=0.0))
        rejected += any(s.outcome == "fail" for s in examined.evidence.slices)
        assert examined.evidence.slices_searched > 30
    assert rejected <= 5


def test_a_slice_below_its_own_floor_is_rejected_and_a_small_one_is_unclear():
    world = TwoModels(4000, 0.78, 0.88, np.random.default_rng(2))
    floor = DeclaredSlice(None, {"plan": "basic"}, {"roc_auc": 0.97})
    verdict = world.verdict(replace(RULES, declared=(floor,)))
    assert verdict.decision == "REJECT"
    assert "on slice plan=basic" in verdict.reasons[0]
    tiny = DeclaredSlice("old hands", {"tenure": (60, 99)}, {"roc_auc": 0.5})
    assert world.verdict(replace(RULES, declared=(tiny,))).decision == "HOLD"


def test_non_inferiority_lets_an_equal_pass_and_stops_a_worse_one():
    rules = replace(RULES, require="non_inferiority", margin=0.02)
    assert TwoModels(8000, 0.80, 0.80, np.random.default_rng(1)).verdict(rules).decision == "PROMOTE"
    assert TwoModels(8000, 0.85, 0.80, np.random.default_rng(1)).verdict(rules).decision == "REJECT"


def test_a_dry_run_lets_pass_and_says_what_it_would_have_said():
    world = TwoModels(4000, 0.85, 0.80, np.random.default_rng(1))
    verdict = world.verdict(replace(RULES, mode="dry_run"))
    assert (verdict.decision, verdict.judged, verdict.mode) == ("PROMOTE", "REJECT", "dry_run")
    assert world.verdict(replace(RULES, mode="disabled")).decision == "PROMOTE"


def test_a_candidate_that_gives_the_champions_answers_gains_nothing():
    world = TwoModels(2000, 0.8, 0.8, np.random.default_rng(1))
    world.candidate = world.champion
    verdict = world.verdict()
    assert verdict.decision == "REJECT"
    assert "gives the champion's answers" in verdict.reasons[0]


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "accuracy", "log_loss", "f1"])
def test_intervals_of_a_difference_cover_the_truth_as_often_as_they_say(metric):
    covered = 0
    big = TwoModels(400_000, 0.80, 0.82, np.random.default_rng(0))
    ones = np.ones((1, 400_000))
    truth = [float(evaluate("binary", big.actual, s, ones)[metric][0]) for s in (big.candidate, big.champion)]
    sign = -1 if metric == "log_loss" else 1
    for seed in range(150):
        rng = np.random.default_rng([1, seed])
        world = TwoModels(800, 0.80, 0.82, rng)
        judged = Judged("binary", world.actual, None)
        found = difference(judged, metric, world.candidate, world.champion, confidence=0.95, resamples=200, rng=rng)
        covered += found.low <= sign * (truth[0] - truth[1]) <= found.high
    assert 0.89 <= covered / 150 <= 1.0


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "f1"])
def test_rows_of_one_entity_do_not_count_as_so_many(metric):
    rng = np.random.default_rng(4)
    world = TwoModels(500, 0.80, 0.82, rng)
    alone = difference(Judged("binary", world.actual, None), metric, world.candidate, world.champion,
                       confidence=0.95, resamples=400, rng=rng)  # fmt: skip
    again = np.tile(np.arange(500), 8)
    copied = difference(Judged("binary", world.actual[again], again), metric, world.candidate[again],
                        world.champion[again], confidence=0.95, resamples=400, rng=rng)  # fmt: skip
    assert copied.method.endswith("clustered by entity")
    assert copied.value == pytest.approx(alone.value, abs=1e-9)
    assert copied.standard_error == pytest.approx(alone.standard_error, rel=0.15)


def test_accuracy_is_compared_by_the_rows_on_which_the_two_disagree():
    actual = np.zeros(100, dtype=int)
    right, wrong = np.array([0.9, 0.1]), np.array([0.1, 0.9])
    candidate = np.array([wrong] * 10 + [right] * 90)
    champion = np.array([right] * 8 + [wrong] * 2 + [wrong] * 12 + [right] * 78)
    found = difference(Judged("binary", actual, None), "accuracy", candidate, champion,
                       confidence=0.95, resamples=50, rng=np.random.default_rng(0))  # fmt: skip
    b, c = 12, 8
    assert found.value == pytest.approx((b - c) / 100)
    assert found.standard_error == pytest.approx(np.sqrt((b + c - (b - c) ** 2 / 100) / 100 / 99))


def test_a_floor_missed_by_chance_is_held_and_one_missed_beyond_doubt_rejected():
    world = TwoModels(1000, 0.8, 0.8, np.random.default_rng(3))
    judged = Judged("binary", world.actual, None)
    area = float(evaluate("binary", world.actual, world.candidate, np.ones((1, 1000)))["roc_auc"][0])

    def decision(floor: float) -> str:
        rules = GateRules("roc_auc", {"roc_auc": floor}, resamples=200)
        return judge(examine(judged, world.table, world.candidate, None, None, rules, None), rules).decision

    assert [decision(area + step) for step in (-0.01, 0.01, 0.1)] == ["PROMOTE", "HOLD", "REJECT"]


def test_the_threshold_of_the_payoff_makes_more_money_than_any_other_where_probabilities_are_true():
    payoff = Payoff(true_positive=80, false_positive=-20, true_negative=0, false_negative=-10)
    world = TwoModels(200_000, 0.8, 0.85, np.random.default_rng(0))
    called = world.candidate[:, 1]
    made = {t: payoff.of(world.actual == 1, called >= t).mean() for t in np.linspace(0.02, 0.9, 45)}
    best = payoff.of(world.actual == 1, called >= payoff.threshold).mean()
    assert best >= max(made.values()) - 0.05
    assert best > made[min(made, key=lambda t: abs(t - 0.5))]


def linear(frame: pd.DataFrame) -> np.ndarray:
    chance = 1 / (1 + np.exp(-(frame["tenure"] / 20 + (frame["gender"] == "F") * 1.0 - 2)))
    return np.column_stack([1 - chance, chance])


def test_behaviour_that_the_model_file_asks_for_is_checked_on_real_rows():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"tenure": rng.normal(30, 5, 200), "gender": rng.choice(["F", "M"], 200).astype(object)})
    fair = check(Invariance("gender", "gender", ("F", "M"), 0.01, 0.0), linear, rows)
    assert fair.outcome == "fail"
    assert "in 200 of 200 rows" in fair.told
    assert check(Direction("loyal", "tenure", 12, "up", 0.0, 0.0), linear, rows).outcome == "pass"
    assert check(Direction("loyal", "tenure", 12, "down", 0.0, 0.0), linear, rows).outcome == "fail"
    newcomer = {"tenure": 0.0, "gender": "M"}
    assert check(Minimum("new", newcomer, None, 0.2), linear, rows).outcome == "pass"
    assert check(Minimum("new", newcomer, 0.5, None), linear, rows).outcome == "fail"


def test_one_failed_check_from_outside_rejects_whatever_the_figures_say():
    world = TwoModels(4000, 0.78, 0.88, np.random.default_rng(2))
    slow = Check("latency", "p99", "fail", "latency in the server: 90 ms")
    assert judge(world.examine(), RULES, [slow]).reasons == ("latency in the server: 90 ms",)
