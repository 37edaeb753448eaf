"""Why a model got worse: planted causes are named, and what broke is told apart from what merely changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from benchmarks.estimation import named
from pipeline.core.causes import explain
from pipeline.core.column_facts import ColumnFacts, facts_of, moved
from pipeline.core.faults import faults
from pipeline.core.loss_test import ConceptTest
from pipeline.core.realised import Drop
from pipeline.core.verdict import Interval

HOLDS = ConceptTest(0.6, 0.0, 0.01, 2_000, "as expected")
CHANGED = ConceptTest(1e-6, 0.05, 0.01, 2_000, "not as expected")


def test_of_fifty_windows_for_each_planted_cause_four_in_five_are_named_right():
    with threadpool_limits(limits=1):
        found = named(seeds=50, models=4, rows=1_500)
    for planted, counts in found.items():
        assert counts[planted] >= 40, (planted, counts)


def drop(value: float) -> Drop:
    at = Interval(0.80, 0.79, 0.81)
    return Drop(
        "roc_auc", at, Interval(0.8 - value, 0.79 - value, 0.81 - value), value, value - 0.01, value + 0.01, 0.0
    )


def numbers(rng: np.random.Generator, rows: int = 4_000) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "speed": rng.gamma(5.0, 10.0, rows),
            "warmth": rng.normal(12, 8, rows),
            "clicks": rng.poisson(1.5, rows),
            "member": rng.integers(0, 2, rows),
            "plan": rng.choice(["basic", "plus", "pro"], rows, p=[0.5, 0.3, 0.2]),
        }
    )


def faults_between(then: pd.DataFrame, now: pd.DataFrame) -> list[tuple[str, str]]:
    return [(fault.column, fault.kind) for fault in faults(facts_of(then, now))]


BROKEN = {
    "missing": lambda now, rng: now.assign(speed=now["speed"].where(rng.random(len(now)) > 0.1)),
    "all missing": lambda now, rng: now.assign(speed=np.nan),
    "miles": lambda now, rng: now.assign(speed=now["speed"] / 1.609344),
    "cents": lambda now, rng: now.assign(speed=now["speed"] * 100),
    "thousands": lambda now, rng: now.assign(speed=now["speed"] / 1000),
    "other sign": lambda now, rng: now.assign(speed=-now["speed"]),
    "shifted": lambda now, rng: now.assign(speed=now["speed"] + 1000),
    "half stuck": lambda now, rng: now.assign(speed=now["speed"].where(rng.random(len(now)) > 0.6, 50.0)),
    "stuck": lambda now, rng: now.assign(speed=0.0),
    "infinite": lambda now, rng: now.assign(speed=np.where(rng.random(len(now)) > 0.5, now["speed"], np.inf)),
}
KIND = {"missing": "missing", "all missing": "missing", "half stuck": "stuck", "stuck": "stuck", "infinite": None}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_number_is_told_from_a_changed_one(name):
    for seed in range(10):
        rng = np.random.default_rng([1, seed])
        then, now = numbers(rng), numbers(rng)
        kind = KIND.get(name, "unit")
        assert faults_between(then, BROKEN[name](now, rng)) == ([("speed", kind)] if kind else [])


def test_fahrenheit_and_kelvin_are_units():
    rng = np.random.default_rng(2)
    then, now = numbers(rng), numbers(rng)
    assert faults_between(then, now.assign(warmth=now["warmth"] * 1.8 + 32)) == [("warmth", "unit")]
    assert faults_between(then, now.assign(warmth=now["warmth"] + 273.15)) == [("warmth", "unit")]


def test_a_renamed_or_stuck_category_is_broken():
    rng = np.random.default_rng(3)
    then, now = numbers(rng), numbers(rng)
    assert faults_between(then, now.assign(plan=now["plan"].replace("plus", "PLUS"))) == [("plan", "renamed")]
    assert faults_between(then, now.assign(plan="basic")) == [("plan", "stuck")]


NATURAL = {
    "nothing": lambda now, rng: now,
    "faster": lambda now, rng: now.assign(speed=now["speed"] * 1.25),
    "warmer": lambda now, rng: now.assign(warmth=now["warmth"] + 10),
    "wider": lambda now, rng: now.assign(warmth=(now["warmth"] - 12) * 1.5 + 12),
    "fewer members": lambda now, rng: now.assign(member=(rng.random(len(now)) < 0.05).astype(int)),
    "more clicks": lambda now, rng: now.assign(clicks=rng.poisson(4.0, len(now))),
    "other plans": lambda now, rng: now.assign(plan=rng.choice(["basic", "pro"], len(now), p=[0.3, 0.7])),
    "a new plan": lambda now, rng: now.assign(plan=now["plan"].where(rng.random(len(now)) > 0.2, "student")),
    "some missing": lambda now, rng: now.assign(speed=now["speed"].where(rng.random(len(now)) > 0.03)),
}


@pytest.mark.parametrize("name", NATURAL)
def test_what_people_and_weather_do_is_no_fault(name):
    for seed in range(20):
        rng = np.random.default_rng([4, seed])
        then, now = numbers(rng), numbers(rng, 1_500)
        assert faults_between(then, NATURAL[name](now, rng)) == []


def test_empty_columns_and_constants_break_nothing():
    frame = pd.DataFrame({"empty": [np.nan] * 50, "same": [1.0] * 50, "name": ["a"] * 50, "none": [None] * 50})
    assert faults_between(frame, frame) == []
    assert [moved(fact) for fact in facts_of(frame, frame)] == [0.0] * 4


def facts(**changes: float) -> list[ColumnFacts]:
    rng = np.random.default_rng(5)
    then, now = numbers(rng), numbers(rng)
    return facts_of(then, now.assign(speed=np.nan), {"speed": 0.1, "warmth": 0.05, **changes})


def test_a_broken_column_that_the_model_does_not_use_is_told_but_is_not_the_cause():
    unused = explain(facts(speed=0.0), drop(0.08), 0.0, CHANGED)
    assert unused.cause == "concept"
    assert [fault.column for fault in unused.faults] == ["speed"]
    assert explain(facts(), drop(0.08), 0.0, CHANGED).cause == "data fault"


def test_a_drop_is_covariates_when_the_rows_explain_it_and_unclear_when_nothing_does():
    rng = np.random.default_rng(6)
    then, now = numbers(rng), numbers(rng)
    sound = facts_of(then, now.assign(warmth=now["warmth"] + 10), {"speed": 0.1, "warmth": 0.05})
    found = explain(sound, drop(0.08), 0.07, HOLDS)
    assert (found.cause, found.column) == ("covariates", "warmth")
    assert found.shares.covariates + found.shares.concept == pytest.approx(0.08)
    assert explain(sound, drop(0.08), 0.01, HOLDS).cause == "unclear"
    assert explain(sound, drop(0.08), 0.01, CHANGED).cause == "concept"
    assert explain(sound, drop(0.08), 0.06, CHANGED).cause == "covariates"


def test_without_labels_a_concept_is_never_named():
    sound = [replace(fact, quantiles=fact.reference_quantiles, missing=0.0) for fact in facts()]
    assert explain(sound, None, 0.05, None).cause == "covariates"
    assert explain(sound, None, -0.01, None).cause == "unclear"
    assert explain(sound, None, None, None).cause == "unclear"
