from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from pipeline.core import fast_form
from pipeline.core.estimators import allowed_estimators
from pipeline.core.fitting import fit
from pipeline.core.package import Feature, InvalidInput, Manifest, Signature, rows_to_columns
from pipeline.core.predictor import SklearnScorer
from pipeline.core.preparation import FittedPreparation
from pipeline.core.recipe import build
from pipeline.errors import PackageInvalid
from pipeline.package_files import dump_model, load_model

FEATURES = {"a": "number", "b": "number", "c": "category", "d": "category"}


def table(rows: int = 600, seed: int = 0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "a": rng.normal(size=rows),
            "b": rng.normal(size=rows) * 1e3,
            "c": rng.choice(["x", "y", "z"], rows),
            "d": [f"k{i % 80}" for i in rng.integers(0, 80, rows)],
        }
    ).astype({"c": object, "d": object})
    frame.loc[:30, "a"] = np.nan
    frame.loc[20:60, "c"] = np.nan
    binary = ((frame.b > 0) ^ (frame.c == "x")).astype(int).to_numpy()
    targets = {
        "binary": binary,
        "multiclass": binary + (frame.a > 1).to_numpy(),
        "regression": np.abs(frame.b / 500) + binary + 0.1,
    }
    return frame, targets


def fitted(path: str, task: str):
    frame, targets = table()
    parameters = {"max_iter": 300} if "Logistic" in path else {"early_stopping": True} if "MLP" in path else {}
    pipeline = build(path, parameters, 1, FEATURES, frame, 50)
    return fit(pipeline, frame, np.asarray(targets[task]), 2, lambda *_: None), frame


CASES = [(task, path) for task in ("binary", "multiclass", "regression") for path in allowed_estimators(task)]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("task", "path"), CASES)
def test_every_allowed_estimator_travels_and_its_fast_form_gives_scikit_learns_answers(task, path):
    model, _ = fitted(path, task)
    unseen, _ = table(seed=5)
    unseen.loc[::7, "d"] = "never seen"
    columns = {name: unseen[name].to_numpy() for name in unseen}
    wanted = SklearnScorer(load_model(dump_model(model)), tuple(FEATURES)).scores(columns)
    preparation = FittedPreparation.from_json(FittedPreparation.from_sklearn(model.named_steps["prepare"]).to_json())
    matrix = preparation.transform(columns)
    assert np.array_equal(matrix, model.named_steps["prepare"].transform(unseen), equal_nan=True)
    form = fast_form.export(model.named_steps["model"])
    assert (form is None) == (path.rsplit(".", 1)[-1] in fast_form.NO_FORM)
    if form is not None:
        again = fast_form.load(form.kind, form.to_bytes())
        assert np.abs(again.scores(matrix) - wanted).max() <= 1e-9
        assert np.abs(again.scores(matrix[:1]) - wanted[:1]).max() <= 1e-9


def test_a_forest_grown_in_steps_is_the_forest_grown_at_once():
    frame, targets = table()
    for path in ("RandomForestClassifier", "GradientBoostingClassifier", "HistGradientBoostingClassifier"):
        pipeline = build(f"sklearn.ensemble.{path}", {}, 1, FEATURES, frame, 50)
        steps: list[int] = []
        grown = fit(pipeline, frame, targets["binary"], 2, lambda so_far, *_, s=steps: s.append(so_far))
        assert len(steps) == 10
        assert np.array_equal(grown.predict_proba(frame), pipeline.fit(frame, targets["binary"]).predict_proba(frame))


PROCESS = """
import hashlib
from tests.core.test_fast_form import fitted
from pipeline.package_files import dump_model
for path in ("sklearn.ensemble.RandomForestClassifier", "sklearn.linear_model.LogisticRegression"):
    print(hashlib.sha256(dump_model(fitted(path, "binary")[0])).hexdigest())
"""


def test_two_processes_write_the_same_model_as_the_same_bytes():
    once, again = (
        subprocess.run([sys.executable, "-c", prefix + PROCESS], capture_output=True, text=True, check=True).stdout
        for prefix in ("", "junk = [object() for _ in range(50_000)]\n")
    )
    assert once == again
    assert len(once.split()) == 2


def test_a_model_file_with_a_type_that_is_not_on_the_list_is_never_loaded():
    import skops.io
    from sklearn.gaussian_process import GaussianProcessRegressor

    class Foreign(GaussianProcessRegressor):
        pass

    content = skops.io.dumps(Foreign())
    with pytest.raises(PackageInvalid, match=r"Foreign, which may not be loaded"):
        load_model(content)


SIGNATURE = Signature(
    (Feature("age", "number", None, 0.0, 9.0), Feature("plan", "category", ("a", "b"), None, None)),
    "binary", ("No", "Yes"), "Yes",
)  # fmt: skip


@pytest.mark.parametrize(
    ("row", "feature", "reason"),
    [
        ({"age": "old", "plan": "a"}, "age", "must be a number"),
        ({"age": 1e999, "plan": "a"}, "age", "finite"),
        ({"age": 10**400, "plan": "a"}, "age", "finite"),
        ({"age": 1, "plan": 1.5}, "plan", "must be a text"),
        ({"age": 1}, "plan", "is missing"),
        ({"age": 1, "plan": "a", "plam": "b"}, "plam", "did you mean plan"),
        ([1], None, "1 values for the 2 features"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_the_name_of_its_feature(row, feature, reason):
    with pytest.raises(InvalidInput, match=reason) as refused:
        rows_to_columns([row], SIGNATURE)
    assert refused.value.feature == feature


def test_a_manifest_is_the_same_after_a_round_trip_and_its_digest_tells_a_change():
    manifest = Manifest("churn", "linear", SIGNATURE, {"model.skops": "ab"}, {"numpy": "2"})
    again = Manifest.from_json(manifest.to_json())
    assert again == manifest
    changed = Manifest("churn", "linear", SIGNATURE, {"model.skops": "ac"}, {"numpy": "2"})
    assert changed.digest != again.digest
