"""What the OpenAPI document says of a model: its features as JSON Schema, and rows to try it with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.core.package import Feature, Signature, Unseen
from serving.answering_many import MAX_ROWS
from serving.protocols import MAX_FEATURES

Schema = dict[str, Any]
LARGEST = 1.7976931348623157e308
"""Of a double: a larger number is refused."""
ANY_VALUE: Schema = {"type": ["string", "number", "boolean", "null"]}


@dataclass(frozen=True)
class Subject:
    """The model that operations are described for."""

    name: str
    versions: tuple[str, ...]
    """Those that answer."""
    signature: Signature
    unseen: Unseen

    @property
    def row(self) -> dict[str, Any]:
        """A row that this model answers."""
        return {feature.name: _usual(feature) for feature in self.signature.features}

    def value(self, feature: Feature) -> Schema:
        """What a feature may be."""
        if feature.kind == "number":
            seen = "" if feature.minimum is None else f"training saw {feature.minimum:g} to {feature.maximum:g}"
            return {
                "type": ["number", "boolean", "null"], "minimum": -LARGEST, "maximum": LARGEST,
                "description": seen or "a number",
            }  # fmt: skip
        known = feature.categories
        if self.unseen == "refuse" and known is not None:
            return {"enum": [*known, None], "description": "what training never saw is refused"}
        seen = "" if known is None else f"training saw {', '.join(known[:20])}"
        return {"type": ["string", "integer", "boolean", "null"], "description": seen or "a text"}


def named_row(subject: Subject | None) -> Schema:
    """A row that names its features."""
    if subject is None:
        return {"type": "object", "additionalProperties": ANY_VALUE, "maxProperties": MAX_FEATURES}
    features = subject.signature.features
    return {
        "type": "object", "properties": {feature.name: subject.value(feature) for feature in features},
        "required": [feature.name for feature in features], "additionalProperties": False,
    }  # fmt: skip


def ordered_row(subject: Subject | None) -> Schema:
    """A row that gives its features in their order."""
    if subject is None:
        return {"type": "array", "items": ANY_VALUE, "maxItems": MAX_FEATURES}
    features = subject.signature.features
    return {
        "type": "array", "prefixItems": [subject.value(feature) for feature in features],
        "minItems": len(features), "maxItems": len(features),
    }  # fmt: skip


def row(subject: Subject | None) -> Schema:
    """A row, either way."""
    return {"anyOf": [named_row(subject), ordered_row(subject)]}


def table(rows: Schema) -> Schema:
    """Some rows."""
    return {"type": "array", "items": rows, "minItems": 1, "maxItems": MAX_ROWS}


def columns(subject: Subject | None) -> Schema:
    """A list of values for each feature, all of one length."""

    def column(value: Schema) -> Schema:
        alone = {"type": "array", "items": value, "minItems": 1, "maxItems": 1}
        return table({"anyOf": [value, alone]})

    if subject is None:
        return {"type": "object", "additionalProperties": column(ANY_VALUE)}
    features = subject.signature.features
    return {
        "type": "object", "properties": {feature.name: column(subject.value(feature)) for feature in features},
        "required": [feature.name for feature in features], "additionalProperties": False,
    }  # fmt: skip


def _usual(feature: Feature) -> Any:
    if feature.kind != "number":
        return (feature.categories or ("",))[0]
    if feature.minimum is None or feature.maximum is None:
        return 0.0
    return round((feature.minimum + feature.maximum) / 2, 3)
