"""The schema of a model: which columns are features, of which kind; inferred once, then pinned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.core.digest import digest_of
from pipeline.errors import NotEnoughData, SchemaChanged

Kind = Literal["number", "category"]

NUMBER_SHARE = 0.95
"""A text column is a number where this share of its values reads as one; the rest is quarantined."""


@dataclass(frozen=True)
class ColumnFacts:
    """What a snapshot shows of one column."""

    name: str
    is_number: bool
    """Its stored type is a number or a boolean."""
    is_time: bool
    filled: int
    """Values that are not missing."""
    numeric: int
    """Values that read as a number."""
    distinct: int
    """Different values, approximately."""


@dataclass(frozen=True)
class Schema:
    """Kind of each feature, in the order the model sees them, and the columns that are none."""

    features: dict[str, Kind]
    others: tuple[str, ...]
    """Every other column of the source."""

    @property
    def digest(self) -> str:
        """Equal schemas, equal digests."""
        return digest_of(list(self.features.items()), sorted(self.others))

    def to_json(self) -> str:
        """As text that a person can read and review."""
        return json.dumps({"features": self.features, "others": list(self.others)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """The inverse of `to_json`."""
        content = json.loads(text)
        return cls(content["features"], tuple(content["others"]))


def infer_schema(facts: list[ColumnFacts], reserved: tuple[str, ...], exclude: tuple[str, ...]) -> Schema:
    """Numbers where the values read as numbers, categories otherwise; no instants, constants or identifiers.

    Raises NotEnoughData where no feature is left.

    >>> facts = [ColumnFacts("id", False, False, 9, 0, 9), ColumnFacts("age", False, False, 9, 9, 5)]
    >>> infer_schema(facts, ("id",), ()).features
    {'age': 'number'}
    """
    features: dict[str, Kind] = {}
    for column in facts:
        if column.name in reserved or column.name in exclude or column.is_time or column.distinct < 2:
            continue
        if column.is_number or column.numeric >= NUMBER_SHARE * column.filled:
            features[column.name] = "number"
        elif column.distinct <= 0.5 * column.filled or column.distinct <= 20:
            features[column.name] = "category"
    if not features:
        raise NotEnoughData("no column is left as a feature; list them under features.columns")
    return Schema(features, tuple(c.name for c in facts if c.name not in features))


def check_schema(
    pinned: Schema, present: Mapping[str, ColumnFacts], *, refuse_new: bool, where: str, max_categories: int
) -> None:
    """Hold the columns of a snapshot against the pinned schema.

    Raises SchemaChanged for a feature that vanished, is empty, changed its type or has too many
    categories, and for a new column where these are refused.
    """
    for name, kind in pinned.features.items():
        facts = present.get(name)
        if facts is None:
            raise SchemaChanged(
                f"{where}: the column {name!r} of the pinned schema has vanished; bring it back, "
                f"or remove it from the features and pin anew with `python -m pipeline validate --repin`"
            )
        if facts.filled == 0:
            raise SchemaChanged(
                f"{where}: the column {name!r} is empty in every row; mend the source or list it under features.exclude"
            )
        if kind == "number" and not facts.is_number and facts.numeric < 0.5 * facts.filled:
            raise SchemaChanged(
                f"{where}: the column {name!r} is pinned as a number, but {facts.filled - facts.numeric} of "
                f"{facts.filled} values are none; mend the source or change features.columns.{name}"
            )
        if kind == "category" and facts.distinct > max_categories:
            raise SchemaChanged(
                f"{where}: the column {name!r} has about {facts.distinct} categories, more than "
                f"features.max_categories={max_categories}; exclude it, group its values, or raise the limit"
            )
    known = {*pinned.features, *pinned.others}
    new = [name for name in present if name not in known]
    if new and refuse_new:
        raise SchemaChanged(
            f"{where}: the column {new[0]!r} is not in the pinned schema; set features.new_columns to ignore, "
            f"or pin anew with `python -m pipeline validate --repin`"
        )
