"""Who meets which variant: the same user always the same, in shares that come out right."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import timeit
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.core.buckets import bucket
from pipeline.rollout import Plan, Variant
from serving.routing import Route, Served, route_of

VECTORS = Path(__file__).with_name("hash_vectors.json")
RAMP = (0.01, 0.05, 0.25, 0.5)


def variant(name: str, version: int) -> Variant:
    return Variant(name, version, f"packages/{version}", "d", "m", "2026-01-01", None)


CHAMPION, CHALLENGER = (Served(variant(*one), None, "linear") for one in (("champion", 1), ("challenger", 2)))


def route(strategy: str = "canary", share: float = 0.05, salt: str = "churn:2:7") -> Route:
    plan = Plan(strategy, (CHAMPION.variant, CHALLENGER.variant), share, salt)
    return route_of("churn", 3, plan, (CHAMPION, CHALLENGER))


def test_the_hash_gives_what_the_test_vectors_say():
    vectors = json.loads(VECTORS.read_text(encoding="utf-8"))["vectors"]
    assert len(vectors) >= 30
    assert any(not one["user_id"].isascii() for one in vectors)
    for one in vectors:
        assert bucket(one["user_id"], one["salt"]) == one["bucket"]
        assert (int(one["first_8_bytes"], 16) >> 11) / 2**53 == one["bucket"]
        for share, below in one["below"].items():
            assert (route(share=float(share), salt=one["salt"]).choose(one["user_id"]) is CHALLENGER) == below


def test_the_hash_is_the_same_in_another_language():
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node here")
    script = """
const {createHash} = require("crypto");
const {vectors} = JSON.parse(require("fs").readFileSync(process.argv[1], "utf8"));
for (const one of vectors) {
  const digest = createHash("sha256").update(`${one.salt}:${one.user_id}`, "utf8").digest();
  const place = (digest.readUInt32BE(0) * 2 ** 21 + (digest.readUInt32BE(4) >>> 11)) / 2 ** 53;
  if (place !== one.bucket) { console.log(one, place); process.exit(1); }
}
console.log(vectors.length);
"""
    done = subprocess.run([node, "-e", script, str(VECTORS)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@given(st.text(min_size=1), st.sampled_from(RAMP), st.sampled_from(RAMP))
def test_a_larger_share_moves_nobody_back(user_id, one, other):
    small, large = sorted((one, other))
    if route(share=small).choose(user_id) is CHALLENGER:
        assert route(share=large).choose(user_id) is CHALLENGER


@given(st.text(min_size=1, max_size=300), st.text(max_size=50))
def test_every_user_has_a_place_from_0_on_and_below_1(user_id, salt):
    place = bucket(user_id, salt)
    assert 0 <= place < 1
    assert place * 2**53 == int(place * 2**53)


def test_shares_come_out_right_and_buckets_of_two_salts_are_independent():
    users = [f"user-{number}" for number in range(40_000)]
    one, other = (np.array([bucket(user, salt) for user in users]) for salt in ("churn:2:7", "churn:3:9"))
    for places in (one, other):
        counts = np.histogram(places, 100, (0, 1))[0]
        assert stats.chisquare(counts).pvalue > 0.001
    for share in RAMP:
        met = int((one < share).sum())
        assert stats.binomtest(met, len(users), share).pvalue > 0.001
    table = np.histogram2d(one, other, 10, ((0, 1), (0, 1)))[0]
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_a_request_of_nobody_meets_a_variant_at_random_and_an_empty_user_is_nobody():
    random.seed(5)
    chosen = [route(share=0.25).choose(user) for user in (None, "") * 10_000]
    assert stats.binomtest(chosen.count(CHALLENGER), 20_000, 0.25).pvalue > 0.001
    assert len({id(one) for one in chosen[1::2]}) == 2


def test_a_shadow_is_met_by_nobody_and_a_tester_finds_each_variant_by_its_name():
    shadow = route("shadow", 0.0)
    assert {shadow.choose(f"user-{number}") for number in range(1_000)} == {CHAMPION}
    assert shadow.shadow is CHALLENGER
    assert route("canary").shadow is None
    assert (route().named("challenger"), route().named("champion"), route().named("x")) == (CHALLENGER, CHAMPION, None)


def test_without_a_challenger_that_could_be_loaded_the_champion_answers_everybody():
    plan = Plan("canary", (CHAMPION.variant, CHALLENGER.variant), 0.5, "salt")
    alone = route_of("churn", 3, plan, (CHAMPION,))
    assert {alone.choose(f"user-{number}") for number in range(100)} | {alone.choose(None)} == {CHAMPION}
    assert alone.shadow is None


def test_a_direct_rollout_costs_next_to_nothing():
    choose = Route("churn", 1, (CHAMPION,)).choose
    seconds = min(timeit.repeat(lambda: choose("user-1"), number=20_000, repeat=15)) / 20_000
    assert seconds < 0.2e-6, seconds
