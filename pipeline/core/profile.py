"""What a table's columns look like, and what that says about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from pipeline.core.estimators import Task
from pipeline.core.schema import NUMBER_SHARE

ColumnType = Literal["number", "category", "time", "empty"]
FEW_CLASSES = 20
POSITIVE_WORDS = ("yes", "true", "1", "y", "t", "churned", "churn", "positive", "fraud", "default", "up", "high")


@dataclass(frozen=True)
class Column:
    """A column, its values read as what they are."""

    name: str
    type: ColumnType
    values: pd.Series
    """float64 for numbers, else str; missing is NaN. Shape (rows,)."""
    blanks: int
    """Text cells of nothing but spaces."""
    unreadable: int
    """Values of a number column that read as none."""
    distinct: int

    @property
    def filled(self) -> int:
        """Values that are there."""
        return int(self.values.notna().sum())

    @property
    def unique(self) -> bool:
        """No value twice, none missing."""
        return self.distinct == self.filled == len(self.values)


def read_column(name: str, raw: pd.Series) -> Column:
    """Read a raw column, shape (rows,): spaces are blanks, text that is mostly numbers is numbers.

    >>> column = read_column("charges", pd.Series(["1.5", " ", "2"]))
    >>> column.type, column.blanks, column.values.tolist()
    ('number', 1, [1.5, nan, 2.0])
    """
    if pd.api.types.is_datetime64_any_dtype(raw):
        return Column(name, "time", raw.astype(str).where(raw.notna()), 0, 0, int(raw.nunique()))
    if pd.api.types.is_numeric_dtype(raw) or pd.api.types.is_bool_dtype(raw):
        numbers = raw.astype("float64")
        return Column(name, "number" if numbers.notna().any() else "empty", numbers, 0, 0, int(numbers.nunique()))
    text = raw.astype("string").str.strip()
    empty = (text == "").fillna(False)
    text = text.mask(empty)
    known = text.dropna()
    blanks = int((empty & (raw.astype("string") != "").fillna(False)).sum())
    if known.empty:
        return Column(name, "empty", text.astype(object), blanks, 0, 0)
    numbers = pd.to_numeric(text, errors="coerce").astype("float64")
    if numbers.notna().sum() >= NUMBER_SHARE * len(known):
        unreadable = len(known) - int(numbers.notna().sum())
        return Column(name, "number", numbers, blanks, unreadable, int(numbers.nunique()))
    kind: ColumnType = "time" if _are_times(known) else "category"
    return Column(name, kind, text.astype(object), blanks, 0, int(known.nunique()))


def _are_times(known: pd.Series) -> bool:
    sample = known.iloc[:: max(1, len(known) // 1000)]
    parsed = pd.to_datetime(sample, errors="coerce", format="ISO8601", utc=True)
    return bool(
        sample.str.contains(r"\d{4}-\d{2}-\d{2}").mean() > NUMBER_SHARE and parsed.notna().mean() > NUMBER_SHARE
    )


def guess_task(target: Column) -> Task:
    """Two values: binary; few words or whole numbers: multiclass; else regression.

    >>> guess_task(read_column("y", pd.Series(["no", "yes", "no"])))
    'binary'
    """
    if target.distinct == 2:
        return "binary"
    whole = target.type == "number" and bool((target.values.dropna() % 1 == 0).all())
    if target.type != "number" or (whole and target.distinct <= FEW_CLASSES and target.filled > 10 * target.distinct):
        return "multiclass"
    return "regression"


def classes_of(target: Column) -> list[str]:
    """The classes as the table writes them, the rarer one last."""
    counts = target.values.dropna().value_counts()
    return [_plain(value) for value in counts.index]


def guess_positive(classes: Sequence[str]) -> tuple[str, str]:
    """Which of two classes counts as 1, and why.

    >>> guess_positive(["No", "Yes"])
    ('Yes', 'it reads as the affirmative one')
    """
    words = [name for name in classes if name.lower() in POSITIVE_WORDS]
    if len(words) == 1:
        return words[0], "it reads as the affirmative one"
    return classes[-1], "it is the rarer one"


def guess_entity(columns: Sequence[Column], target: str) -> str | None:
    """The first column that names each row: no value twice, and text or whole numbers."""
    for column in columns:
        if column.name == target or not column.unique or column.type in ("time", "empty"):
            continue
        if column.type == "category" or bool((column.values % 1 == 0).all()):
            return column.name
    return None


def single_column_power(column: Column, target: Column, task: Task) -> float:
    """How well this column alone tells the target on rows that it was not fitted on: 0 nothing, 1 everything.

    The values are put into at most 50 groups on the even rows, each group's mean target is the guess for
    the odd rows; classification: 2 * AUC - 1 (of the rarest class; AUC after Hanley & McNeil 1982),
    regression: R squared, never below 0.
    """
    from sklearn.metrics import r2_score, roc_auc_score

    known = target.values.notna().to_numpy()
    if task == "regression":
        wanted = target.values.to_numpy(dtype=float)[known]
    else:
        wanted = (target.values == target.values.value_counts().index[-1]).to_numpy()[known].astype(float)
    groups = _groups(column)[known]
    learn = np.arange(len(wanted)) % 2 == 0
    if len(set(wanted[learn])) < 2 or len(set(wanted[~learn])) < 2:
        return 0.0
    overall = wanted[learn].mean()
    sums = np.bincount(groups[learn], wanted[learn], minlength=groups.max() + 1)
    counts = np.bincount(groups[learn], minlength=groups.max() + 1)
    guess = ((sums + overall) / (counts + 1))[groups[~learn]]
    if task == "regression":
        return max(0.0, float(r2_score(wanted[~learn], guess)))
    return max(0.0, 2 * float(roc_auc_score(wanted[~learn], guess)) - 1)


def _groups(column: Column) -> np.ndarray:
    """A group number for each row; missing is a group of its own."""
    if column.type == "number" and column.distinct > 50:
        quantiles = pd.qcut(column.values, 50, labels=False, duplicates="drop")
        return np.asarray(quantiles.fillna(-1).to_numpy(dtype=int) + 1)
    codes, _ = pd.factorize(column.values, sort=False)
    return np.asarray(codes + 1)


def _plain(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
