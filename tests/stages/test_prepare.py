from __future__ import annotations

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.config import override
from pipeline.errors import NotEnoughData
from pipeline.stages.ingest import ingest
from pipeline.stages.prepare import prepare
from pipeline.stages.validate import validate
from tests.conftest import at, customers

BY_ENTITY = """
task: binary
source: {{path: {path}}}
entity: customer
target: {{column: churned, positive: 1}}
features: {{exclude: [event_time, arrived_at]}}
split: {{test_share: 0.3, min_rows: 50}}
training: {{estimator: sklearn.linear_model.LogisticRegression}}
"""


def prepared(model, settings, cutoff="2026-01-01"):
    context = at(model, cutoff)
    record = ingest(model, context, settings)
    return prepare(validate(record, model, context, settings), model, context, settings)


def parts_of(record, settings):
    return (pq.read_table(settings.home / path).to_pandas() for path in (record.train, record.test))


def test_every_label_that_trains_was_final_before_the_first_row_that_judges(write_model, settings):
    record = prepared(write_model(customers()), settings)
    train, test = parts_of(record, settings)
    assert train.event_time.max() + pd.Timedelta(days=30) <= test.event_time.min()
    assert record.embargoed_rows > 0
    assert record.train_rows == len(train)
    assert record.test_rows == len(test)


def test_every_row_is_in_one_part_or_counted_as_left_out(write_model, settings):
    model = override(write_model(customers()), {"split.train_days": 90.0})
    record = prepared(model, settings, "2025-09-01")
    train, test = parts_of(record, settings)
    assert not set(train.customer) & set(test.customer)
    counted = len(train) + len(test) + record.unlabelled_rows + record.embargoed_rows + record.outside_rows
    assert counted == record.validate.rows
    assert record.unlabelled_rows > 0
    assert record.outside_rows > 0


def test_without_time_an_entity_keeps_its_part_when_rows_are_added(write_model, settings):
    frame = customers(2000)
    first_train, first_test = parts_of(prepared(write_model(frame[:1000], BY_ENTITY), settings), settings)
    train, test = parts_of(prepared(write_model(frame, BY_ENTITY), settings), settings)
    assert set(first_train.customer) <= set(train.customer)
    assert set(first_test.customer) <= set(test.customer)
    assert len(test) / 2000 == pytest.approx(0.3, abs=0.03)


def test_where_the_order_of_rows_is_time_the_last_rows_judge(write_model, settings):
    text = BY_ENTITY.replace("split:", "time: {{order: rows}}\nsplit:").replace(
        "min_rows", "embargo_rows: 40, min_rows"
    )
    frame = customers(1000)
    train, test = parts_of(prepared(write_model(frame, text), settings), settings)
    assert test.customer.tolist() == frame.customer[700:].tolist()
    assert train.customer.tolist() == frame.customer[:660].tolist()


def test_a_part_that_is_too_small_is_named_with_what_became_of_the_rows(write_model, settings):
    with pytest.raises(NotEnoughData, match=r"rows are left to train, fewer than split.min_rows=50"):
        prepared(write_model(customers()), settings, "2025-02-20")
