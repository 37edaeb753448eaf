from __future__ import annotations

import functools
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import (
    BayesianRidge,
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    QuantileRegressor,
    Ridge,
    SGDClassifier,
    SGDRegressor,
    TweedieRegressor,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.svm import LinearSVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from threadpoolctl import threadpool_limits

from pipeline.adapters.form_trial import planted_rows, sklearn_scores
from pipeline.core import fast_form
from pipeline.core.fast_form_trees import thresholds_of

K = 6
rng = np.random.default_rng(7)
MATRIX, LATER = rng.normal(size=(400, K)), rng.normal(size=(150, K))
MARGIN = MATRIX[:, 0] * MATRIX[:, 1] + MATRIX[:, 2] + rng.normal(size=400) * 0.3
TARGETS = {
    "binary": (MARGIN > 0).astype(int),
    "multiclass": (MARGIN > 0).astype(int) + (MATRIX[:, 3] > 0.5),
    "regression": np.exp(MARGIN / 2) * 100,
}
CLASSIFIERS = [
    RandomForestClassifier(30, random_state=0),
    RandomForestClassifier(30, max_depth=3, max_features=None, class_weight="balanced", random_state=0),
    ExtraTreesClassifier(30, random_state=0),
    DecisionTreeClassifier(max_depth=6, random_state=0),
    GradientBoostingClassifier(n_estimators=20, random_state=0),
    GradientBoostingClassifier(n_estimators=50, n_iter_no_change=2, init="zero", random_state=0),
    HistGradientBoostingClassifier(max_iter=20, random_state=0),
    LogisticRegression(),
    LinearDiscriminantAnalysis(),
    SGDClassifier(loss="log_loss", random_state=0),
    SGDClassifier(loss="modified_huber", random_state=0),
    GaussianNB(),
    *(MLPClassifier((9, 5), activation=a, max_iter=20, random_state=0) for a in ("relu", "tanh", "logistic")),
    MLPClassifier((), max_iter=20, random_state=0),
]
REGRESSORS = [
    RandomForestRegressor(30, random_state=0),
    ExtraTreesRegressor(30, bootstrap=True, random_state=0),
    DecisionTreeRegressor(random_state=0),
    *(GradientBoostingRegressor(loss=x, n_estimators=20, random_state=0) for x in ("huber", "quantile")),
    *(
        HistGradientBoostingRegressor(loss=x, max_iter=20, quantile=0.8, random_state=0)
        for x in ("squared_error", "absolute_error", "quantile", "poisson", "gamma")
    ),
    LinearRegression(),
    LinearRegression(fit_intercept=False),
    Ridge(),
    Lasso(),
    ElasticNet(),
    BayesianRidge(),
    HuberRegressor(max_iter=1000),
    QuantileRegressor(),
    SGDRegressor(random_state=0),
    LinearSVR(random_state=0),
    PoissonRegressor(),
    GammaRegressor(),
    TweedieRegressor(power=1.5),
    TweedieRegressor(power=0, link="log"),
    TweedieRegressor(power=0),
    MLPRegressor(hidden_layer_sizes=(9,), activation="identity", max_iter=20, random_state=0),
    MLPRegressor(hidden_layer_sizes=(9,), loss="poisson", max_iter=20, random_state=0),
]
CASES = [(task, e) for task in ("binary", "multiclass") for e in CLASSIFIERS] + [("regression", e) for e in REGRESSORS]
CASES.append(("binary", GradientBoostingClassifier(loss="exponential", n_estimators=20, random_state=0)))
TREES = [place for place, (_, e) in enumerate(CASES) if type(e).__name__ in fast_form.READ["onnx"][0]]
HOLES = [place for place in TREES if not type(CASES[place][1]).__name__.startswith("Gradient")]
"""Those that take missing values."""


def name_of(place):
    task, estimator = CASES[place]
    return f"{task}-{' '.join(str(estimator).split())[:60]}"


@pytest.fixture(autouse=True)
def _one_thread():
    """On a busy machine threads wait longer for each other than they gain."""
    with threadpool_limits(limits=1):
        yield


@functools.cache
def fitted(place):
    task, estimator = CASES[place]
    return clone(estimator).fit(MATRIX, TARGETS[task])


def trial_forms(estimator):
    """Forms that the estimator has, read back from their bytes, by kind."""
    made = {kind: form for kind, form in fast_form.forms(estimator) if hasattr(form, "scores")}
    return {kind: fast_form.load(kind, form.to_bytes()) for kind, form in made.items()}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("place", range(len(CASES)), ids=name_of)
def test_every_form_of_an_estimator_gives_its_answers_also_at_and_beside_its_thresholds(place):
    estimator = fitted(place)
    asked = np.vstack([LATER, planted_rows(estimator, LATER)])
    wanted = sklearn_scores(estimator, asked)
    forms = trial_forms(estimator)
    assert forms
    for kind, form in forms.items():
        if kind == "treelite" and getattr(estimator, "loss", "") == "exponential":
            continue  # Answers otherwise; the trial refuses it.
        # treelite's softmax and exponential compute in float32.
        tolerance = (1e-9 if kind != "treelite" else 1e-6) * max(1.0, np.abs(wanted).max())
        assert np.abs(form.scores(asked) - wanted).max() <= tolerance, kind
        one_by_one = np.concatenate([form.scores(asked[i : i + 1]) for i in range(0, len(asked), 7)])
        assert np.abs(one_by_one - wanted[::7]).max() <= tolerance, kind
        assert form.scores(asked[:0]).shape == wanted[:0].shape


@pytest.mark.parametrize("place", TREES, ids=name_of)
def test_trees_in_onnx_answer_to_the_last_bit_where_nothing_but_sums_is_computed(place):
    estimator = fitted(place)
    asked = np.vstack([LATER, planted_rows(estimator, LATER)])
    wanted, found = sklearn_scores(estimator, asked), trial_forms(estimator)["onnx"].scores(asked)
    if CASES[place][0] == "multiclass":
        assert np.array_equal(found.argmax(axis=1), wanted.argmax(axis=1))
        assert np.abs(found - wanted).max() <= 1e-12
    elif "Boosting" not in str(estimator):
        positive = (slice(None), 1) if CASES[place][0] == "binary" else slice(None)
        assert np.array_equal(found[positive], wanted[positive])


@pytest.mark.parametrize("place", HOLES, ids=name_of)
def test_a_missing_value_goes_where_scikit_learn_sends_it(place):
    task, estimator = CASES[place]
    holes, asked = MATRIX.copy(), LATER.copy()
    holes[np.random.default_rng(1).random(MATRIX.shape) < 0.2] = np.nan
    asked[np.random.default_rng(2).random(LATER.shape) < 0.4] = np.nan
    for learned in (fitted(place), clone(estimator).fit(holes, TARGETS[task])):
        wanted = sklearn_scores(learned, asked)
        found = trial_forms(learned)["onnx"].scores(asked)
        assert np.abs(found - wanted).max() <= 1e-9 * max(1.0, np.abs(wanted).max())


def test_an_undecided_forest_stays_on_its_side_of_one_half():
    estimator = RandomForestClassifier(10, random_state=0).fit(MATRIX, TARGETS["binary"])
    positive = estimator.predict_proba(LATER)[:, 1]
    assert (positive == 0.5).any()
    assert np.array_equal(trial_forms(estimator)["onnx"].scores(LATER)[:, 1] >= 0.5, positive >= 0.5)


def test_a_tree_that_is_one_leaf_answers_the_same_for_all():
    for depthless in (
        DecisionTreeRegressor(min_samples_leaf=400),
        GradientBoostingRegressor(n_estimators=3, min_samples_leaf=400),
        RandomForestClassifier(5, min_samples_leaf=400),
    ):
        task = "multiclass" if hasattr(depthless, "predict_proba") else "regression"
        depthless.fit(MATRIX, TARGETS[task])
        wanted = sklearn_scores(depthless, LATER)
        assert np.abs(trial_forms(depthless)["onnx"].scores(LATER) - wanted).max() <= 1e-9


def test_splits_on_categories_are_left_to_treelite():
    codes = MATRIX.copy()
    codes[:, 2] = np.random.default_rng(3).integers(0, 9, len(codes))
    estimator = HistGradientBoostingClassifier(max_iter=20, categorical_features=[2], random_state=0)
    estimator.fit(codes, (codes[:, 2] % 2 == 0) ^ (codes[:, 0] > 0))
    found = dict(fast_form.forms(estimator))
    assert "categories" in str(found["onnx"])
    columns, _ = thresholds_of(estimator)
    assert 2 not in columns
    assert 0 in columns
    asked = planted_rows(estimator, codes)
    assert np.abs(found["treelite"].scores(asked) - estimator.predict_proba(asked)).max() <= 1e-9


def test_boosting_that_stopped_early_is_not_given_to_treelite_which_would_read_past_its_trees():
    estimator = GradientBoostingClassifier(n_estimators=200, n_iter_no_change=2, random_state=0)
    estimator.fit(MATRIX, TARGETS["binary"])
    assert len(estimator.estimators_) < 200
    assert "stopped early" in str(dict(fast_form.forms(estimator))["treelite"])


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (SGDClassifier(loss="hinge", random_state=0), "gives no probabilities"),
        (GradientBoostingRegressor(n_estimators=2, init=LinearRegression()), "starts from LinearRegression"),
    ],
)
def test_what_has_no_form_says_why(estimator, reason):
    estimator.fit(MATRIX, TARGETS["binary"])
    assert fast_form.export(estimator) is None
    assert any(reason in str(found) for _, found in fast_form.forms(estimator))


