"""Where training ends and judging begins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class TimeSplit:
    """Half-open windows of event time: training rows, then a gap, then the rows that judge."""

    train_from: datetime | None
    train_until: datetime
    test_from: datetime
    test_until: datetime
    """The last labelled event; it is still in."""


def split_by_time(
    *, last_event: datetime, test_from: datetime, train_days: float | None, embargo_days: float
) -> TimeSplit:
    """The later rows judge; a training label must have been final when the first of them happened.

    `last_event` and `test_from` are events with a final label. `embargo_days` is how late labels are known.

    >>> june = datetime(2026, 6, 1)
    >>> split_by_time(last_event=datetime(2026, 7, 1), test_from=june, train_days=365, embargo_days=30).train_until
    datetime.datetime(2026, 5, 2, 0, 0)
    """
    train_until = test_from - timedelta(days=embargo_days)
    train_from = None if train_days is None else train_until - timedelta(days=train_days)
    return TimeSplit(train_from, train_until, test_from, last_event)


@dataclass(frozen=True)
class RowSplit:
    """The same for a table whose order of rows is time: half-open ranges of labelled rows."""

    train_until: int
    test_from: int


def split_by_rows(rows: int, *, test_share: float, embargo_rows: int) -> RowSplit:
    """The last rows judge.

    >>> split_by_rows(100, test_share=0.2, embargo_rows=5)
    RowSplit(train_until=75, test_from=80)
    """
    test_from = rows - max(1, round(rows * test_share))
    return RowSplit(max(0, test_from - embargo_rows), test_from)
