"""`python -m pipeline new`: what it infers, what it doubts, and that the file it writes runs."""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as tries
from hypothesis import strategies as st

from pipeline.__main__ import main
from pipeline.config import load_model
from pipeline.core.doubts import find_doubts
from pipeline.core.guesses import guess_task
from pipeline.core.profile import read_column
from pipeline.errors import BadConfiguration, SourceUnreadable
from pipeline.new import new
from tests.conftest import customers, turn

WANTED = {
    "task": None, "entity": [], "event_time": None, "arrival": None, "known_after_days": 0, "ordered_rows": False,
    "separator": None, "encoding": "utf-8", "force": False,
}  # fmt: skip


def written(settings, data, target, name="made", **wanted):
    result = new(
        argparse.Namespace(**{**WANTED, "name": name, "data": str(data), "target": target, **wanted}), settings
    )
    return load_model(name, settings.models_dir), {doubt.column: doubt for doubt in result.doubts}


def test_telco_runs_from_new_without_a_hand_edit_and_blanks_of_both_kinds_give_the_same(real_data, settings):
    records = []
    for name, file in (("telco", "telco_churn.csv"), ("mixed", "telco_churn_mixedblank.csv")):
        model, doubts = written(settings, real_data / file, "Churn", name)
        assert model.entity == ("customerID",)
        assert "customerID" not in model.features.columns
        assert model.features.columns["TotalCharges"] == "number"
        assert model.target.positive == "Yes"
        records.append(turn(model, settings).register.evaluate)
    assert "blanks" in {
        doubt.kind for doubt in written(settings, real_data / "telco_churn.csv", "Churn", "again")[1].values()
    }
    assert doubts["(rows)"].reason.startswith("22 rows")
    assert records[0].metrics["roc_auc"].value >= 0.83
    assert records[0].metrics == records[1].metrics
    assert records[0].train.prepare.validate.ingest.rows == 7043


def test_bike_demand_is_a_regression_by_configuration_alone_and_its_leaks_are_named(real_data, settings):
    model, doubts = written(settings, real_data / "bike_hour.csv", "cnt", event_time="dteday")
    assert model.task == "regression"
    assert model.entity == ("instant",)
    for leak in ("casual", "registered"):
        assert doubts[leak].excluded
        assert "cnt = casual + registered" in doubts[leak].reason
        assert leak not in model.features.columns
    record = turn(model, settings)
    assert record.status == "deployed"
    assert record.register.evaluate.metrics["r2"].value > 0.7


def test_bank_marketing_is_read_with_its_own_separator_and_duration_is_doubted(real_data, settings):
    model, doubts = written(settings, real_data / "bank_additional_full.csv", "y", ordered_rows=True)
    assert model.source.separator == ";"
    assert "is it known when the prediction is made" in doubts["duration"].reason
    assert "does it mean missing" in doubts["pdays"].reason
    assert doubts["job"].kind == "word for missing"
    assert turn(model, settings).register.evaluate.metrics["roc_auc"].value > 0.7


def test_a_stream_whose_order_is_time_runs_too(real_data, settings):
    model, _ = written(settings, real_data / "noaa_weather.csv", "target", ordered_rows=True)
    assert turn(model, settings).register.evaluate.metrics["roc_auc"].value > 0.8


def test_identifiers_constants_and_what_knows_the_answer_are_left_out(settings, tmp_path):
    frame = customers(2000).drop(columns=["event_time", "arrived_at"])
    frame["row"] = range(2000)
    frame["letter"] = [f"L{i}" for i in range(2000)]
    frame["country"] = "NL"
    frame["refund"] = frame.churned * 10.0 + 1
    frame["nothing"] = None
    frame.to_csv(tmp_path / "table.csv", index=False)
    model, doubts = written(settings, tmp_path / "table.csv", "churned")
    assert {name for name, doubt in doubts.items() if doubt.excluded} == {
        "row",
        "letter",
        "country",
        "refund",
        "nothing",
    }
    assert doubts["refund"].kind == "determines the target"
    assert list(model.features.columns) == ["tenure", "charge", "plan"]
    assert turn(model, settings).status == "deployed"


def test_a_difference_that_is_the_target_is_named_with_its_parts():
    rng = np.random.default_rng(0)
    columns = [read_column(name, pd.Series(rng.normal(size=500))) for name in ("income", "cost", "weather")]
    profit = read_column("profit", pd.Series(columns[0].numbers - columns[1].numbers))
    doubts = find_doubts(columns, profit, "regression", max_categories=1000, is_ordered=False, rng=rng)
    assert {doubt.column for doubt in doubts if doubt.excluded} == {"income", "cost"}


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b"] * 50, "binary"),
        ([0, 1] * 50, "binary"),
        (["a", "b", "c"] * 50, "multiclass"),
        ([1, 2, 3, 4] * 50, "multiclass"),
        (list(np.linspace(0, 1, 100)), "regression"),
        (list(range(100)), "regression"),
    ],
)
def test_the_task_follows_from_the_target(values, task):
    assert guess_task(read_column("y", pd.Series(values))) == task


def test_what_cannot_be_is_said_with_what_to_do(settings, tmp_path, write_model):
    customers(50).to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(BadConfiguration, match="no such column; did you mean 'churned'"):
        written(settings, tmp_path / "table.csv", "churn")
    written(settings, tmp_path / "table.csv", "churned")
    with pytest.raises(BadConfiguration, match="write over it with --force"):
        written(settings, tmp_path / "table.csv", "churned")
    with pytest.raises(SourceUnreadable, match="no such file"):
        written(settings, tmp_path / "absent.csv", "churned", "other")
    pd.DataFrame({"a": [1, 1, 2], "y": [0, 1, 0]}).to_csv(tmp_path / "plain.csv", index=False)
    with pytest.raises(BadConfiguration, match="--entity, --event-time, or --ordered-rows"):
        written(settings, tmp_path / "plain.csv", "y", "other")
    assert not (settings.models_dir / "other.yaml").exists()


def test_the_command_prints_what_it_doubts_for_people_and_for_programs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EVERGREEN_MODELS", str(tmp_path / "models"))
    customers(200).assign(country="NL").to_csv(tmp_path / "table.csv", index=False)
    arguments = [
        "new",
        "made",
        "--data",
        str(tmp_path / "table.csv"),
        "--target",
        "churned",
        "--event-time",
        "event_time",
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "country: every value is 'NL'" in printed
    assert "python -m pipeline run --model made" in printed
    assert main([*arguments, "--force", "--json"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["doubts"]
    assert main(arguments) == 2


names = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12),
    min_size=2,
    max_size=4,
    unique=True,
)


@tries(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=names)
def test_columns_of_any_name_come_back_from_the_written_file(names, settings, tmp_path):
    rng = np.random.default_rng(0)
    table = {name: rng.integers(0, 7, 60) for name in names} | {"the target": rng.integers(0, 2, 60)}
    pd.DataFrame(table).to_parquet(tmp_path / "table.parquet")
    model, _ = written(settings, tmp_path / "table.parquet", "the target", ordered_rows=True, force=True)
    assert list(model.features.columns) == names
