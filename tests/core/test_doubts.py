"""What is doubted in a table, and what is not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.core.doubts import find_doubts, is_named_id, repeated_rows
from pipeline.core.leakage import exact_sum, own_shares, power_alone, sample_goal
from pipeline.core.profile import read_column

ROWS = 2_000


def table(**columns):
    return [read_column(name, pa.array(values)) for name, values in columns.items()]


def doubts(target, task="binary", is_ordered=False, seed=0, **columns):
    found = find_doubts(
        table(**columns), read_column("y", pa.array(target)), task,
        max_categories=1000, is_ordered=is_ordered, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return {doubt.column: doubt for doubt in found}


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def label(rng):
    return rng.integers(0, 2, ROWS)


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("letter", [f"L{i}" for i in range(ROWS)], "identifier"),
        ("row", list(range(1, ROWS + 1)), "identifier"),
        ("customer_id", [7 * i for i in range(ROWS)], "identifier"),
        ("country", ["NL"] * ROWS, "constant"),
        ("nothing", [None] * ROWS, "empty"),
        ("seen", ["2026-01-01"] * 9 + ["2026-01-02"] * (ROWS - 9), "instant"),
        ("remark", [f"the customer said {i} that all was well, on the whole" for i in range(ROWS)], "free text"),
        ("street", [f"S{i % 1001}" for i in range(ROWS)], "many categories"),
        ("basket", [[i] for i in range(ROWS)], "nested"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_feature_is_left_out_and_called_by_its_name(name, values, kind, label, rng):
    found = doubts(label, **{name: values, "age": rng.integers(18, 80, ROWS)})
    assert (found[name].kind, found[name].excluded) == (kind, True)
    assert "age" not in found


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1"] * (ROWS - 1) + [" "], "blanks"),
        ([str(i % 7) for i in range(ROWS - 9)] + ["n/a"] * 9, "no number"),
        ([str(i % 7) for i in range(ROWS - 500)] + ["?"] * 500, "almost a number"),
        (["a", "b", "c", "Unknown"] * (ROWS // 4), "word for missing"),
        ([999] * (ROWS - 200) + list(range(20)) * 10, "sentinel"),
        ([-1] * 40 + list(range(40)) * 49, "sentinel"),
        (["x"] * (ROWS - 1) + ["z"], "nearly constant"),
        ([f"{i % 50:03d}" for i in range(ROWS)], "leading zeros"),
    ],
)
def test_what_is_odd_is_said_but_stays_a_feature(values, kind, label):
    found = find_doubts(table(odd=values), read_column("y", pa.array(label)), "binary",
                        max_categories=1000, is_ordered=False, rng=np.random.default_rng(0))  # fmt: skip
    kinds = {doubt.kind: doubt.excluded for doubt in found}
    assert kinds.get(kind) is False or (kind == "blanks" and kinds["constant"])


def test_a_number_that_is_only_skewed_is_no_sentinel(label, rng):
    gains = np.where(rng.random(ROWS) < 0.9, 0, rng.integers(100, 9_000, ROWS))
    assert not doubts(label, gains=gains, paid=rng.lognormal(3, 1, ROWS))


def test_what_knows_the_answer_is_left_out(label, rng):
    found = doubts(label, refund=label * 10.0 + 1, status=np.where(label, "closed", "open"), age=rng.normal(size=ROWS))
    assert {name for name, doubt in found.items() if doubt.excluded} == {"refund", "status"}
    assert "ROC AUC 1.000" in found["refund"].reason


@pytest.mark.parametrize("of", [np.exp, np.negative, lambda y: y + 3])
def test_a_monotone_transform_of_a_number_knows_it(of, rng):
    y = rng.normal(size=ROWS) * 3
    found = doubts(y, "regression", told=of(y), age=rng.normal(size=ROWS))
    assert [name for name, doubt in found.items() if doubt.excluded] == ["told"]


def test_parts_that_add_up_to_the_target_are_named_with_their_weights(rng):
    casual, registered, fee = rng.poisson(30, ROWS), rng.poisson(90, ROWS), rng.normal(5, 1, ROWS)
    found = doubts(casual + registered, "regression", casual=casual, registered=registered, temp=rng.normal(size=ROWS))
    assert found["casual"].excluded
    assert found["registered"].excluded
    assert "y = casual + registered" in found["casual"].reason
    assert "temp" not in found
    net = doubts(casual - 2 * registered + 0.5 * fee, "regression", a=casual, b=registered, c=fee, d=casual * 1.0 + fee)
    assert {name for name, doubt in net.items() if doubt.excluded} >= {"b"}
    assert "- 2 x b" in net["b"].reason


def test_sums_of_rounded_parts_are_found_and_sums_with_noise_are_not(rng):
    net, tax = rng.lognormal(4, 1, ROWS).round(2), rng.lognormal(2, 1, ROWS).round(2)
    other = rng.normal(size=ROWS)
    parts = table(net=net, tax=tax, other=other)
    assert exact_sum(parts, read_column("y", pa.array((net + tax).round(1)))) is not None
    assert exact_sum(parts, read_column("y", pa.array(net + tax + other))) == {"net": 1.0, "tax": 1.0, "other": 1.0}
    noisy = net + tax + rng.normal(size=ROWS)
    assert exact_sum(parts, read_column("y", pa.array(noisy))) is None


def test_a_table_whose_every_column_tells_the_answer_keeps_them(rng):
    x = rng.normal(size=ROWS)
    found = doubts(3 * x + 1, "regression", x=x)
    assert found["x"].kind == "determines the target"
    assert not found["x"].excluded


def test_a_column_that_knows_more_than_all_others_is_asked_about_but_kept(rng):
    weak = rng.normal(size=(6, ROWS * 2))
    call_seconds = rng.exponential(300, ROWS * 2)
    chance = 1 / (1 + np.exp(-(weak.sum(axis=0) * 0.3 + (call_seconds - 300) / 120)))
    y = (rng.random(ROWS * 2) < chance).astype(int)
    found = doubts(y, call_seconds=call_seconds, **{f"weak_{i}": values for i, values in enumerate(weak)})
    assert list(found) == ["call_seconds"]
    assert not found["call_seconds"].excluded
    assert "is it known when the prediction is made?" in found["call_seconds"].reason


def test_columns_that_share_what_they_know_are_not_asked_about(rng):
    weak = rng.normal(size=(6, ROWS * 2))
    y = (rng.random(ROWS * 2) < 1 / (1 + np.exp(-weak.sum(axis=0)))).astype(int)
    assert not doubts(y, **{f"weak_{i}": values for i, values in enumerate(weak)})


def test_the_hour_of_the_day_is_known_ahead_however_much_it_tells(rng):
    hour = np.arange(ROWS * 2) % 24
    y = 100 * np.sin(hour / 4) + rng.normal(0, 20, ROWS * 2)
    others = {f"weather_{i}": rng.normal(size=ROWS * 2) for i in range(3)}
    assert not doubts(y, "regression", hour=hour, **others)
    mixed = rng.permutation(ROWS * 2)
    assert list(doubts(y[mixed], "regression", hour=hour[mixed], **others)) == ["hour"]


def test_columns_that_hold_the_same_are_mentioned_once(label, rng):
    celsius, code = rng.normal(15, 5, ROWS), rng.choice(["a", "b", "c"], ROWS)
    found = doubts(label, celsius=celsius, fahrenheit=celsius * 1.8 + 32, code=code,
                   name=pd.Series(code).map({"a": "Anna", "b": "Bert", "c": "Carl"}))  # fmt: skip
    assert {name: doubt.excluded for name, doubt in found.items()} == {"fahrenheit": False, "name": False}


def test_a_column_that_runs_with_the_rows_is_mentioned_where_their_order_is_time(label, rng):
    meter = np.cumsum(rng.random(ROWS))
    assert doubts(label, is_ordered=True, meter=meter)["meter"].kind == "clock"
    assert not doubts(label, is_ordered=False, meter=meter)


def test_copies_of_rows_are_counted_without_who_they_are_about():
    columns = table(id=["a", "b", "c"], age=[1, 1, 2], y=[0, 0, 1])
    assert repeated_rows(columns, ["id"])[0].reason.startswith("1 row equal to an earlier one in everything but id")
    assert not repeated_rows(columns, [])


def test_names_that_name_something_are_known_by_their_ending():
    assert all(map(is_named_id, ["id", "ID", "customerID", "user_id", "store id", "rowKey_uuid", "userId"]))
    assert not any(map(is_named_id, ["paid", "humid", "valid", "idle", "age", "GRID"]))


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_chance_knows_nothing_and_the_answer_knows_all(task, rng):
    y = rng.integers(0, 2 if task == "binary" else 4, ROWS)
    columns = table(noise=rng.normal(size=ROWS), text=rng.choice(list("abcdef"), ROWS), answer=-y)
    goal = sample_goal(read_column("y", pa.array(y)), task, rng)
    power = {column.name: power_alone(column, goal) for column in columns}
    assert power["noise"] == pytest.approx(0.5, abs=0.06)
    assert power["text"] == pytest.approx(0.5, abs=0.06)
    assert power["answer"] == 1.0
    shares = own_shares(columns, goal, power)
    assert shares["answer"] > 0.9
    assert abs(shares["noise"]) < 0.2


def test_the_same_draw_gives_the_same_doubts(label, rng):
    columns = {f"c{i}": rng.normal(size=ROWS) for i in range(4)} | {"leak": label * 1.0}
    assert doubts(label, seed=3, **columns) == doubts(label, seed=3, **columns)
