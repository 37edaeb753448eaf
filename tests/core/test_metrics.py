from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.gate import examine
from pipeline.core.gate_rules import GateRules
from pipeline.core.metric_names import METRICS, MONEY
from pipeline.core.metrics import evaluate, over_resamples
from pipeline.core.paired import Judged

RULES = GateRules("roc_auc", {}, resamples=200)
OWN = {"calibration_error", MONEY}
"""Metrics that scikit-learn does not have."""


def binary(rows: int, seed: int, levels: int = 30):
    rng = np.random.default_rng(seed)
    actual = np.concatenate([[0, 1], rng.integers(0, 2, rows)])
    score = np.clip(np.round((0.3 * actual + rng.random(rows + 2)) * levels / 1.3) / levels, 0, 1)
    return actual, score, rng.integers(1, 4, rows + 2).astype(float)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(2, 80), seed=st.integers(0, 10_000), levels=st.integers(1, 50))
def test_binary_metrics_are_scikit_learns_also_with_ties_and_weights(rows, seed, levels):
    actual, score, weights = binary(rows, seed, levels)
    found = evaluate("binary", actual, np.column_stack([1 - score, score]), weights[None, :])
    called = score >= 0.5
    wanted = {
        "roc_auc": sk.roc_auc_score(actual, score, sample_weight=weights),
        "average_precision": sk.average_precision_score(actual, score, sample_weight=weights),
        "accuracy": sk.accuracy_score(actual, called, sample_weight=weights),
        "balanced_accuracy": sk.balanced_accuracy_score(actual, called, sample_weight=weights),
        "f1": sk.f1_score(actual, called, sample_weight=weights, zero_division=0),
        "precision": sk.precision_score(actual, called, sample_weight=weights, zero_division=0),
        "recall": sk.recall_score(actual, called, sample_weight=weights, zero_division=0),
        "log_loss": sk.log_loss(actual, score, sample_weight=weights),
        "brier_score_loss": sk.brier_score_loss(actual, score, sample_weight=weights),
    }
    assert set(wanted) == set(METRICS["binary"]) - OWN
    for name, value in wanted.items():
        assert found[name][0] == pytest.approx(value, abs=1e-12), name


def test_multiclass_metrics_are_scikit_learns():
    rng = np.random.default_rng(1)
    actual, scores = rng.integers(0, 3, 400), rng.dirichlet([1, 1, 1], 400)
    weights = rng.integers(1, 4, 400).astype(float)
    found = evaluate("multiclass", actual, scores, weights[None, :])
    called = scores.argmax(axis=1)
    assert found["accuracy"][0] == pytest.approx(sk.accuracy_score(actual, called, sample_weight=weights))
    assert found["balanced_accuracy"][0] == pytest.approx(
        sk.balanced_accuracy_score(actual, called, sample_weight=weights)
    )
    assert found["f1_macro"][0] == pytest.approx(sk.f1_score(actual, called, average="macro", sample_weight=weights))
    assert found["log_loss"][0] == pytest.approx(sk.log_loss(actual, scores, sample_weight=weights))


def test_a_class_that_the_model_never_saw_counts_as_wrong():
    scores = np.array([[0.9, 0.1], [0.2, 0.8]])
    found = evaluate("multiclass", np.array([0, -1]), scores, np.ones((1, 2)))
    assert found["accuracy"][0] == 0.5
    assert found["log_loss"][0] > 15


def test_regression_metrics_are_scikit_learns():
    rng = np.random.default_rng(1)
    actual = rng.normal(100, 3, 300)
    predicted, weights = actual + rng.normal(size=300), rng.integers(1, 4, 300).astype(float)
    found = evaluate("regression", actual, predicted, weights[None, :])
    assert found["r2"][0] == pytest.approx(sk.r2_score(actual, predicted, sample_weight=weights))
    assert found["mean_absolute_error"][0] == pytest.approx(
        sk.mean_absolute_error(actual, predicted, sample_weight=weights)
    )
    assert found["root_mean_squared_error"][0] == pytest.approx(
        sk.root_mean_squared_error(actual, predicted, sample_weight=weights)
    )


def test_bootstrap_intervals_cover_the_truth_about_as_often_as_they_say():
    truth, covered = 0.7602, 0
    """AUC of N(1, 1) against N(0, 1): Phi(1 / sqrt 2)."""
    for seed in range(120):
        rng = np.random.default_rng(seed)
        actual = rng.integers(0, 2, 300)
        score = 1 / (1 + np.exp(-(rng.normal(size=300) + actual)))
        both = np.column_stack([1 - score, score])
        judged = Judged("binary", actual, None)
        interval = examine(judged, pd.DataFrame(), both, None, None, RULES, None).candidate["roc_auc"]
        covered += interval.low <= truth <= interval.high
    assert 0.88 <= covered / 120 <= 1.0


def test_resampling_a_large_table_holds_a_bounded_number_of_weights_at_once():
    largest = 0

    def measure(weights):
        nonlocal largest
        largest = max(largest, weights.size)
        return {"mean": weights.mean(axis=1)}

    spread = over_resamples(1_000_000, 10, np.random.default_rng(0), measure)
    assert spread["mean"].shape == (10,)
    assert largest <= 4_000_000
