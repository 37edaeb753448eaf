"""Rows of requests: what fits is read as the columns would be, what does not is refused by name."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.coded import CodedPreparation
from pipeline.core.package import Feature, InvalidInput, Signature, rows_to_columns
from pipeline.core.preparation import CategoryColumn, FittedPreparation, NumberColumn
from pipeline.core.row_reader import RowReader

SIGNATURE = Signature(
    (
        Feature("tenure", "number", None, 0.0, 72.0),
        Feature("plan", "category", ("basic", "plus"), None, None),
        Feature("charge", "number", None, 10.0, 120.0),
        Feature("city", "category", ("Oslo", "Rome"), None, None),
    ),
    "binary", (0, 1), 1,
)  # fmt: skip
PREPARATION = FittedPreparation((
    NumberColumn("charge", fill=60.0, mean=64.2, scale=29.3), NumberColumn("tenure", fill=None, mean=None, scale=None),
    CategoryColumn("city", ("Oslo", "Rome", "none"), missing="none", onehot=False),
    CategoryColumn("plan", ("basic", "plus"), missing="none", onehot=True),
))  # fmt: skip
CODED = CodedPreparation.of(PREPARATION, SIGNATURE)
NUMBERS = st.none() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.none() | st.sampled_from(["basic", "plus", "Oslo", "Rome", " Oslo ", "", "none", "Paris"]) | st.booleans()
ROWS = st.lists(st.tuples(NUMBERS, TEXTS, NUMBERS, TEXTS), min_size=1, max_size=8)


@given(ROWS, st.booleans())
def test_rows_come_to_the_same_matrix_as_columns_do(rows, by_name):
    names = [feature.name for feature in SIGNATURE.features]
    asked = [dict(zip(reversed(names), reversed(row), strict=True)) if by_name else list(row) for row in rows]
    reader = RowReader(SIGNATURE, CODED)
    table = rows_to_columns(asked, SIGNATURE)
    wanted = PREPARATION.transform(table)
    found = CODED.transform(np.array([reader.read(row) for row in asked], dtype=np.float64))
    assert np.array_equal(found, wanted, equal_nan=True)
    assert np.array_equal(CODED.transform(reader.read_columns(table)), wanted, equal_nan=True)


@given(ROWS)
def test_without_a_plain_preparation_the_values_stay_as_scikit_learn_wants_them(rows):
    reader = RowReader(SIGNATURE, None)
    wanted = rows_to_columns(rows, SIGNATURE)
    for place, row in enumerate(rows):
        for value, column in zip(reader.read(row), wanted.values(), strict=True):
            assert value == column[place] or (value is None and column[place] is None) or math.isnan(column[place])


@pytest.mark.parametrize(
    ("row", "feature"),
    [
        ({"tenure": 1, "plan": "basic", "charge": 1}, "city"),
        ({"tenure": 1, "plan": "basic", "charge": 1, "town": "Oslo"}, "town"),
        ({"tenure": "1", "plan": "basic", "charge": 1, "city": "Oslo"}, "tenure"),
        ({"tenure": 1, "plan": 2.5, "charge": 1, "city": "Oslo"}, "plan"),
        ({"tenure": 1, "plan": ["basic"], "charge": 1, "city": "Oslo"}, "plan"),
        ([1, "basic", math.inf, "Oslo"], "charge"),
        ([1, "basic", 10**400, "Oslo"], "charge"),
        ([1, "basic", 1], None),
    ],
)
def test_what_does_not_fit_is_refused_by_name(row, feature):
    with pytest.raises(InvalidInput) as refused:
        RowReader(SIGNATURE, CODED).read(row)
    assert refused.value.feature == feature


def test_a_category_that_training_never_saw_is_counted_or_refused_as_the_model_file_says():
    row = {"tenure": 1, "plan": "gold", "charge": 1, "city": None}
    lenient = RowReader(SIGNATURE, CODED)
    assert list(lenient.read(row)) == [1.0, -1.0, 1.0, 2.0]
    lenient.read_columns(rows_to_columns([row, row], SIGNATURE))
    assert lenient.take_odd() == ({"plan": 3}, {})
    assert lenient.take_odd() == ({}, {})
    with pytest.raises(InvalidInput, match=r"'gold' was never seen in training; known are .*'basic'"):
        RowReader(SIGNATURE, CODED, "refuse").read(row)


def test_numbers_beyond_those_of_training_are_counted_by_feature():
    reader = RowReader(SIGNATURE, CODED)
    reader.note_outside(np.array([[100.0, 0, 5.0, 0], [np.nan, 0, 60.0, 1], [-1.0, 1, 60.0, 1]]))
    assert reader.take_odd() == ({}, {"tenure": 2, "charge": 1})


def test_a_matrix_that_needs_no_preparation_is_not_copied():
    signature = Signature(SIGNATURE.features[::2], "regression", (), None)
    plain = FittedPreparation((NumberColumn("tenure", None, None, None), NumberColumn("charge", None, None, None)))
    rows = np.array([[1.0, 2.0]])
    assert CodedPreparation.of(plain, signature).transform(rows) is rows
    turned = CodedPreparation.of(FittedPreparation(plain.columns[::-1]), signature)
    assert turned.transform(rows).tolist() == [[2.0, 1.0]]