def test_several_targets_at_once_have_no_form():
    for estimator in (Ridge(), RandomForestRegressor(3), MLPRegressor(hidden_layer_sizes=(3,), max_iter=500, tol=1.0)):
        estimator.fit(MATRIX, MATRIX[:, :2])
        found = dict(fast_form.forms(estimator))
        assert "several targets" in str(next(iter(found.values())))


def test_a_number_beyond_float32_is_further_right_than_every_threshold():
    form = trial_forms(RandomForestClassifier(10, random_state=0).fit(MATRIX, TARGETS["binary"]))
    asked = LATER[:1].copy()
    asked[0, 0] = 1e300
    for found in form.values():
        large = found.scores(asked)
        asked[0, 0] = 1e30
        assert np.array_equal(large, found.scores(asked))


def test_a_matrix_of_another_width_is_refused_and_never_read_past_its_end():
    form = trial_forms(RandomForestClassifier(10, random_state=0).fit(MATRIX, TARGETS["binary"]))["onnx"]
    with pytest.raises(Exception, match=r"(?i)dimension"):
        form.scores(LATER[:, :3])


def test_equal_models_are_written_as_equal_bytes():
    for estimator in (RandomForestClassifier(5, random_state=0), HistGradientBoostingClassifier(max_iter=5)):
        once, again = (fast_form.export(estimator.fit(MATRIX, TARGETS["multiclass"])) for _ in range(2))
        assert once.to_bytes() == again.to_bytes()


SERVING = """
import sys, numpy as np
from pathlib import Path
from pipeline.core import fast_form
for path in sys.argv[1:]:
    form = fast_form.load(Path(path).name, Path(path).read_bytes())
    print(form.scores(np.zeros((2, 6))).shape)
print(sorted({"sklearn", "pandas", "mlflow", "onnx", "skops"} & set(sys.modules)))
"""


def test_a_server_loads_fast_forms_without_scikit_learn_pandas_or_mlflow(tmp_path):
    for estimator in (LogisticRegression(), GaussianNB(), MLPClassifier((3,), tol=1.0, max_iter=500),
                      RandomForestClassifier(5)):  # fmt: skip
        estimator.fit(MATRIX, TARGETS["binary"])
        for kind, form in fast_form.forms(estimator):
            (tmp_path / kind).write_bytes(form.to_bytes())
    kinds = sorted(tmp_path.iterdir())
    answer = subprocess.run([sys.executable, "-c", SERVING, *kinds], capture_output=True, text=True, check=True)
    assert {path.name for path in kinds} == set(fast_form.READ)
    assert answer.stdout.split("\n")[:-1] == ["(2, 2)"] * len(kinds) + ["[]"]
