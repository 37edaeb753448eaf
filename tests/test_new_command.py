"""`python -m pipeline new`: what it infers, what it doubts, and that the file it writes can be used."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tries
from hypothesis import strategies as st

from pipeline.__main__ import main
from pipeline.config import load_model
from pipeline.core.guesses import guess_positive, guess_task
from pipeline.core.model_text import comment, scalar
from pipeline.core.profile import read_column
from pipeline.core.proposal import choose_estimator
from pipeline.errors import BadConfiguration, BadData, NotEnoughData, SourceUnreadable
from pipeline.new import guess_encoding, new
from pipeline.stages import run_stage
from tests.conftest import at, customers

UNASKED = {
    "task": None, "entity": [], "event_time": None, "arrival": None, "known_after_days": 0.0, "ordered_rows": False,
    "separator": None, "encoding": "utf-8", "force": False,
}  # fmt: skip


@pytest.fixture
def write(settings):
    """Run the command; the result, and the model file as it is read."""

    def run(data, target, name="made", **asked):
        wanted = UNASKED | {"name": name, "data": str(data), "target": target} | asked
        return new(argparse.Namespace(**wanted), settings), load_model(name, settings.models_dir)

    return run


@pytest.fixture
def table(tmp_path):
    """A file of customers, without instants unless asked for."""

    def save(name="table.csv", timed=False, rows=1500, **changes):
        frame = customers(rows).assign(**changes)
        frame = frame if timed else frame.drop(columns=["event_time", "arrived_at"])
        frame.to_csv(tmp_path / name, index=False)
        return tmp_path / name

    return save


def doubted(result):
    return {doubt.column: doubt for doubt in result.doubts}


@pytest.mark.parametrize("file", ["telco_churn.csv", "telco_churn_mixedblank.csv"])
def test_telco_is_understood_whoever_wrote_its_blanks(real_data, write, file):
    result, model = write(real_data / file, "Churn")
    assert (model.task, model.target.positive, model.entity, model.time) == ("binary", "Yes", ("customerID",), None)
    assert model.features.columns["TotalCharges"] == "number"
    assert [n for n, kind in model.features.columns.items() if kind == "number"] == [
        "SeniorCitizen", "tenure", "MonthlyCharges", "TotalCharges",
    ]  # fmt: skip
    assert set(doubted(result)) == {"(rows)", "TotalCharges"}
    assert doubted(result)["TotalCharges"].reason == "11 blanks are read as missing"
    assert doubted(result)["(rows)"].reason.startswith("22 rows")


def test_the_duration_of_a_call_is_doubted_before_the_call_but_kept(real_data, write):
    result, model = write(real_data / "bank_additional_full.csv", "y", ordered_rows=True)
    assert model.source.separator == ";"
    assert model.time.order == "rows"
    asked = {doubt.column for doubt in result.doubts if doubt.kind == "stands out"}
    assert asked == {"duration"}
    assert not result.inferred.excluded
    assert model.features.columns["duration"] == "number"
    assert doubted(result)["pdays"].kind == "sentinel"
    assert doubted(result)["job"].kind == "word for missing"


def test_the_two_parts_of_bike_demand_are_found_and_the_hour_is_not_suspected(real_data, write):
    result, model = write(real_data / "bike_hour.csv", "cnt")
    assert (model.task, model.entity, model.time.event) == ("regression", ("instant",), "dteday")
    assert model.features.exclude == ("casual", "registered")
    assert "cnt = casual + registered" in doubted(result)["casual"].reason
    assert "hr" not in doubted(result)


def test_streams_whose_order_is_time_are_taken_as_they_are(real_data, write):
    for file, target, positive, odd in (("elec2", "class", "UP", {"date"}), ("noaa_weather", "target", 1, set())):
        result, model = write(real_data / f"{file}.csv", target, file, ordered_rows=True)
        assert (model.task, model.target.positive, model.time.order) == ("binary", positive, "rows")
        assert len(model.features.columns) == 8
        assert set(doubted(result)) == odd


def test_the_default_estimator_does_on_telco_what_is_known_to_be_possible(real_data, write):
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import train_test_split
    from threadpoolctl import threadpool_limits

    from pipeline.core.recipe import build

    _, model = write(real_data / "telco_churn.csv", "Churn")
    raw = pd.read_csv(real_data / "telco_churn.csv", dtype=str)
    rows = pd.DataFrame({
        name: pd.to_numeric(raw[name], errors="coerce") if kind == "number" else raw[name].astype(object)
        for name, kind in model.features.columns.items()
    })  # fmt: skip
    churned = (raw["Churn"] == "Yes").to_numpy()
    found = []
    for seed in range(3):
        train, test = train_test_split(np.arange(len(rows)), test_size=0.2, random_state=seed)
        made = build(
            model.training.estimator, model.training.parameters, 7, model.features.columns, rows.loc[train], 50
        )
        with threadpool_limits(limits=1):
            made.fit(rows.loc[train], churned[train])
        found.append(roc_auc_score(churned[test], made.predict_proba(rows.loc[test])[:, 1]))
    assert np.mean(found) >= 0.84
    assert min(found) >= 0.83


def test_a_table_with_instants_is_split_by_them_and_its_arrivals_are_told_apart(write, table, settings):
    result, model = write(table(timed=True), "churned")
    assert (model.time.event, model.time.arrival, model.entity) == ("event_time", "arrived_at", ("customer",))
    assert list(model.features.columns) == ["tenure", "charge", "plan"]
    assert doubted(result)["event_time"].reason.startswith("it is taken for the time of the event")
    record = None
    for stage in ("ingest", "validate", "prepare"):
        record = run_stage(stage, model, at(model), settings, record)
    assert record.train_rows > record.test_rows > 200


def test_what_the_person_says_is_written_down(write, table):
    _, model = write(table(timed=True), "churned", entity=["customer"], event_time="event_time", arrival="arrived_at",
                     known_after_days=30.0)  # fmt: skip
    assert model.target.known_after_days == 30
    assert model.time.arrival == "arrived_at"
    result, model = write(table(), "churned", "other", ordered_rows=True, entity=["customer", "plan"])
    assert model.entity == ("customer", "plan")
    assert "plan" not in model.features.columns
    assert json.loads(result.to_json())["inferred"]["entity"] == ["customer", "plan"]


def test_a_customer_who_comes_again_is_the_entity_together_with_the_instant(write, table):
    _, model = write(table(timed=True, customer=[f"C{i % 300}" for i in range(1500)]), "churned", entity=[])
    assert model.entity == ()
    frame = customers(1500).assign(customer_id=[i % 300 for i in range(1500)]).drop(columns="customer")
    path = table().with_name("again.csv")
    frame.to_csv(path, index=False)
    _, model = write(path, "churned", "again")
    assert model.entity == ("customer_id",)


def test_dates_that_are_not_iso_are_read_by_the_form_that_fits_and_the_run_reads_them_too(write, table, settings):
    days = [(dt.date(2025, 1, 1) + dt.timedelta(days=i // 5)).strftime("%d/%m/%Y") for i in range(1500)]
    path = table(timed=True, event_time=days)
    frame = pd.read_csv(path).drop(columns="arrived_at")
    frame.to_csv(path, index=False)
    _, model = write(path, "churned")
    assert model.time.format == "%d/%m/%Y"
    assert run_stage("ingest", model, at(model), settings, None).rejected_rows == 0


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
def test_the_separator_is_found_even_where_numbers_hold_commas(write, table, tmp_path, separator):
    frame = pd.read_csv(table()).assign(note="one, two; three")
    frame.to_csv(tmp_path / "other.txt", index=False, sep=separator)
    _, model = write(tmp_path / "other.txt", "churned")
    assert model.source.separator == separator


def test_a_table_from_a_spreadsheet_is_read_in_its_own_encoding_and_that_is_said(write, table, tmp_path, settings):
    frame = pd.read_csv(table()).replace({"plan": {"basic": "Café"}})
    frame.to_csv(tmp_path / "office.csv", index=False, encoding="cp1252")
    result, model = write(tmp_path / "office.csv", "churned")
    assert model.source.encoding == "cp1252"
    assert "read as cp1252" in doubted(result)["(rows)"].reason
    assert run_stage("ingest", model, at(model), settings, None).rows == 1500
    frame.to_csv(tmp_path / "wide.csv", index=False, encoding="utf-16")
    assert write(tmp_path / "wide.csv", "churned", "wide")[1].source.encoding == "utf-16"


def test_a_character_cut_at_the_end_of_what_is_read_does_not_change_the_encoding(monkeypatch):
    monkeypatch.setattr("pipeline.new.HEAD_BYTES", 4)
    assert guess_encoding("café".encode()[:4]) == "utf-8"


def test_folders_parquet_and_files_without_an_ending_are_tables_too(write, tmp_path):
    frame = customers(1500)
    (tmp_path / "daily").mkdir()
    frame[:700].to_parquet(tmp_path / "daily" / "1.parquet")
    frame[700:].to_parquet(tmp_path / "daily" / "2.parquet")
    frame.to_parquet(tmp_path / "no_ending")
    result, model = write(tmp_path / "daily", "churned")
    assert result.rows_read == 1500
    assert model.source.format is None
    assert write(tmp_path / "no_ending", "churned", "other")[1].source.format == "parquet"


def test_only_the_first_rows_of_a_large_table_are_read_and_that_is_said(write, table, monkeypatch):
    monkeypatch.setattr("pipeline.new.ROWS_READ", 1000)
    result, _ = write(table(), "churned")
    assert (result.rows_read, result.is_whole) == (1000, False)
    assert "the table has more" in result.to_text()


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["no", "yes"] * 50, "binary"),
        ([0, 1] * 50, "binary"),
        ([True, False] * 50, "binary"),
        (["a", "b", "c"] * 50, "multiclass"),
        ([3, 4, 5, 6] * 50, "multiclass"),
        ([0.5, 1.5, 2.5] * 50, "regression"),
        (list(range(200)), "regression"),
        (["1.5", " ", "2.25", "7"] * 50, "regression"),
    ],
)
def test_the_task_follows_from_the_target(values, task):
    assert guess_task(read_column("y", pa.array(values))) == task


@pytest.mark.parametrize(
    ("values", "positive"),
    [
        (["Yes", "No", "Yes"], "Yes"),
        ([0, 1, 1], "1"),
        (["UP", "DOWN"], "UP"),
        (["Existing", "Attrited"], "Attrited"),
        (["stayed", "moved away"], "moved away"),
        (["red", "red", "blue"], "blue"),
        ([1, 2, 1], "1"),
        ([-1.0, 1.0, 1.0], "1"),
    ],
)
def test_the_class_that_counts_is_the_affirmative_one_else_the_rarer(values, positive):
    assert guess_positive(read_column("y", pa.array(values)))[0] == positive


@pytest.mark.parametrize(
    "values", [["Yes", "No"], ["1.0", "0.0"], ["on", "off"], ["01", "02"], ["null", "~"], ["1", "0"]]
)
def test_the_positive_class_comes_back_as_the_table_writes_it(values, write, table):
    churned = customers(1500).churned.map({1: values[0], 0: values[1]})
    _, model = write(table(churned=churned), "churned")
    assert str(model.target.positive) in values


def test_truth_values_of_parquet_are_classes_as_the_stages_write_them(write, tmp_path, settings):
    frame = customers(1500).assign(churned=lambda f: f.churned == 1, vip=lambda f: f.tenure > 40)
    frame.to_parquet(tmp_path / "table.parquet")
    _, model = write(tmp_path / "table.parquet", "churned")
    assert (model.target.positive, model.features.columns["vip"]) == ("True", "number")
    record = None
    for stage in ("ingest", "validate"):
        record = run_stage(stage, model, at(model), settings, record)
    assert record.quarantined_rows == 0


def test_the_reason_for_leaving_a_column_out_stands_beside_it(write, table, settings):
    result, model = write(table(country="NL", refund=customers(1500).churned * 10), "churned")
    text = (settings.models_dir / "made.yaml").read_text()
    assert model.features.exclude == ("country", "refund")
    assert "    # every value is 'NL'\n    - country\n" in text
    assert "knows the answer\n    - refund\n" in text
    assert "left out:" in result.to_text()


def test_a_small_table_gets_a_simple_model_and_can_be_split(write, table):
    _, model = write(table(rows=150), "churned")
    assert model.training.estimator.endswith("LogisticRegression")
    assert model.split.min_rows == 15
    assert choose_estimator("regression", 150)[0].endswith("HistGradientBoostingRegressor")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", SourceUnreadable, "is empty"),
        (b"a,b,y\n", SourceUnreadable, "has a header but no rows"),
        (b"a,a,y\n1,2,3\n", SourceUnreadable, "'a' more than once"),
        (b",a,y\n0,1,2\n1,2,3\n", SourceUnreadable, "column 1 .* has no name.*index=False"),
        (b"a,yy\n1,2\n2,3\n", BadConfiguration, "--target y: .* no such column; did you mean 'yy'"),
        (b"a,y\n1,2\n2,2\n", NotEnoughData, "one value, '2' in all 2 rows"),
        (b"a,y\n1, \n2,\n", BadData, "is empty; choose another"),
        (b"a,y\n1,0\n2,1\n1,0\n", BadConfiguration, "--entity, --event-time, or --ordered-rows"),
        (b"id,y\n1,0\n2,1\n3,0\n", BadData, "no column is left as a feature"),
        (b"id,a,y\n1,p,2026-01-01\n2,q,2026-01-02\n", BadData, "is time; choose another"),
        (b"id,a,y\n1,p,?\n2,q,0\n3,r,1\n" + b"4,s,1\n5,t,0\n" * 30, BadData, "or has values that are no class"),
        (b"PK\x03\x04\0\0\xff\xfe\x81", SourceUnreadable, "neither text nor Parquet; export it"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_says_why_and_what_to_do(content, error, message, write, tmp_path, settings):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(error, match=message):
        write(tmp_path / "table.csv", "y")
    assert not settings.models_dir.exists() or not list(settings.models_dir.iterdir())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"name": "My Model"}, "'my_model' would do"),
        ({"name": "2fast"}, "'fast' would do"),
        ({"ordered_rows": True, "event_time": "event_time"}, "leave it or --event-time out"),
        ({"arrival": "arrived_at"}, "--arrival needs --event-time"),
        ({"known_after_days": -1.0}, "labels come later"),
        ({"known_after_days": 3.0}, "known_after_days needs time.event"),
        ({"entity": ["custmer"]}, "did you mean 'customer'"),
        ({"entity": ["churned"]}, "a column has one role"),
        ({"event_time": "plan"}, "cannot be read as an instant, such as '"),
        ({"task": "regression", "target": "plan"}, "holds texts such as"),
        ({"task": "binary", "target": "plan"}, "has 3 values"),
    ],
)
def test_a_flag_that_does_not_fit_is_refused_by_name(asked, message, write, table, settings):
    with pytest.raises((BadConfiguration, BadData), match=message):
        write(table(timed="event_time" in asked or "arrival" in asked), **{"target": "churned"} | asked)


def test_a_file_that_is_there_is_written_over_only_by_force(write, table, settings):
    write(table(), "churned")
    before = (settings.models_dir / "made.yaml").read_text()
    with pytest.raises(BadConfiguration, match="write over it with --force"):
        write(table(rows=800), "churned")
    assert (settings.models_dir / "made.yaml").read_text() == before
    write(table(rows=800), "churned", force=True)
    assert "800 rows" in (settings.models_dir / "made.yaml").read_text()
    assert os.listdir(settings.models_dir) == ["made.yaml"]


def test_a_missing_file_is_named(write, tmp_path):
    with pytest.raises(SourceUnreadable, match=r"absent\.csv': no such file"):
        write(tmp_path / "absent.csv", "y")


def test_the_same_table_gives_the_same_file(write, table, settings):
    write(table(), "churned", "one")
    write(table(), "churned", "two")
    one, two = ((settings.models_dir / f"{name}.yaml").read_bytes() for name in ("one", "two"))
    assert one == two


def test_the_command_speaks_to_people_and_to_programs(tmp_path, table, monkeypatch, capsys):
    monkeypatch.setenv("EVERGREEN_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    arguments = ["new", "made", "--data", str(table(country="NL")), "--target", "churned"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "country: every value is 'NL'" in printed
    assert "python -m pipeline run --model made" in printed
    assert main([*arguments, "--force", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["excluded"] == ["country"]
    assert content["inferred"]["features"]["plan"] == "category"
    assert main(arguments) == 2
    assert "--force" in capsys.readouterr().err


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(str.strip)
awkward = st.sampled_from(
    [
        *(
            "a: b",
            "- c",
            "'",
            '"',
            "#x",
            "Yes",
            "null",
            "1",
            "1.5",
            "<<",
            "=",
            "?",
            "{a}",
            "&a",
            "*a",
            "%d",
            "two\nlines",
        ),
        *("tab\tin", "\u2028", "é", "😀", "@", "`", "!tag", "~", "on", "2026-01-01", "x" * 1200),
    ]
)


@tries(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    found=st.lists(st.one_of(names, awkward), min_size=3, max_size=6, unique=True),
    values=st.lists(names, min_size=2, max_size=2, unique_by=str.strip),
)
def test_columns_and_classes_of_any_name_come_back_from_the_written_file(found, values, write, tmp_path):
    target, constant, *features = found
    values = [value + "c" for value in values]  # two numbers could be two ways to write one class
    rng = np.random.default_rng(0)
    columns = {name: rng.integers(0, 7, 60) for name in features}
    columns |= {target: [values[i % 3 > 0] for i in range(60)], constant: ["same"] * 60}
    pq.write_table(pa.table({name: pa.array(column) for name, column in columns.items()}), tmp_path / "t.parquet")
    _, model = write(tmp_path / "t.parquet", target, ordered_rows=True, force=True, task="binary")
    assert list(model.features.columns) == features
    assert model.features.exclude == (constant,)
    assert model.target.column == target
    assert str(model.target.positive) in [value.strip() for value in values]


@given(st.text())
def test_any_text_is_one_line_as_a_value_and_as_a_comment(text):
    assert len(scalar(text).splitlines()) <= 1
    assert len(comment(text).splitlines()) == 1
