"""Reading one row of a request: checked against the signature, in microseconds, and written as numbers.

The usual row fits, and is read by a few calls that run in C. Only one that does not is looked at value by value, to
say which feature it is and why.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from pipeline.core.coded import NOWHERE, CodedPreparation
from pipeline.core.package import (
    InvalidInput,
    Signature,
    Unseen,
    category_value,
    number_value,
    ordered_row,
    shown,
)

Row = Sequence[Any]
"""Values in the order of the signature: numbers, NaN where one is missing; categories as their code, or as text where
there are no codes."""
Given = Mapping[str, Any] | Sequence[Any]
PLAIN = {float, int}


class RowReader:
    """Rows as a model takes them. Raises InvalidInput for those that do not fit.

    `coded`: the preparation that is to follow; None where scikit-learn itself follows, which wants the texts.
    """

    def __init__(self, signature: Signature, coded: CodedPreparation | None, unseen: Unseen = "unknown") -> None:
        self._signature, self._unseen = signature, unseen
        self.names = [feature.name for feature in signature.features]
        self.is_coded = coded is not None
        self._unseen_counts: Counter[str] = Counter()
        self._outside_counts: Counter[str] = Counter()
        self._known = [None if f.categories is None else frozenset(f.categories) for f in signature.features]
        codes: Sequence[Mapping[str | None, float] | None]
        codes = coded.codes if coded is not None else [None] * len(self.names)
        self._codes = [
            _seen(mapping, known) if mapping is not None else None
            for mapping, known in zip(codes, self._known, strict=True)
        ]
        self._all_codes = codes
        self._numbers = [place for place, feature in enumerate(signature.features) if feature.kind == "number"]
        self._categories = [place for place, feature in enumerate(signature.features) if feature.kind != "number"]
        self._by_name = _getter(self.names)
        self._low = np.array([_bound(f.minimum, -math.inf) for f in signature.features])
        self._high = np.array([_bound(f.maximum, math.inf) for f in signature.features])
        self._only_numbers = not self._categories

    def read(self, given: Given) -> Row:
        """One row: features by name, or in the order of the signature.

        >>> from pipeline.core.package import Feature
        >>> age = Signature((Feature("age", "number", None, 0.0, 9.0),), "regression", (), None)
        >>> RowReader(age, None).read({"age": 3})
        (3,)
        """
        if len(given) != len(self.names):
            return self._read_slowly(given)
        if isinstance(given, dict) or (type(given) is not list and isinstance(given, Mapping)):  # dear: asked last
            try:
                values = self._by_name(given)
            except KeyError:
                return self._read_slowly(given)
        else:
            values = given
        if self._only_numbers:
            return values if _plain(values) else self._read_slowly(values)
        return self._read_mixed(values)

    def _read_mixed(self, values: Sequence[Any]) -> Row:
        row = list(values)
        if not _plain([row[place] for place in self._numbers]):
            return self._read_slowly(values)
        try:
            for place in self._categories:
                row[place] = self._codes[place][row[place]]  # type: ignore[index]
        except (KeyError, TypeError):
            return self._read_slowly(values)
        return row

    def _read_slowly(self, given: Given) -> Row:
        """Value by value: what is odd but allowed, or the reason why it is not."""
        row: list[Any] = []
        for place, (feature, value) in enumerate(
            zip(self._signature.features, ordered_row(given, self.names), strict=True)
        ):
            if feature.kind == "number":
                row.append(number_value(feature.name, value))
            else:
                row.append(self._category(place, category_value(feature.name, value)))
        return row

    def _category(self, place: int, text: str | None) -> Any:
        known = self._known[place]
        if text is not None and known is not None and text not in known:
            name = self.names[place]
            if self._unseen == "refuse":
                raise InvalidInput(name, f"{shown(text)} was never seen in training; known are {_some(known)}")
            self._unseen_counts[name] += 1
        codes = self._all_codes[place]
        return text if codes is None else codes.get(text, NOWHERE)

    def read_columns(self, table: Mapping[str, np.ndarray]) -> np.ndarray:
        """Many rows by column, coded, shape (n, features), float64: numbers in any numeric type, categories as objects.

        Only for what is coded.
        """
        columns = [self._column(place, np.asarray(table[name])) for place, name in enumerate(self.names)]
        return np.column_stack(columns) if columns else np.empty((0, 0))

    def _column(self, place: int, values: np.ndarray) -> np.ndarray:
        codes = self._all_codes[place]
        if codes is None:
            return values.astype(np.float64, copy=False)
        kinds, inverse = np.unique([_text(value) for value in values], return_inverse=True)
        found = [self._category(place, kind or None) for kind in kinds.tolist()]
        counts = np.bincount(inverse, minlength=len(kinds))
        known = self._known[place]
        for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True):
            if kind and known is not None and kind not in known:
                self._unseen_counts[self.names[place]] += count - 1  # one was counted above
        return np.asarray(found, dtype=np.float64)[inverse]

    def note_outside(self, rows: np.ndarray) -> None:
        """Count the numbers that lie outside of what training saw; rows are coded, shape (n, features)."""
        beyond = (rows < self._low) | (rows > self._high)
        if beyond.any():
            counts = beyond.sum(axis=0)
            self._outside_counts.update({self.names[place]: int(counts[place]) for place in np.flatnonzero(counts)})

    def take_odd(self) -> tuple[dict[str, int], dict[str, int]]:
        """Categories never seen and numbers out of range, by feature, since it was last asked."""
        unseen, self._unseen_counts = self._unseen_counts, Counter()
        outside, self._outside_counts = self._outside_counts, Counter()
        return dict(unseen), dict(outside)


def _plain(values: Sequence[Any]) -> bool:
    """Whether all are finite numbers; False also where only their sum is not finite, which is looked at then."""
    if not PLAIN.issuperset(map(type, values)):
        return False
    try:
        return math.isfinite(sum(values))
    except OverflowError:
        return False


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _seen(codes: Mapping[str | None, float], known: frozenset[str] | None) -> dict[str | None, float]:
    """What needs no second look: the categories of training, and a missing one."""
    return {text: code for text, code in codes.items() if text is None or known is None or text in known}


def _bound(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _getter(names: list[str]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    if len(names) == 1:
        only = names[0]
        return lambda given: (given[only],)
    return itemgetter(*names) if names else lambda _: ()


def _some(known: frozenset[str]) -> str:
    listed = sorted(known)
    return ", ".join(shown(text) for text in listed[:10]) + (" and more" if len(listed) > 10 else "")
