from __future__ import annotations

import pytest

from pipeline.config import load_model, model_names, override, parse_model
from pipeline.context import parse_instant, run_context
from pipeline.errors import BadConfiguration
from pipeline.settings import TELEMETRY_OFF, load_settings

GOOD = """
task: binary
source: {path: x.csv}
entity: id
target: {column: y}
training: {estimator: sklearn.linear_model.LogisticRegression}
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("source: {path: x.csv, seperator: ';'}", r"source.seperator: unknown key; did you mean 'separator'\?"),
        ("tsak: binary", r"tsak: unknown key; did you mean 'task'\?"),
        ("split: {test_share: lots}", r"split.test_share: .*number, got 'lots'"),
        ("split: {test_share: 1.5}", r"split.test_share: .*less than 1, got 1.5"),
        ("split: {test_days: 9}", r"split.test_days needs time.event"),
        ("training: {estimator: os.system}", r"training.estimator: 'os.system' is not allowed for a binary model"),
        (
            "training: {estimator: sklearn.linear_model.LogisticRegresion}",
            r"did you mean 'sklearn.linear_model.Logistic",
        ),
        ("metrics: {primary: roc_acu}", r"metrics.primary: 'roc_acu' is not a binary metric; did you mean 'roc_auc'"),
        ("source: {}", r"source: give exactly one of path and sql"),
        ("entity: []", r"give entity, or time"),
        ("time: {arrival: a, event: e, order: rows}", r"time: give exactly one of event and order"),
    ],
)
def test_a_mistake_in_a_model_file_is_named_with_its_key(change, message):
    key = change.split(":")[0]
    text = "\n".join(line for line in GOOD.splitlines() if not line.startswith(f"{key}:")) + f"\n{change}\n"
    with pytest.raises(BadConfiguration, match=message) as refused:
        parse_model(text, "churn", "models/churn.yaml")
    assert "models/churn.yaml" in str(refused.value)


@pytest.mark.parametrize("text", ["a: [", "- a", ""])
def test_a_file_that_is_no_mapping_says_so(text):
    with pytest.raises(BadConfiguration, match=r"models/churn.yaml"):
        parse_model(text, "churn", "models/churn.yaml")


def test_a_model_that_is_not_there_is_met_with_the_nearest_one(tmp_path):
    (tmp_path / "churn.yaml").write_text(GOOD)
    assert model_names(tmp_path) == ["churn"]
    assert load_model("churn", tmp_path).primary_metric == "roc_auc"
    with pytest.raises(BadConfiguration, match="did you mean 'churn'"):
        load_model("chrun", tmp_path)


def test_a_model_is_frozen():
    model = parse_model(GOOD, "churn", "x")
    with pytest.raises(ValueError, match="frozen"):
        model.training.seed = 3  # type: ignore[misc]


def test_an_override_is_checked_like_the_file():
    model = parse_model(GOOD, "churn", "x")
    assert override(model, {"training.seed": 9, "training.parameters.C": 2.0}).training.parameters == {"C": 2.0}
    with pytest.raises(BadConfiguration, match="did you mean 'seed'"):
        override(model, {"training.sed": 9})


def test_whatever_started_a_run_its_cutoff_is_told_in_one_place():
    noon, midnight = parse_instant("2026-06-02T12:00Z"), parse_instant("2026-06-01")
    assert run_context("m", run_id="r", kind="manual", triggered_at=noon).cutoff == noon
    asked = run_context("m", run_id="r", kind="manual", triggered_at=noon, requested_cutoff="2026-06-01")
    assert asked.cutoff == midnight
    for kind in ("scheduled", "backfill"):
        assert run_context("m", run_id="r", kind=kind, triggered_at=noon, interval_end=midnight).cutoff == midnight
    event = run_context("m", run_id="r", kind="asset_triggered", triggered_at=noon, event_cutoff="2026-06-01")
    assert (event.cutoff, event.kind) == (midnight, "asset")
    with pytest.raises(BadConfiguration, match="no data interval"):
        run_context("m", run_id="r", kind="backfill", triggered_at=noon)
    with pytest.raises(BadConfiguration, match="is not an instant"):
        parse_instant("yesterday")


def test_nothing_phones_home_unless_the_user_says_so():
    environ: dict[str, str] = {"GX_ANALYTICS_ENABLED": "true"}
    load_settings(environ)
    assert environ["GX_ANALYTICS_ENABLED"] == "true"
    for name in set(TELEMETRY_OFF) - {"GX_ANALYTICS_ENABLED"}:
        assert environ[name] == TELEMETRY_OFF[name]


@pytest.mark.parametrize("value", ["many", "-1", "inf"])
def test_a_number_in_the_environment_that_is_none_is_named(value):
    with pytest.raises(BadConfiguration, match="EVERGREEN_THREADS"):
        load_settings({"EVERGREEN_THREADS": value})
