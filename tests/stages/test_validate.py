from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.config import override
from pipeline.errors import BadConfiguration, DataRefused, NotEnoughData, SchemaChanged
from pipeline.stages.ingest import ingest
from pipeline.stages.validate import validate
from tests.conftest import at, customers

BETWEEN = {"expect": "expect_column_values_to_be_between", "column": "tenure", "min_value": 0, "max_value": 100}


def checked(model, settings, cutoff="2026-01-01"):
    context = at(model, cutoff)
    return validate(ingest(model, context, settings), model, context, settings)


def quarantine_of(record, settings):
    return pq.read_table(settings.home / record.quarantine).to_pandas()


def test_rows_that_break_an_expectation_go_to_quarantine_with_their_reason(write_model, settings):
    frame = customers()
    frame.loc[[3, 7], "tenure"] = -5
    model = override(write_model(frame), {"validation.expectations": [BETWEEN]})
    record = checked(model, settings)
    assert record.quarantined_reasons == {"tenure: column_values_to_be_between (min_value=0, max_value=100)": 2}
    rows = quarantine_of(record, settings)
    assert sorted(rows.customer) == ["C00003", "C00007"]
    assert rows["__reason"].str.startswith("tenure").all()
    assert record.rows + record.quarantined_rows == record.ingest.rows


def test_text_infinities_and_nameless_rows_are_set_apart_and_counted(write_model, settings):
    frame = customers().astype({"tenure": object, "customer": object})
    frame.loc[0, "tenure"] = "a long time"
    frame.loc[1, "charge"] = np.inf
    frame.loc[2, "customer"] = None
    record = checked(write_model(frame, suffix="csv"), settings)
    assert record.quarantined_reasons == {"charge: infinite": 1, "customer: empty": 1, "tenure: not a number": 1}


def test_more_bad_rows_than_allowed_stop_the_run_and_leave_a_page_to_read(write_model, settings):
    frame = customers()
    frame.loc[:200, "tenure"] = -5
    model = override(write_model(frame), {"validation.expectations": [BETWEEN]})
    with pytest.raises(DataRefused, match=r"201 of 1200 rows \(16.8%\) are in quarantine.*tenure") as refused:
        checked(model, settings)
    page = settings.runs / "churn" / "20260101T000000Z" / "refused-data-docs.html"
    assert str(page) in str(refused.value)
    assert "refused" in page.read_text()
    assert not list((settings.store / "validate").glob("[!.]*"))


def test_a_broken_table_level_expectation_stops_the_run(write_model, settings):
    expectation = {"expect": "expect_column_mean_to_be_between", "column": "charge", "min_value": 500}
    model = override(write_model(customers()), {"validation.expectations": [expectation]})
    with pytest.raises(DataRefused, match=r"expect_column_mean_to_be_between.*charge.*found 60"):
        checked(model, settings)


def test_a_row_level_expectation_with_mostly_stops_the_run_below_its_share(write_model, settings):
    expectation = BETWEEN | {"max_value": 70, "mostly": 0.999}
    model = override(write_model(customers()), {"validation.expectations": [expectation]})
    with pytest.raises(DataRefused, match=r"mostly=0\.999"):
        checked(model, settings)


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
        (BETWEEN | {"expect": "expect_column_values_to_be_betwen"}, "did you mean expect_column_values_to_be_between"),
        (BETWEEN | {"colum": "tenure"}, "colum"),
        (BETWEEN | {"column": "tenur"}, 'column "tenur"'),
    ],
)  # fmt: skip
def test_an_expectation_that_cannot_be_checked_is_named(expectation, message, write_model, settings):
    model = override(write_model(customers()), {"validation.expectations": [expectation]})
    with pytest.raises(BadConfiguration, match=message):
        checked(model, settings)


def test_large_tables_are_checked_batch_by_batch_to_the_same_result(write_model, settings, monkeypatch):
    frame = customers()
    frame.loc[[3, 1100], "tenure"] = -5
    whole = {"expect": "expect_table_row_count_to_be_between", "min_value": 1198, "max_value": 1198}
    model = override(write_model(frame), {"validation.expectations": [BETWEEN, whole]})
    monkeypatch.setattr("pipeline.adapters.frames.BATCH_ROWS", 100)
    record = checked(model, settings)
    assert record.quarantined_rows == 2
    assert record.rows == 1198


def test_data_docs_open_in_a_browser_without_asking_anyone_else(write_model, settings):
    model = override(write_model(customers()), {"validation.expectations": [BETWEEN]})
    page = (settings.home / checked(model, settings).data_docs).read_text()
    assert "tenure" in page
    assert 'src="http' not in page
    assert 'href="http' not in page


def test_features_are_inferred_once_and_then_pinned(write_model, settings):
    model = write_model(customers())
    first = checked(model, settings)
    assert pq.read_schema(settings.home / first.clean).names == [
        "customer", "event_time", "churned", "tenure", "charge", "plan",
    ]  # fmt: skip
    as_text = customers().assign(tenure=[f"{t} months" for t in customers().tenure])
    with pytest.raises(SchemaChanged, match="'tenure' is pinned as a number"):
        checked(write_model(as_text), settings)


def test_a_column_that_vanishes_is_named(write_model, settings):
    checked(write_model(customers()), settings)
    with pytest.raises(SchemaChanged, match="'plan' of the pinned schema has vanished"):
        checked(write_model(customers().drop(columns="plan")), settings)


def test_a_column_that_appears_is_refused_unless_the_model_file_ignores_it(write_model, settings):
    checked(write_model(customers()), settings)
    model = write_model(customers().assign(mood="good"))
    with pytest.raises(SchemaChanged, match=r"'mood' is not in the pinned schema.*new_columns"):
        checked(model, settings)
    assert checked(override(model, {"features.new_columns": "ignore"}), settings).rows == 1200


def test_a_column_without_any_value_is_named(write_model, settings):
    checked(write_model(customers()), settings)
    with pytest.raises(SchemaChanged, match="'charge' is empty in every row"):
        checked(write_model(customers().assign(charge=np.nan)), settings)


def test_ten_thousand_categories_are_refused_with_what_to_do(write_model, settings):
    frame = customers(12_000)
    frame["street"] = [f"street {i % 10_000}" for i in range(12_000)]
    model = override(write_model(frame), {"features.columns": {"tenure": "number", "street": "category"}})
    with pytest.raises(SchemaChanged, match=r"'street' has about \d+ categories.*features.max_categories"):
        checked(model, settings)


@pytest.mark.parametrize(("target", "message"), [(0, "one value, '0'"), (None, "no row has a final label")])
def test_a_target_that_cannot_be_learned_is_named(target, message, write_model, settings):
    frame = customers().assign(churned=pd.array([target] * 1200, dtype="Int64"))
    with pytest.raises(NotEnoughData, match=message):
        checked(write_model(frame), settings)


def test_a_binary_target_of_three_values_says_so(write_model, settings):
    frame = customers().assign(churned=np.arange(1200) % 3)
    with pytest.raises(NotEnoughData, match="binary model has 3 values"):
        checked(write_model(frame), settings)
