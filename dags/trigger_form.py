"""The form that the web UI shows before a run, and what its answers change. No DAG in here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from airflow.sdk import Param

from pipeline.config import ModelConfig
from pipeline.core.estimators import allowed_estimators
from pipeline.core.metric_names import METRICS

FOR_A_RUN = ("features", "validation", "split", "training", "metrics", "gate")
"""Sections of a model file that a single run may change; the others say what the model is, or who must agree."""


def form(model: ModelConfig) -> dict[str, Param]:
    """Fields of the form; an answer outside them is refused before the run begins (REST: 400)."""
    file = f"models/{model.name}.yaml"
    fields = {
        "cutoff": cutoff_field(),
        "estimator": Param(
            None, type=["null", "string"], enum=[None, *allowed_estimators(model.task)], title="Estimator",
            section="Training",
            description=f"Empty: {model.training.estimator}. Another one starts from its own default parameters.",
        ),
        "seed": Param(
            None, type=["null", "integer"], minimum=0, maximum=2**32 - 1, title="Random seed", section="Training",
            description=f"Empty: {model.training.seed}, from {file}.",
        ),
        "floor": Param(
            None, type=["null", "number"], title=f"Floor of {model.primary_metric}", section="Judging",
            description=f"A candidate worse than this is rejected. Empty: as in {file}.",
        ),
    }  # fmt: skip
    if model.time and model.time.event:
        fields["test_days"] = Param(
            None, type=["null", "number"], exclusiveMinimum=0, title="Days that judge", section="Judging",
            description=f"Length of the latest part, which is not trained on. Empty: as in {file}.",
        )  # fmt: skip
        fields["train_days"] = Param(
            None, type=["null", "number"], exclusiveMinimum=0, title="Days that train", section="Training",
            description=f"Length of the training window. Empty: as in {file}.",
        )  # fmt: skip
    fields["overrides"] = Param(
        {}, **_override_schema(model), title="Other keys of the model file", section="More",
        description='By dotted name, for this run only: {"training.max_onehot": 20, "gate.margin": 0.002}',
    )  # fmt: skip
    return fields


def cutoff_field() -> Param:
    """The instant up to which a run may know anything."""
    return Param(
        None, type=["null", "string"], format="date-time", title="Cut-off", section="Time",
        description="Know nothing later than this instant. Empty: now. A backfill has its own.",
    )  # fmt: skip


def changes(answers: Mapping[str, Any], model: ModelConfig) -> dict[str, Any]:
    """What the answers change in the model file, by dotted key.

    Parameters belong to the estimator they were written for: another estimator starts without them.
    """
    asked = {
        "training.estimator": answers.get("estimator"),
        "training.seed": answers.get("seed"),
        "split.test_days": answers.get("test_days"),
        "split.train_days": answers.get("train_days"),
        f"metrics.floors.{model.primary_metric}": answers.get("floor"),
    }
    changed = {key: value for key, value in asked.items() if value is not None}
    if changed.get("training.estimator", model.training.estimator) != model.training.estimator:
        changed |= {"training.parameters": {}, "training.search": None}
    return changed | dict(answers.get("overrides") or {})


def _override_schema(model: ModelConfig) -> dict[str, Any]:
    """JSON schema of the free overrides: every dotted key of those sections with the schema of its value."""
    properties, patterns = _dotted_keys()
    narrower = {
        "training.estimator": {"enum": list(allowed_estimators(model.task))},
        "metrics.primary": {"enum": [None, *METRICS[model.task]]},
    }
    return {
        "type": "object",
        "properties": properties | narrower,
        "patternProperties": patterns,
        "additionalProperties": False,
    }


@cache
def _dotted_keys() -> tuple[dict[str, Any], dict[str, Any]]:
    definitions = ModelConfig.model_json_schema()["$defs"]
    properties: dict[str, Any] = {}
    patterns: dict[str, Any] = {}
    for name in FOR_A_RUN:
        for key, value in definitions[name.title()]["properties"].items():
            plain = _plain(value, definitions)
            properties[f"{name}.{key}"] = plain
            if plain.get("type") == "object" and "additionalProperties" in plain:
                free = plain["additionalProperties"]
                patterns[rf"^{name}\.{key}\.[A-Za-z0-9_.]+$"] = {} if free is True else free
    return properties, patterns


def _plain(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema without prose and references: Airflow stores it once more with every task."""
    if isinstance(schema, list):
        return [_plain(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _plain(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    prose = ("title", "default", "description")
    return {
        key: {name: _plain(part, definitions) for name, part in value.items()} if key == "properties" else
        _plain(value, definitions)
        for key, value in schema.items() if key not in prose
    }  # fmt: skip
