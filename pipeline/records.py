"""What stages hand each other: small, frozen, JSON. Never a table; paths are relative to the state folder.

Each record carries the one before it, so the last tells the whole story of a run.
"""

from __future__ import annotations

import json
import types
import typing
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Literal, Self

from pipeline.core.verdict import Difference, Evidence, Interval, Verdict


@dataclass(frozen=True)
class Record:
    """What a stage returns."""

    key: str
    """Digest of everything the output depends on; the same key is the same output."""

    def to_json(self) -> str:
        """Compact JSON, keys sorted: equal records are equal texts."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`."""
        record = _build(cls, json.loads(text))
        assert isinstance(record, cls)
        return record


def _build(kind: Any, value: Any) -> Any:
    """Give plain JSON the shape of a dataclass annotation."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _build(next(a for a in arguments if a is not type(None)), value)
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        given = {f.name: _build(hints[f.name], value[f.name]) for f in fields(kind) if f.name in value}
        return kind(**given)  # type: ignore[operator]
    if origin is tuple:
        return tuple(_build(arguments[0], item) for item in value)
    if origin is dict:
        return {name: _build(arguments[1], item) for name, item in value.items()}
    return float(value) if kind is float else value


@dataclass(frozen=True)
class IngestRecord(Record):
    """A snapshot of the source as known at the cut-off."""

    cutoff: str
    snapshot: str
    rejected: str
    """Rows that could not be placed in time or could not be split into columns, with the reason."""
    rows: int
    rejected_rows: int
    superseded_rows: int
    """Earlier states of rows that were corrected later."""
    later_rows: int
    """Rows of the source that were not yet known at the cut-off."""
    unmatured_rows: int
    """Rows whose label was not yet final; their target is empty here."""
    rejected_reasons: dict[str, int]
    digest: str
    """MD5 of the snapshot, as DVC knows it."""
    unchanged_until: str | None
    """The next instant at which the same source would give another snapshot; None: never."""


@dataclass(frozen=True)
class ValidateRecord(Record):
    """The rows that passed, typed by the schema."""

    clean: str
    quarantine: str
    data_docs: str
    schema: str
    schema_digest: str
    rows: int
    quarantined_rows: int
    quarantined_reasons: dict[str, int]
    digest: str
    ingest: IngestRecord


@dataclass(frozen=True)
class PrepareRecord(Record):
    """Training rows and, later than them, the rows that judge."""

    train: str
    test: str
    train_rows: int
    test_rows: int
    unlabelled_rows: int
    embargoed_rows: int
    outside_rows: int
    """Older than the training window."""
    train_until: str | None
    test_from: str | None
    test_until: str | None
    digest: str
    validate: ValidateRecord


@dataclass(frozen=True)
class TrainRecord(Record):
    """A fitted model and its MLflow run."""

    model: str
    """The fitted pipeline as a skops file."""
    digest: str
    mlflow_run: str
    mlflow_model: str
    parameters: dict[str, Any]
    prepare: PrepareRecord


@dataclass(frozen=True)
class EvaluateRecord(Record):
    """Candidate against champion on the same later rows, both as what serves."""

    package: str
    package_digest: str
    form: str
    """How serving computes it: linear, mlp, naive_bayes, onnx, treelite or skops."""
    primary: str
    """The metric that decides."""
    metrics: dict[str, Interval]
    champion: str | None
    """Package digest of the champion that the candidate was judged against."""
    champion_version: int | None
    champion_metrics: dict[str, Interval]
    difference: Difference | None
    """Candidate less champion in the primary metric; positive is better."""
    evidence: Evidence
    threshold: float
    latency_ms: float | None
    """99th percentile in the real server, where a cap is set. A measurement: it differs from run to run."""
    fairness: dict[str, dict[str, float]]
    """Rate of each group, by the column and what was measured."""
    verdict: Verdict
    predictions: str
    predictions_digest: str
    train: TrainRecord


@dataclass(frozen=True)
class RegisterRecord(Record):
    """A version in the registry, and its model package."""

    version: int
    package: str
    digest: str
    form: str
    model_card: str
    evaluate: EvaluateRecord


@dataclass(frozen=True)
class DeployRecord(Record):
    """What became of the version."""

    status: Literal["deployed", "unchanged", "refused", "on_trial"]
    reason: str
    generation: int
    """The rollout's number after this stage; it only grows."""
    champion: int | None
    """The version that answers now."""
    challenger: int | None
    """The version that is on trial beside it."""
    servers: int
    """Servers that reported the version active."""
    register: RegisterRecord
