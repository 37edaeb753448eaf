from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier

from pipeline.adapters.form_trial import (
    TRIAL,
    largest_difference,
    planted_rows,
    planted_values,
    read_trial,
    sklearn_scores,
    try_forms,
)
from pipeline.adapters.packages import write_package
from pipeline.core.fast_form_onnx import OnnxTrees
from pipeline.core.fast_form_onnx_writer import model_bytes
from pipeline.core.fast_form_trees import ensemble_of
from pipeline.core.fitting import fit
from pipeline.core.package import Feature, Signature, rows_to_columns
from pipeline.core.recipe import build
from pipeline.package_files import dump_model, read_golden, read_package

FEATURES = {"age": "number", "bill": "number", "plan": "category"}


def rows(count: int = 500, seed: int = 0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"age": rng.normal(40, 9, count), "bill": rng.gamma(2, 30, count), "plan": rng.choice(["a", "b", "c"], count)}
    ).astype({"plan": object})
    frame.loc[::9, "bill"] = np.nan
    return frame, (frame.age + 0.1 * frame.bill.fillna(0) + 5 * (frame["plan"] == "a") > 47).to_numpy(dtype=int)


def packaged(tmp_path, path: str, **parameters):
    frame, target = rows()
    model = fit(build(path, parameters, 1, FEATURES, frame, 50), frame, target, 1, lambda *_: None)
    features = tuple(
        Feature(name, kind, ("a", "b", "c"), None, None)
        if kind == "category"
        else Feature(name, kind, None, float(frame[name].min()), float(frame[name].max()))
        for name, kind in FEATURES.items()
    )
    binary = "Regress" not in path or "Logistic" in path
    signature = Signature(
        features, "binary" if binary else "regression", (0, 1) if binary else (), 1 if binary else None
    )
    folder, manifest, _ = write_package(
        tmp_path,
        model_file=dump_model(model),
        model_name="m",
        signature=signature,
        frame_sample=rows(seed=1)[0],
        seed=3,
    )
    return model, folder, manifest


SERVES = [
    ("sklearn.ensemble.RandomForestClassifier", "onnx"),
    ("sklearn.ensemble.HistGradientBoostingRegressor", "onnx"),
    ("sklearn.tree.DecisionTreeClassifier", "onnx"),
    ("sklearn.linear_model.LogisticRegression", "linear"),
    ("sklearn.neural_network.MLPRegressor", "mlp"),
    ("sklearn.naive_bayes.GaussianNB", "naive_bayes"),
    ("sklearn.neighbors.KNeighborsClassifier", "skops"),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("path", "form"), SERVES)
def test_a_package_serves_the_first_right_form_and_keeps_what_the_trial_found(tmp_path, path, form):
    _, folder, manifest = packaged(tmp_path, path)
    tried = read_trial(folder)
    assert manifest.form == form == next(entry.form for entry in tried if entry.outcome == "serves")
    assert TRIAL not in manifest.files
    assert tried[-1].form == "skops"
    for entry in tried:
        if entry.outcome != "refused":
            assert entry.difference <= 1e-6
            assert entry.one_row_us > 0
            assert entry.batch_us > 0
    assert (tried[-1].reason != "") == (form == "skops")
    assert read_package(folder).manifest == manifest


def test_golden_rows_stand_at_the_thresholds_of_the_model_and_beside_them(tmp_path):
    model, folder, _ = packaged(tmp_path, "sklearn.ensemble.HistGradientBoostingClassifier")
    golden, _ = read_golden(folder)
    asked = {row["age"] for row in golden} | {row["bill"] for row in golden}
    columns, values = planted_values(model.named_steps["model"], 20)
    numbers = {value for column, value in zip(columns, values, strict=True) if column < 2}
    assert len(numbers) > 20
    assert numbers <= asked


def test_the_same_model_is_the_same_package_however_long_the_trial_took(tmp_path):
    _, once, _ = packaged(tmp_path / "a", "sklearn.ensemble.RandomForestClassifier", n_estimators=20)
    _, again, _ = packaged(tmp_path / "b", "sklearn.ensemble.RandomForestClassifier", n_estimators=20)
    assert once.name == again.name
    assert (once / TRIAL).read_bytes() != (again / TRIAL).read_bytes()


def test_a_form_that_answers_otherwise_is_refused_with_the_difference():
    frame, target = rows()
    matrix = frame[["age", "bill"]].fillna(0.0).to_numpy()
    # treelite takes the exponential loss for a logistic one, and answers with half the log odds.
    estimator = GradientBoostingClassifier(loss="exponential", n_estimators=10, random_state=0).fit(matrix, target)
    wanted = sklearn_scores(estimator, matrix)
    trial = try_forms(estimator, matrix, lambda form: np.abs(form.scores(matrix) - wanted).max(), 1e-6)
    onnx, treelite, scikit = trial.tried
    assert (onnx.outcome, treelite.outcome, scikit.outcome) == ("serves", "refused", "right")
    assert "differs from scikit-learn by" in treelite.reason
    assert treelite.difference > 0.01
    assert trial.form is not None
    nothing_is_right = try_forms(estimator, matrix, lambda _: 1.0, 1e-6)
    assert nothing_is_right.form is None
    assert nothing_is_right.tried[-1].outcome == "serves"


def test_thresholds_that_are_one_float64_off_show_on_planted_rows_and_on_no_other():
    frame, target = rows()
    matrix = frame[["age", "bill"]].to_numpy()
    estimator = HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(matrix, target)
    right = ensemble_of(estimator)
    moved = [replace(tree, threshold=np.nextafter(tree.threshold, np.inf)) for tree in right.trees]
    wrong = OnnxTrees(model_bytes(replace(right, trees=tuple(moved))))
    planted = planted_rows(estimator, matrix)
    assert largest_difference(wrong.scores(matrix), sklearn_scores(estimator, matrix)) < 1e-12
    assert largest_difference(wrong.scores(planted), sklearn_scores(estimator, planted)) > 1e-3


def test_a_preparation_without_a_plain_form_leaves_it_to_scikit_learn():
    frame, target = rows()
    matrix = frame[["age", "bill"]].fillna(0.0).to_numpy()
    estimator = GradientBoostingClassifier(n_estimators=3, random_state=0).fit(matrix, target)
    trial = try_forms(estimator, matrix, lambda _: 0.0, 1e-6, unprepared="PCA has no plain form")
    assert trial.form is None
    assert {entry.reason for entry in trial.tried[:-1]} == {"PCA has no plain form"}


def test_a_large_forest_is_tried_in_a_few_seconds(tmp_path):
    start = time.monotonic()
    _, folder, _ = packaged(tmp_path, "sklearn.ensemble.RandomForestClassifier", n_estimators=200)
    assert time.monotonic() - start < 60
    golden, scores = read_golden(folder)
    loaded = read_package(folder)
    columns = rows_to_columns(golden, loaded.manifest.signature)
    assert np.abs(loaded.predictor.scores(columns) - scores).max() <= 1e-9
