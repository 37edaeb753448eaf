"""What is read from a column, whatever hand wrote it."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.profile import read_column


@pytest.mark.parametrize("blank", [" ", "", None, "\t "])
def test_blanks_of_every_kind_are_missing_and_counted_alike(blank):
    column = read_column("charges", pa.array(["29.85", blank, " 56.95 "]))
    assert column.kind == "number"
    assert column.profile.blanks == 1
    assert column.profile.filled == 2
    np.testing.assert_array_equal(column.numbers, [29.85, np.nan, 56.95])


def test_text_is_a_number_from_ninety_five_in_a_hundred_on():
    numbers = [str(i) for i in range(95)]
    few = read_column("few", pa.array(numbers + ["?"] * 5))
    many = read_column("many", pa.array([*numbers[1:], *["?"] * 6]))
    assert few.kind == "number"
    assert few.profile.unreadable == 5
    assert many.kind == "category"
    assert many.profile.numeric_share == pytest.approx(0.94)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([1, None, 3]), "number"),
        (pa.array([True, False, None]), "number"),
        (pa.array([1.5, float("nan")]), "number"),
        (pa.array(["a", "b"]).dictionary_encode(), "category"),
        (pa.array([dt.datetime(2026, 1, 1, tzinfo=dt.UTC)]), "time"),
        (pa.array([dt.date(2026, 1, 1)]), "time"),
        (pa.array(["2026-01-01", "2026-01-02T03:04:05+02:00"]), "time"),
        (pa.array(["31/12/2026 10:00"]), "time"),
        (pa.array(["2026", "2027"]), "number"),
        (pa.array([None, None], pa.null()), "empty"),
        (pa.array([" ", ""]), "empty"),
        (pa.array([[1], [2]]), "nested"),
        (pa.array([b"x"]), "nested"),
        (pa.chunked_array([], pa.string()), "empty"),
        (pa.chunked_array([["a"], ["b", None]]), "category"),
    ],
)
def test_a_column_is_what_its_values_are(values, kind):
    assert read_column("c", values).kind == kind


def test_a_float_that_is_not_a_number_is_a_blank_as_it_is_for_the_stages():
    profile = read_column("c", pa.array([1.0, float("nan"), None, float("inf")])).profile
    assert (profile.blanks, profile.distinct, profile.maximum) == (2, 1, "1")


def test_dates_written_day_first_are_told_from_those_written_month_first():
    day_first = read_column("d", pa.array(["31/01/2026", "02/01/2026"]))
    either = read_column("d", pa.array(["01/02/2026", "03/04/2026"]))
    assert day_first.profile.time_formats == ("%d/%m/%Y",)
    assert either.profile.time_formats == ("%d/%m/%Y", "%m/%d/%Y")
    january = dt.datetime(2026, 1, 31, tzinfo=dt.UTC).timestamp() * 1e9
    assert day_first.instants("%d/%m/%Y")[0] == january


def test_facts_of_a_column_are_stated():
    flag = read_column("flag", pa.array(["Yes", "No", "yes"])).profile
    codes = read_column("zip", pa.array(["01234", "12345", "01234"])).profile
    assert not flag.is_integer
    assert flag.examples == ("Yes", "No", "yes")
    assert read_column("flag", pa.array(["Yes", "No"])).profile.is_boolean
    assert codes.is_integer
    assert codes.leading_zeros == 2
    assert codes.mean_length == 5
    assert (codes.minimum, codes.maximum) == ("1234", "12345")


def test_pandas_and_arrow_give_the_same():
    values = ["a", None, "b", "a"]
    of_pandas, of_arrow = read_column("c", pd.Series(values)), read_column("c", pa.array(values))
    assert of_pandas.profile == of_arrow.profile
    np.testing.assert_array_equal(of_pandas.codes, of_arrow.codes)


@given(st.lists(st.one_of(st.none(), st.text(max_size=6), st.floats(width=32).map(str)), max_size=40))
def test_no_row_is_lost_whatever_it_holds(values):
    column = read_column("c", pa.array(values, pa.string()))
    profile = column.profile
    assert profile.rows == len(values) == len(column.codes) == len(column.numbers) == len(column.instants())
    assert profile.blanks == sum(value is None or not value.strip() for value in values)
    assert column.counts.sum() == profile.filled
    assert 0 <= profile.numeric_share <= 1
    known = [None if code < 0 else column.values[code] for code in column.codes]
    assert known == [value.strip() or None if value else None for value in values]
