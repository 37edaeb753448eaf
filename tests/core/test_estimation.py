"""Performance without labels: near the truth when only the rows change, and blind when the concept does."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from benchmarks.estimation import Registered, off
from pipeline.core.decision import Payoff
from pipeline.core.estimation import estimate_error, fit_estimator, metrics_expected
from pipeline.core.expectation import Reference, expectation
from pipeline.core.metric_names import METRICS
from pipeline.core.metrics import evaluate
from pipeline.core.reweighting import alike, encode, reweight


@pytest.fixture(autouse=True)
def _one_thread():
    with threadpool_limits(limits=1):
        yield


def test_when_rows_become_harder_the_estimate_is_nearer_than_the_registered_value():
    for name, found in off(8, 2, "covariates", rows=2_000).items():
        assert found.ours < 0.5 * found.as_registered, name
        assert found.inside >= 0.75, name


def test_without_drift_the_band_holds_what_comes_true():
    assert min(found.inside for found in off(12, 6, "none", rows=2_000).values()) >= 0.8


def test_a_changed_concept_is_not_seen_by_construction():
    registered = Registered(1, 2_000)
    window = registered.watch("concept", np.random.default_rng(1), 2_000)
    estimate, realised = window.estimates["roc_auc"], window.realised.metrics["roc_auc"]
    assert abs(estimate.value - registered.measured["roc_auc"].value) < 0.02
    assert estimate.low > realised.value


def certain_world(rows: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    rng = np.random.default_rng([2, seed])
    chance = rng.beta(1, 2, rows)
    return pd.DataFrame({"x": chance}), (rng.random(rows) < chance).astype(int), np.column_stack([1 - chance, chance])


def test_metrics_of_expected_labels_are_the_metrics_of_many_draws_of_them():
    frame, actual, scores = certain_world(400)
    reference = Reference("binary", frame, actual, scores, 0.4, Payoff(5, -1, 0, -2))
    said = metrics_expected(reference, scores, scores, np.ones((1, 400)))
    rng, drawn = np.random.default_rng(3), []
    for _ in range(400):
        labels = (rng.random(400) < scores[:, 1]).astype(int)
        drawn.append(evaluate("binary", labels, scores, np.ones((1, 400)), 0.4, reference.payoff))
    assert set(said) == set(METRICS["binary"]) - {"calibration_error"}
    for name, value in said.items():
        true = [one[name][0] for one in drawn]
        assert value[0] == pytest.approx(np.mean(true), abs=5 * np.std(true) / 20 + 0.003), name


def test_overconfident_scores_are_calibrated_before_they_are_believed():
    names, inside = ("log_loss", "brier_score_loss", "accuracy", "roc_auc"), 0
    for seed in range(10):
        frame, actual, scores = certain_world(3_000, seed)
        boast = np.clip(1.8 * (scores[:, 1] - 0.5) + 0.5, 0.001, 0.999)
        boasting = np.column_stack([1 - boast, boast])
        then, now = slice(0, 1_500), slice(1_500, 3_000)
        reference = Reference("binary", frame[then], actual[then], boasting[then])
        found = fit_estimator(reference, np.random.default_rng(4)).estimate(
            frame[now], boasting[now], alike(1_500, 1_500), np.random.default_rng(5), draws=40
        )
        true = evaluate("binary", actual[now], boasting[now], np.ones((1, 1_500)))
        inside += sum(found[name].low <= true[name][0] <= found[name].high for name in names)
    assert inside >= 34  # of 40, 38 expected


def test_three_classes_are_estimated():
    rng = np.random.default_rng(6)

    def rows(count: int, shift: float) -> tuple[pd.DataFrame, np.ndarray]:
        x = rng.normal(size=(count, 3)) * (1 - shift)
        noisy = x @ np.array([[2.0, 0, -2], [0, 2.0, -1], [0, 0, 0]]) + rng.gumbel(size=(count, 3))
        return pd.DataFrame(x, columns=list("abc")), noisy.argmax(axis=1)

    model = LogisticRegression().fit(*rows(3_000, 0))
    frame, actual = rows(2_000, 0)
    estimator = fit_estimator(Reference("multiclass", frame, actual, model.predict_proba(frame)), rng)
    window, labels = rows(2_000, 0.5)
    scores = model.predict_proba(window)
    found = estimator.estimate(window, scores, reweight(frame, window, rng), rng)
    true = evaluate("multiclass", labels, scores, np.ones((1, 2_000)))
    registered = evaluate("multiclass", actual, model.predict_proba(frame), np.ones((1, 2_000)))
    assert set(found) == set(METRICS["multiclass"])
    for name in ("accuracy", "log_loss"):
        assert abs(found[name].value - true[name][0]) < 0.4 * abs(registered[name][0] - true[name][0]), name
        assert found[name].low <= true[name][0] <= found[name].high


def test_errors_of_numbers_are_estimated_by_a_model_of_the_error():
    rng = np.random.default_rng(7)

    def rows(count: int, centre: float) -> tuple[pd.DataFrame, np.ndarray]:
        x = rng.normal([centre, 0, 0], 1, (count, 3))
        noise = np.exp(0.6 * x[:, 0]) * rng.normal(size=count)
        return pd.DataFrame(x, columns=list("abc")), 3 * x[:, 1] + noise

    model = HistGradientBoostingRegressor(max_iter=60, random_state=0).fit(*rows(3_000, 0))
    frame, actual = rows(3_000, 0)
    estimator = fit_estimator(Reference("regression", frame, actual, model.predict(frame)), rng)
    window, labels = rows(2_000, 0.8)
    scores = model.predict(window)
    found = estimator.estimate(window, scores, reweight(frame, window, rng), rng)
    true = evaluate("regression", labels, scores, np.ones((1, 2_000)))
    registered = evaluate("regression", actual, model.predict(frame), np.ones((1, 3_000)))
    assert set(found) == set(METRICS["regression"])
    for name in ("mean_absolute_error", "root_mean_squared_error"):
        assert abs(found[name].value - true[name][0]) < 0.5 * abs(registered[name][0] - true[name][0]), name


def test_rows_of_one_entity_make_the_band_wider():
    frame, actual, scores = certain_world(600)
    reference = Reference("binary", frame, actual, scores)
    tenfold = Reference("binary", frame.loc[np.repeat(np.arange(600), 5)].reset_index(drop=True),
                        np.repeat(actual, 5), np.repeat(scores, 5, axis=0),
                        clusters=np.repeat(np.arange(600), 5))  # fmt: skip
    assert fit_estimator(reference, np.random.default_rng(8)).clustering == 1
    assert fit_estimator(tenfold, np.random.default_rng(8)).clustering == pytest.approx(5, rel=0.1)


def test_a_reference_row_is_told_its_label_by_models_that_did_not_see_it():
    rng = np.random.default_rng(9)
    reference = Reference("regression", pd.DataFrame({"x": rng.normal(size=400)}), rng.normal(size=400), np.zeros(400))
    found = expectation(reference, rng).reference_rows
    assert abs(np.corrcoef(found[:, 0], reference.actual)[0, 1]) < 0.2


def test_the_same_reference_and_seed_give_the_same_estimator_so_that_none_need_be_stored():
    frame, actual, scores = certain_world(500)
    one, other = (fit_estimator(Reference("binary", frame, actual, scores), np.random.default_rng(1)) for _ in "ab")
    assert (one.expected.reference_rows == other.expected.reference_rows).all()
    assert one.model_error == other.model_error


def test_a_reference_of_a_handful_of_rows_is_refused():
    frame, actual, scores = certain_world(30)
    with pytest.raises(ValueError, match="30 reference rows"):
        fit_estimator(Reference("binary", frame, actual, scores), np.random.default_rng(1))


def test_past_estimates_are_graded_by_what_came_true():
    assert estimate_error([0.8, 0.7], [0.7, 0.75]) == pytest.approx(0.075)
    with pytest.raises(ValueError, match="make no error"):
        estimate_error([], [])


def test_rows_that_are_alike_are_not_weighted_and_moved_ones_look_like_the_window():
    rng = np.random.default_rng(10)
    reference, moved = (pd.DataFrame({"x": rng.normal(centre, 1, 3_000), "k": rng.choice(["a", "b"], 3_000)})
                        for centre in (0, 1))  # fmt: skip
    same = reweight(reference, reference.sample(frac=1, random_state=1), rng)
    assert not same.shifted
    assert same.effective_rows == 3_000
    found = reweight(reference, moved, rng)
    assert found.weights @ reference["x"] / 3_000 == pytest.approx(1, abs=0.15)
    assert 500 < found.effective_rows < 2_500
    assert found.separation == pytest.approx(0.76, abs=0.03)
    far = reweight(reference, moved.assign(x=moved["x"] * 100), rng)
    assert far.window_common.mean() < 0.2


def test_columns_of_every_kind_are_encoded():
    reference = pd.DataFrame({"flag": [True, False, True], "code": pd.Categorical(["x", "y", "x"]), "n": [1, 2, None]})
    window = pd.DataFrame({"flag": [False, True], "code": pd.Categorical(["z", None]), "n": [-np.inf, "?"]})
    found = encode(reference, window)
    assert np.isfinite(found[0, 2])
    assert np.isnan(found[1, 1:]).all()
    assert found[:, 0].tolist() == [0, 1]
    assert found[0, 1] == -1
