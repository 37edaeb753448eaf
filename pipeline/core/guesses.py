"""What a table says of itself: its task, the class that counts, who its rows are about, and when."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.core.doubts import Doubt, is_named_id, is_sequence
from pipeline.core.estimators import Task
from pipeline.core.profile import TIME_SHARE, Column
from pipeline.errors import BadData

FEW_CLASSES = 20
"""Whole numbers with up to this many different values are taken for classes."""
MOST_CLASSES = 200
POSITIVE_WORDS = {
    "yes", "y", "true", "t", "1", "positive", "pos", "up", "high", "bad", "fraud", "default", "defaulted", "spam",
    "churn", "churned", "left", "exited", "attrited", "cancelled", "canceled", "converted", "bought", "purchased",
    "clicked", "subscribed", "won", "failed", "failure", "fail", "sick", "ill", "malignant", "died", "dead", "late",
}  # fmt: skip
NEGATIVE_WORDS = {
    "no", "n", "false", "f", "0", "-1", "negative", "neg", "down", "low", "good", "none", "legit", "ham", "stayed",
    "active", "retained", "existing", "lost", "ok", "pass", "passed", "healthy", "benign", "alive", "on time",
}  # fmt: skip
ARRIVES = re.compile(r"arriv|ingest|load|record|receiv|insert|updat|modif|known|processed", re.IGNORECASE)
NOT_NOW = re.compile(r"birth|born|dob|end|due|expir|deadline|closed|until", re.IGNORECASE)
NOW = re.compile(r"event|timestamp|datetime|time|date|day|_at$|^ts$", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """What the person said about the table."""

    target: str
    task: Task | None = None
    entity: tuple[str, ...] = ()
    event: str | None = None
    arrival: str | None = None
    known_after_days: float = 0
    ordered_rows: bool = False


def guess_task(target: Column) -> Task:
    """Two values: binary; texts or few whole numbers: multiclass; other numbers: regression.

    Raises BadData for a target that is none of these.

    >>> import pyarrow as pa
    >>> from pipeline.core.profile import read_column
    >>> guess_task(read_column("y", pa.array(["no", "yes", "no"])))
    'binary'
    """
    if target.kind not in ("number", "category"):
        raise BadData(
            f"the target {target.name!r} holds no classes and no numbers but is {target.kind}; choose another"
        )
    if len(target.values) == 2:
        return "binary"
    profile = target.profile
    if target.kind == "number":
        few = profile.is_integer and profile.distinct <= FEW_CLASSES and profile.filled >= 10 * profile.distinct
        return "multiclass" if few else "regression"
    if profile.distinct > MOST_CLASSES or profile.filled < 2 * profile.distinct:
        raise BadData(
            f"the target {target.name!r} holds {profile.distinct:,} different texts such as {profile.examples[0]!r}: "
            "neither numbers nor classes; group them, or choose another --target"
        )
    return "multiclass"


def guess_positive(target: Column) -> tuple[str, str]:
    """Which of two classes counts as 1, and why.

    >>> import pyarrow as pa
    >>> from pipeline.core.profile import read_column
    >>> guess_positive(read_column("y", pa.array(["No", "Yes", "No"])))
    ('Yes', 'it reads as the affirmative one')
    """
    values = [str(value) for value in target.values]
    for words, wanted in ((POSITIVE_WORDS, True), (NEGATIVE_WORDS, False)):
        hits = [value for value in values if _plain(value) in words]
        if len(hits) == 1:
            chosen = hits[0] if wanted else next(value for value in values if value != hits[0])
            return chosen, "it reads as the affirmative one"
    return values[int(target.counts.argmin())], "it is the rarer one"


def guess_entity(columns: Sequence[Column], when: Sequence[Column]) -> tuple[str, ...]:
    """The column that names the rows: no value twice, or, where rows have instants (`when`), hardly any at one."""
    unique = [c for c in columns if c.profile.is_unique and (c.kind == "category" or c.profile.is_integer)]
    named = [c for c in columns if is_named_id(c.name) and c.kind in ("number", "category")]
    for choice in (
        [c for c in unique if is_named_id(c.name)],
        [c for c in unique if c.kind == "category" or is_sequence(c)],
        [c for c in named if c.profile.distinct >= 0.999 * c.profile.rows],
        [c for c in named if when and repeats([c, *when]) <= 0.01 * c.profile.rows],
    ):
        if choice:
            return (choice[0].name,)
    return ()


def guess_times(columns: Sequence[Column], asked: Asked) -> tuple[str | None, str | None, str | None, list[Doubt]]:
    """Event, arrival, their format, and what is doubtful about them."""
    by_name = {column.name: column for column in columns}
    if asked.ordered_rows:
        return None, None, None, []
    taken = (asked.target, *asked.entity)
    found = [c for c in columns if c.kind == "time" and c.name not in taken and c.profile.distinct > 1]
    event, arrival, doubts = asked.event, asked.arrival, []
    if event is None:
        likely = [c for c in found if not ARRIVES.search(c.name) and not NOT_NOW.search(c.name)]
        likely.sort(key=lambda c: not NOW.search(c.name))
        if not likely:
            return None, None, None, []
        event = likely[0].name
        rest = [c.name for c in found if c.name != event]
        instead = f" rather than {', '.join(rest)}" if rest else ""
        doubts.append(Doubt(event, "time", f"it is taken for the time of the event{instead}; else give --event-time"))
    form = _form(by_name[event], doubts)
    happened = by_name[event].instants(form)
    if arrival is None and asked.event is None:
        for column in found:
            later = column.instants(form) >= happened
            if column.name != event and ARRIVES.search(column.name) and later.mean() >= TIME_SHARE:
                arrival = column.name
                text = "it is taken for the time when the row came to be known; else give --arrival"
                doubts.append(Doubt(arrival, "time", text))
                break
    for name in filter(None, (event, arrival)):
        bad = int(np.isnan(by_name[name].instants(form)).sum())
        rows = by_name[name].profile.rows
        if bad > (1 - TIME_SHARE) * rows:
            shown = f" as {form}" if form else ""
            raise BadData(
                f"{bad:,} of the {rows:,} values of {name!r} cannot be read{shown} as an instant, such as "
                f"{(by_name[name].profile.examples or ('blank',))[0]!r}; write them like 2026-06-01T02:00:00Z"
            )
        if bad:
            doubts.append(Doubt(name, "no instant", f"{bad:,} values are no instants; their rows are rejected"))
    return event, arrival, form, doubts


def _form(event: Column, doubts: list[Doubt]) -> str | None:
    """The strptime form of the instants; None for ISO 8601."""
    forms = event.profile.time_formats
    if len(forms) > 1:
        text = f"it reads as {forms[0]} and as {forms[1]} alike; the first is taken: see time.format"
        doubts.append(Doubt(event.name, "two readings", text))
    if not forms and event.kind == "number" and event.profile.mean_length == 8:
        return "%Y%m%d"
    return forms[0] if forms else None


def repeats(columns: Sequence[Column]) -> int:
    """Rows that equal an earlier one in all of these columns."""
    return int(pd.DataFrame({i: column.codes for i, column in enumerate(columns)}).duplicated().sum())


def _plain(value: str) -> str:
    return re.sub(r"\.0+$", "", value.lower())
