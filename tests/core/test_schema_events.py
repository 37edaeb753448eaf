"""Facts of a table that need no test: told when they are so, silent when they are ordinary."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.schema_events import ColumnCounts, SchemaRules, TableCounts, schema_events

RULES = SchemaRules(max_age_hours=26)
ORDINARY = TableCounts(1000, (1000,) * 30, 2.0)


def number(**changes) -> ColumnCounts:
    fields = {"rows": 1000, "lowest": 1.0, "highest": 70.0, "reference_low": 0.0, "reference_high": 72.0}
    return ColumnCounts("tenure", "number", **{**fields, **changes})


def category(**changes) -> ColumnCounts:
    return ColumnCounts("plan", "category", **{"rows": 1000, **changes})


@pytest.mark.parametrize(
    ("column", "kind", "severity", "told"),
    [
        (number(present=False, rows=0), "column missing", "error", "tenure: the column is missing"),
        (number(unparseable=30, examples=("n/k",)), "type", "warning", "3.0% of the rows have a value that is no numb"),
        (number(unparseable=990, examples=("3 yrs",)), "type", "error", "such as '3 yrs'; it is no number any more"),
        (number(missing=250), "missing", "error", "missing in 25.0% of the rows, 0.0% before"),
        (number(above=5, highest=900.0), "range", "warning", "0.5% of the rows are outside of 0 to 72"),
        (number(below=900, lowest=-math.inf), "range", "error", "showed: -inf to 70"),
        (category(unseen=1, examples=("gold",)), "unseen", "warning", "the reference never showed, such as 'gold'"),
        (category(unseen=400), "unseen", "error", "40.0% of the rows"),
        (category(rows=3, unseen=1), "unseen", "warning", "33.3% of the rows"),
    ],
)
def test_what_broke_is_told_by_its_name(column, kind, severity, told):
    found = schema_events([column], ORDINARY, RULES)
    assert [(event.kind, event.severity) for event in found] == [(kind, severity)]
    assert told in found[0].told


@pytest.mark.parametrize(
    "column",
    [
        number(),
        number(above=5, highest=100.0),  # a little beyond is how time goes on
        number(above=1, highest=1e9),  # one row of a thousand is no break
        number(missing=150),
        number(missing=600, missing_reference_share=0.5),
        number(unparseable=5),
        category(),
        category(rows=0, unseen=0),
        number(above=50, highest=900.0, reference_low=None),
    ],
)
def test_what_is_ordinary_is_not_told(column):
    assert schema_events([column], ORDINARY, RULES) == ()


@pytest.mark.parametrize(
    ("rows", "past", "severity", "told"),
    [
        (0, (1000,) * 30, "error", "no rows today, the median of 30 past days is 1,000"),
        (0, (), "error", "no rows today"),
        (400, (1000,) * 30, "warning", "only 400 rows today"),
        (3100, (1000,) * 30, "warning", "as many as 3,100 rows today"),
        (400, (1000,) * 3, None, ""),
        (0, (0,) * 30, None, ""),
        (700, (1000,) * 30, None, ""),
    ],
)
def test_the_volume_of_a_day_is_held_against_the_days_before(rows, past, severity, told):
    found = schema_events([], TableCounts(rows, past, 1.0), RULES)
    assert [event.severity for event in found] == ([severity] if severity else [])
    assert told in "".join(event.told for event in found)


@pytest.mark.parametrize(("hours", "limit", "stale"), [(30.0, 26, True), (None, 26, True), (20.0, 26, False),
                                                        (9999.0, None, False)])  # fmt: skip
def test_a_table_whose_newest_row_is_old_is_stale(hours, limit, stale):
    found = schema_events([], TableCounts(1000, (), hours), SchemaRules(max_age_hours=limit))
    assert [event.kind for event in found] == ["freshness"] * stale


def test_errors_come_before_warnings():
    found = schema_events([category(unseen=1), number(present=False)], TableCounts(0, (9,) * 9, 99.0), RULES)
    assert [event.kind for event in found] == ["freshness", "volume", "column missing", "unseen"]


counts = st.integers(0, 1000)


@settings(deadline=None)
@given(counts, counts, counts, st.floats(0, 1), st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_any_counts_give_events_whose_shares_are_shares(missing, unseen, above, before, lowest, highest):
    column = number(missing=missing, unseen=unseen, above=above, missing_reference_share=before,
                    lowest=lowest, highest=highest)  # fmt: skip
    for event in schema_events([column], ORDINARY, RULES):
        assert event.share is not None
        assert 0 <= event.share <= 1
        assert event.told.startswith("tenure: ")
