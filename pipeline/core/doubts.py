"""What should make a person look twice before a column becomes a feature."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pipeline.core.estimators import Task
from pipeline.core.leakage import MIN_ROWS, exact_sum, own_shares, power_alone, sample_goal
from pipeline.core.profile import Column

DETERMINES = 0.99
"""ROC AUC, or R squared, from which a column alone nearly determines the target."""
OWN_SHARE = 0.45
"""From this share a column knows more than all others. Measured over seeds on public tables: a known leak .53 to .60,
the strongest honest column .32 to .34, calendars aside."""
NEARLY_CONSTANT = 0.999
NEARLY_UNIQUE = 0.95
FREE_TEXT_LENGTH = 50
WORDS_FOR_MISSING = {"unknown", "?", "n/a", "#n/a", "na", "nan", "null", "missing", "undefined", "not available", "-"}
CODES_FOR_MISSING = {-999.0, -99.0, -9.0, -1.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0}
ROWS = "(rows)"
"""What a doubt about whole rows has in place of a column."""


@dataclass(frozen=True)
class Doubt:
    """A column, what is odd about it, and whether it was left out for it."""

    column: str
    kind: str
    reason: str
    excluded: bool = False


def find_doubts(
    columns: Sequence[Column],
    target: Column,
    task: Task,
    *,
    max_categories: int,
    is_ordered: bool,
    rng: np.random.Generator,
) -> list[Doubt]:
    """All doubts about the columns that could become features, the excluding ones first.

    `is_ordered` says that the rows stand in order of time. `rng` draws the rows on which leaks are measured.
    """
    doubts: list[Doubt] = []
    for column in columns:
        excluding = _excluding(column, max_categories)
        doubts += [excluding] if excluding else _mentions(column, is_ordered)
    doubts += _leaks(_left(columns, doubts), target, task, rng)
    doubts += _sames(_left(columns, doubts))
    if not _left(columns, doubts):  # a table whose every column tells the answer is a puzzle, not a leak
        doubts = [replace(d, excluded=False) if d.kind in LEAKS else d for d in doubts]
    return sorted(doubts, key=lambda doubt: not doubt.excluded)


LEAKS = ("determines the target", "adds up to the target")


def is_named_id(name: str) -> bool:
    """Whether the name says that the values name something.

    >>> [is_named_id(name) for name in ("customerID", "store_id", "Id", "paid", "humid")]
    [True, True, True, False, False]
    """
    return bool(re.search(r"(?i:(^|[_\s.-])(id|uuid|guid|key)$)|[a-z]I[Dd]$", name))


def is_sequence(column: Column) -> bool:
    """Whole numbers without a double and without gaps, as a row number is."""
    profile = column.profile
    if not (profile.is_integer and profile.is_unique):
        return False
    return bool(np.nanmax(column.numbers) - np.nanmin(column.numbers) + 1 == profile.rows)


def repeated_rows(columns: Sequence[Column], entity: Sequence[str]) -> list[Doubt]:
    """Rows that are alike in everything but who they are about."""
    frame = pd.DataFrame({i: c.codes for i, c in enumerate(columns) if c.name not in entity})
    twice = int(frame.duplicated().sum()) if frame.shape[1] else 0
    if not twice:
        return []
    but = f" but {', '.join(entity)}" if entity else ""
    text = f"{_count(twice, 'row')} equal to an earlier one in everything{but}; are they meant, or copies?"
    return [Doubt(ROWS, "duplicates", text)]


def _left(columns: Sequence[Column], doubts: Sequence[Doubt]) -> list[Column]:
    out = {doubt.column for doubt in doubts if doubt.excluded}
    return [column for column in columns if column.name not in out]


def _excluding(column: Column, max_categories: int) -> Doubt | None:
    """The reason why this column cannot be a feature, if there is one."""
    profile, name = column.profile, column.name
    some = f"{profile.distinct:,} different values in {_count(profile.filled, 'filled row')}"
    names = f"{some}: it names rows, and tells nothing of new ones"
    match column.kind:
        case "empty":
            return Doubt(name, "empty", "it has no value in any row", True)
        case "nested":
            return Doubt(name, "nested", "it holds lists, structures or bytes; take single values out of it", True)
        case "time":
            return Doubt(name, "instant", "an instant is no feature; if it says when a row happened, "
                         "name it with --event-time", True)  # fmt: skip
    if profile.distinct == 1:
        return Doubt(name, "constant", f"every value is {profile.examples[0]!r}", True)
    few_twice = profile.filled >= 10 and profile.distinct >= NEARLY_UNIQUE * profile.filled
    if column.kind == "category" and few_twice and profile.mean_length > FREE_TEXT_LENGTH:
        return Doubt(name, "free text", f"{some}, {profile.mean_length:.0f} characters long: it is free text", True)
    is_code = column.kind == "category" or is_sequence(column) or (profile.is_integer and is_named_id(name))
    if few_twice and is_code:
        return Doubt(name, "identifier", names, True)
    if profile.distinct > max_categories and (column.kind == "category" or is_named_id(name)):
        text = f"{profile.distinct:,} categories, more than features.max_categories={max_categories}; group them"
        return Doubt(name, "many categories", text, True)
    return None


def _mentions(column: Column, is_ordered: bool) -> Iterator[Doubt]:
    """What is odd about a column that can be a feature."""
    profile, name = column.profile, column.name
    most = int(column.counts.argmax())
    share = column.counts[most] / max(1, profile.filled)
    if share >= NEARLY_CONSTANT:
        text = f"all but {profile.filled - column.counts[most]:,} of its values are {column.values[most]!r}"
        yield Doubt(name, "nearly constant", text)
    if column.kind == "category":
        yield from _category_mentions(column)
        return
    if profile.blanks:
        are = "blank is" if profile.blanks == 1 else "blanks are"
        yield Doubt(name, "blanks", f"{profile.blanks:,} {are} read as missing")
    if profile.unreadable:
        odd = _odd_values(column)
        text = f"{_count(profile.unreadable, 'value')} such as {odd} no number; their rows go to quarantine"
        yield Doubt(name, "no number", text)
    if profile.leading_zeros:
        text = f"values such as {_first(column, r'^0[0-9]+$')} look like codes; if they are, make it a category"
        yield Doubt(name, "leading zeros", text)
    yield from _sentinel(column)
    if is_ordered and profile.distinct > 10 and _follows_rows(column):
        text = "it runs with the rows, as a clock does: later rows will lie outside of all that was learned"
        yield Doubt(name, "clock", text)


def _category_mentions(column: Column) -> Iterator[Doubt]:
    counts = column.counts
    for value, count in zip(column.values, counts, strict=True):
        if str(value).lower() in WORDS_FOR_MISSING:
            text = f"{value!r} ({_count(int(count), 'row')}) seems to mean missing; it is a category of its own here"
            yield Doubt(column.name, "word for missing", text)
            break
    if column.profile.numeric_share >= 0.5:
        odd = _odd_values(column)
        text = (
            f"{column.profile.numeric_share:.0%} of its values are numbers, but {odd} not: it is a category here; "
            "leave those empty in the source to make it a number"
        )
        yield Doubt(column.name, "almost a number", text)


def _sentinel(column: Column) -> Iterator[Doubt]:
    """A number far outside of all others that is repeated: half of the rows, or a usual code for missing."""
    known = column.numbers[~np.isnan(column.numbers)]
    if column.profile.distinct < 4:
        return
    for value in (known.max(), known.min()):
        others = known[known != value]
        low, high, share = others.min(), others.max(), float((known == value).mean())
        gap = max(value - high, low - value)
        is_code = value in CODES_FOR_MISSING and share >= 0.005
        is_far = gap > high - low or (value < 0 <= low and is_code)
        if is_far and (share >= 0.5 or is_code):
            text = f"{value:g} in {share:.0%} of the rows, all others from {low:g} to {high:g}: does it mean missing?"
            yield Doubt(column.name, "sentinel", text)
            return


def _leaks(columns: Sequence[Column], target: Column, task: Task, rng: np.random.Generator) -> list[Doubt]:
    """Columns that know the answer: alone, added up, or far more than all others."""
    goal = sample_goal(target, task, rng)
    if len(goal.judge) < MIN_ROWS // 4:
        return []
    power = {column.name: power_alone(column, goal) for column in columns}
    unit = "R squared" if task == "regression" else "ROC AUC"
    found = [
        Doubt(name, LEAKS[0], f"alone it tells {target.name} with {unit} {value:.3f}: it knows the answer", True)
        for name, value in sorted(power.items(), key=lambda item: -item[1])
        if value >= DETERMINES
    ]
    left = _left(columns, found)
    while task == "regression" and (weights := exact_sum(left, target)):
        formula = f"{target.name} = {_formula(weights)}"
        found += [
            Doubt(name, LEAKS[1], f"{formula} in every row: it is a part of the answer", True) for name in weights
        ]
        left = _left(columns, found)
    for name, share in own_shares(left, goal, power).items():
        if share < OWN_SHARE or _is_calendar(next(c for c in left if c.name == name)):
            continue
        text = (
            f"it knows much more than every other column: without it the others tell {min(share, 1):.0%} less of "
            f"{target.name}; is it known when the prediction is made? If not, list it under features.exclude"
        )
        found.append(Doubt(name, "stands out", text))
    return found


def _is_calendar(column: Column) -> bool:
    """Whether a value follows from the one in the row before, as hours and weekdays do: such are known ahead."""
    codes, counts = column.codes, column.counts
    if len(counts) > 400 or len(codes) < 2 or counts.max() > 0.5 * len(codes):
        return False
    before, after = codes[:-1] + 1, codes[1:] + 1
    pairs, times = np.unique(before.astype(np.int64) * (len(counts) + 1) + after, return_counts=True)
    usual = pd.Series(times).groupby(pairs // (len(counts) + 1)).max().sum()
    return bool(usual >= 0.95 * len(before))


def _sames(columns: Sequence[Column]) -> list[Doubt]:
    """Columns that hold the same as an earlier one: the same values under other names, or a straight line apart."""
    found: dict[str, Doubt] = {}
    first: dict[bytes, str] = {}
    several = [c for c in columns if c.profile.distinct <= 0.5 * c.profile.rows]  # all columns of unique values agree
    for column in several:  # codes count values as they first appear: equal codes are a one-to-one mapping
        twin = first.setdefault(column.codes.tobytes(), column.name)
        if twin != column.name:
            found[column.name] = Doubt(column.name, "same", f"it holds the same as {twin}; one of them is enough")
    numbers = [c for c in columns if c.kind == "number" and c.profile.distinct > 2 and c.name not in found]
    if len(numbers) > 1:
        table = pd.DataFrame({i: c.numbers for i, c in enumerate(numbers)})
        filled = table.fillna(table.mean()).to_numpy()
        related = np.abs(np.corrcoef(filled, rowvar=False))
        for i, column in enumerate(numbers):
            twins = np.flatnonzero(related[i, :i] >= 0.9999)
            if len(twins):
                twin = numbers[twins[0]].name
                found[column.name] = Doubt(column.name, "same", f"it is a straight line of {twin}; one is enough")
    return list(found.values())


def _follows_rows(column: Column) -> bool:
    known = pd.Series(column.numbers).dropna()
    if known.nunique() < 2:
        return False
    return bool(abs(np.corrcoef(known.rank(), np.arange(len(known)))[0, 1]) >= 0.99)


def _odd_values(column: Column) -> str:
    odd = [v for v in column.values if np.isnan(pd.to_numeric(pd.Series([v]), errors="coerce").iloc[0])][:3]
    return f"{', '.join(map(repr, odd))} {'is' if len(odd) == 1 else 'are'}"


def _first(column: Column, pattern: str) -> str:
    return next(repr(value) for value in column.values if re.match(pattern, str(value)))


def _formula(weights: dict[str, float]) -> str:
    """A weighted sum, as people write it."""
    text = ""
    for name, weight in weights.items():
        sign = (" - " if weight < 0 else " + ") if text else ("-" if weight < 0 else "")
        text += sign + (name if abs(weight) == 1 else f"{abs(weight):g} x {name}")
    return text


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
