"""The days that a model met: each answer once, in the order of time, every row that cannot be read counted."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.adapters import duck, observed
from pipeline.adapters.forgetting import forget_observed
from pipeline.adapters.observed import labels_known, observed_days
from pipeline.adapters.observed_files import ENTITY, ID, MET
from pipeline.core.schema import Schema
from pipeline.log_rows import COLUMNS
from pipeline.log_store import open_store
from pipeline.prediction_files import encode
from pipeline.rollout import RolloutStore
from tests.conftest import customers
from tests.predictions import entry

SCHEMA = Schema({"tenure": "number", "plan": "category"}, ())
FIRST = datetime(2026, 1, 5, tzinfo=UTC)


def answer(number: int, **features: object) -> dict:
    """The answer of so many minutes after FIRST, of one of three users."""
    time = FIRST.timestamp() + 60 * number
    one = entry(f"{int(time * 1000):012x}{number:020x}", time, user_id=f"u{number % 3}")
    return {**one, "features": json.dumps({"tenure": number, "plan": "basic"} | features), "prediction": "1",
            "time": int(time * 1e6)}  # fmt: skip


def put(settings, name: str, answers: list[dict]) -> None:
    """As a file of the log of the first day."""
    rows = pa.Table.from_pylist([{name: one[name] for name in COLUMNS.names} for one in answers], COLUMNS)
    open_store(settings.log).put(f"churn/day=2026-01-05/{name}.parquet", encode(rows))


@pytest.fixture
def model(write_model):
    return write_model(customers(200), extra="monitoring: {data: predictions}\n")


@pytest.mark.parametrize("piece", [7, 131_072])
def test_a_day_of_many_files_is_each_answer_once_in_the_order_of_time(model, settings, monkeypatch, piece):
    monkeypatch.setattr(observed, "ROW_GROUP", piece)
    monkeypatch.setattr(duck, "ROW_GROUP", 10)
    answers = [answer(number) for number in range(100)]
    put(settings, "b", answers[::2] + answers[1:40:2])
    put(settings, "a", answers[1::2] + answers[:20])
    found = list(observed_days(model, SCHEMA, date(2026, 1, 4), date(2026, 1, 6), settings))
    assert [(day.day.day, day.rows) for day in found] == [(4, 0), (5, 100), (6, 0)]
    table = pq.read_table(found[1].path)
    assert table[ID].to_pylist() == [one["prediction_id"] for one in answers]
    assert table[MET].to_pylist() == sorted(table[MET].to_pylist())
    assert table["tenure"].to_pylist() == [float(number) for number in range(100)]
    assert pq.read_schema(found[0].path).names == table.schema.names
    assert list(found[1].path.parent.glob("*.tmp")) == []


def test_a_number_that_cannot_be_read_is_counted_and_its_row_is_none_even_after_a_user_was_erased(model, settings):
    odd = {3: "many", 4: None, 5: "inf", 6: " 6 "}
    put(settings, "a", [answer(n, tenure=odd.get(n, n)) for n in range(12)])
    (day,) = observed_days(model, SCHEMA, FIRST.date(), FIRST.date(), settings)
    assert (day.rows, day.unreadable, day.refused, day.arrived) == (10, {"tenure": 2}, 2, 12)
    assert pq.read_table(day.path)["tenure"].to_pylist()[3:5] == [None, 6.0]
    assert forget_observed("u1", None, settings) == 4
    (again,) = observed_days(model, SCHEMA, FIRST.date(), FIRST.date(), settings)
    assert (again.rows, again.unreadable) == (6, {"tenure": 2})
    assert set(pq.read_table(again.path)[ENTITY].to_pylist()) == {"u0", "u2"}
    assert forget_observed("u1", None, settings) == 0


def test_a_label_told_again_was_known_when_it_was_told_first_and_a_correction_when_it_came(model, settings):
    with RolloutStore(settings.database_url) as store:
        for actual, received in ((True, 100.0), (True, 200.0)):
            store.take_feedback("same", actual, received)
        for actual, received in ((0, 100.0), (1, 200.0)):
            store.take_feedback("corrected", actual, received)
    cutoff = datetime.fromtimestamp(150, UTC)
    early = labels_known(model, datetime.fromtimestamp(0, UTC), cutoff, settings)
    assert early["label"].to_dict() == {"same": "1"}
    late = labels_known(model, datetime.fromtimestamp(0, UTC), FIRST, settings)
    assert late["label"].to_dict() == {"same": "1", "corrected": "1"}
    assert [one.timestamp() for one in late["known_at"].sort_index()] == [200, 100]
