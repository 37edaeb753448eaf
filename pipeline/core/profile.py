"""What the columns of a table hold: the facts that a model file is proposed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.schema import NUMBER_SHARE

Kind = Literal["number", "category", "time", "empty", "nested"]

TIME_SHARE = 0.95
"""A text column is an instant where this share of its values reads as one."""
EXAMPLES = 3
ISO = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?\s?(Z|UTC|[+-]\d{2}(:?\d{2})?)?)?$"
DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y")
FORMATS = tuple(day + clock for day in DAYS for clock in ("", " %H:%M", " %H:%M:%S"))
"""Forms of instants, beside ISO 8601, that tables are exported with."""
PAIRS = ({"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"}, {"0", "1"})


@dataclass(frozen=True)
class ColumnProfile:
    """What one column holds. Blank is a null, or a text of nothing but spaces."""

    name: str
    rows: int
    blanks: int
    distinct: int
    """Different values, blanks aside."""
    numeric_share: float
    """Share of the values that read as a number, blanks aside."""
    time_share: float
    """Share of the values that read as an instant, blanks aside."""
    time_formats: tuple[str, ...]
    """The strptime forms that fit, where ISO 8601 does not; two are ambiguous."""
    is_nested: bool
    """Its values are lists, structures or bytes."""
    is_boolean: bool
    is_integer: bool
    leading_zeros: int
    """Values such as 007, which are codes more often than numbers."""
    minimum: str
    maximum: str
    examples: tuple[str, ...]
    mean_length: float
    """Characters of a value, on average."""

    @property
    def filled(self) -> int:
        """Values that are no blanks."""
        return self.rows - self.blanks

    @property
    def kind(self) -> Kind:
        """What the values are, by the share of them that reads so."""
        if self.is_nested:
            return "nested"
        if not self.filled:
            return "empty"
        if self.numeric_share >= NUMBER_SHARE:
            return "number"
        return "time" if self.time_share >= TIME_SHARE else "category"

    @property
    def unreadable(self) -> int:
        """Values of a number column that read as none."""
        return round(self.filled * (1 - self.numeric_share)) if self.kind == "number" else 0

    @property
    def is_unique(self) -> bool:
        """No value twice, none missing."""
        return self.distinct == self.rows


@dataclass(frozen=True)
class Column:
    """A column's profile and its values, held as codes: memory grows with rows by 12 bytes, whatever the texts."""

    profile: ColumnProfile
    values: np.ndarray
    """The different values as the model will see them: text without spaces around it."""
    codes: np.ndarray
    """Which of them each row holds, -1 for a blank: shape (n,)."""
    numbers: np.ndarray
    """The rows as float64; NaN where blank, infinite or no number: shape (n,)."""

    @property
    def name(self) -> str:
        """The column's name."""
        return self.profile.name

    @property
    def kind(self) -> Kind:
        """What the values are."""
        return self.profile.kind

    @property
    def counts(self) -> np.ndarray:
        """How many rows hold each of `values`."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.values))

    def instants(self, form: str | None = None) -> np.ndarray:
        """The rows as nanoseconds since 1970, NaN where they are no instant: shape (n,)."""
        parsed = _instants(self.values, form)
        nanoseconds = parsed.to_numpy("datetime64[ns]").astype(np.float64)
        return _by_row(np.where(parsed.isna(), np.nan, nanoseconds), self.codes)


def read_column(name: str, raw: pa.ChunkedArray | pa.Array | pd.Series) -> Column:
    """Profile a column as it came, from Arrow or pandas, shape (n,).

    Text that is mostly numbers is numbers, and its blanks are missing.

    >>> column = read_column("charges", pa.array(["1.5", " ", "2", None]))
    >>> column.kind, column.profile.blanks, column.numbers.tolist()
    ('number', 2, [1.5, nan, 2.0, nan])
    """
    if isinstance(raw, pd.Series):
        raw = pa.Array.from_pandas(raw)
    text = _as_text(raw)
    if text is None:
        return _nested(name, len(raw))
    encoded = pc.dictionary_encode(text)
    values = np.asarray(encoded.dictionary.to_pylist(), dtype=object)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    counts = np.bincount(codes[codes >= 0], minlength=len(values))
    filled = max(1, int(counts.sum()))
    is_truth = pa.types.is_boolean(raw.type)
    numbers = (values == "True").astype(np.float64) if is_truth else _numbers(values)
    numeric = ~np.isnan(numbers)
    numeric_share = float(counts[numeric].sum()) / filled
    time_share, formats = (0.0, ()) if numeric_share >= NUMBER_SHARE else _time(values, counts)
    is_number = numeric_share >= NUMBER_SHARE
    finite = np.unique(numbers[np.isfinite(numbers)])
    zeros = np.array([len(v) > 1 and v[0] == "0" and v.isdigit() for v in values], dtype=bool)
    profile = ColumnProfile(
        name=name,
        rows=len(codes),
        blanks=int((codes < 0).sum()),
        distinct=len(finite) if is_number else len(values),
        numeric_share=numeric_share,
        time_share=time_share,
        time_formats=formats,
        is_nested=False,
        is_boolean=is_truth or {str(v).lower() for v in values[:3]} in PAIRS,
        is_integer=is_number and len(finite) > 0 and bool((finite % 1 == 0).all()),
        leading_zeros=int(counts[zeros].sum()),
        minimum=f"{finite[0]:g}" if is_number and len(finite) else min(values, default=""),
        maximum=f"{finite[-1]:g}" if is_number and len(finite) else max(values, default=""),
        examples=tuple(str(v) for v in values[:EXAMPLES]),
        mean_length=float(np.dot(counts, [len(v) for v in values])) / filled,
    )
    return Column(profile, values, codes, _by_row(np.where(np.isfinite(numbers), numbers, np.nan), codes))


def _as_text(raw: pa.ChunkedArray | pa.Array) -> pa.Array | None:
    """Every value as the text that the stages compare it by, blanks as null; None for lists and the like."""
    column = raw.combine_chunks() if isinstance(raw, pa.ChunkedArray) else raw
    if isinstance(column, pa.ChunkedArray):  # an empty one stays chunked
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if pa.types.is_boolean(column.type):
        return pc.if_else(column, "True", "False")
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return None
    try:
        text = column.cast(pa.large_string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return None
    trimmed = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.large_string()), trimmed)


def _nested(name: str, rows: int) -> Column:
    profile = ColumnProfile(name, rows, 0, 0, 0.0, 0.0, (), True, False, False, 0, "", "", (), 0.0)
    return Column(profile, np.empty(0, dtype=object), np.full(rows, -1, dtype=np.int32), np.full(rows, np.nan))


def _numbers(values: np.ndarray) -> np.ndarray:
    """The values as float64, NaN where they read as no number: by the same reading as in the stages."""
    series = pd.Series(values, dtype="str")
    return np.asarray(pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan))


def _time(values: np.ndarray, counts: np.ndarray) -> tuple[float, tuple[str, ...]]:
    """The share that is an instant, and the forms that fit where ISO 8601 does not."""
    filled = max(1, int(counts.sum()))

    def share(form: str | None) -> float:
        return float(counts[_instants(values, form).notna().to_numpy()].sum()) / filled

    iso = share(None)
    if iso >= TIME_SHARE or not any(c in str(v) for v in values[:5] for c in "/.-"):
        return iso, ()
    likely = [f for f in FORMATS if _instants(values[:50], f).notna().mean() >= 0.5]
    fitting = {form: share(form) for form in likely}
    best = max([iso, *fitting.values()])
    return best, tuple(form for form, fits in fitting.items() if fits >= TIME_SHARE)


def _instants(values: np.ndarray, form: str | None) -> Any:
    """A series of instants in UTC, NaT where the text is none."""
    texts = pd.Series(values, dtype="str")
    if form:
        return pd.to_datetime(texts, format=form, errors="coerce", utc=True)
    iso = texts.where(texts.str.fullmatch(ISO))
    return pd.to_datetime(iso.str.removesuffix("UTC").str.strip(), format="ISO8601", errors="coerce", utc=True)


def _by_row(of_values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return np.asarray(np.append(of_values, np.nan)[codes])
