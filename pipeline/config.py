"""The only reader of models/*.yaml: typed, frozen, unknown keys refused."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Self, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from pipeline.core.decision import Payoff as PayoffOf
from pipeline.core.estimators import Task, allowed_estimators
from pipeline.core.metric_names import METRICS, MONEY, primary_metric, row_metric, row_metrics
from pipeline.errors import BadConfiguration
from pipeline.monitoring_sections import Monitoring, Retraining
from pipeline.rollout_sections import Deployment
from pipeline.sections import (
    AsTuple,
    BehaviourTest,
    Features,
    Gate,
    Metrics,
    Payoff,
    Schedules,
    Section,
    Source,
    Split,
    Target,
    Time,
    Training,
    Validation,
)


class ModelConfig(Section):
    """One model file, whole."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    description: str = ""
    task: Task
    source: Source
    entity: tuple[str, ...] = ()
    time: Time | None = None
    target: Target
    features: Features = Features()
    validation: Validation = Validation()
    split: Split = Split()
    training: Training
    metrics: Metrics = Metrics()
    payoff: Payoff | None = None
    gate: Gate = Gate()
    behaviour: Annotated[tuple[BehaviourTest, ...], AsTuple] = ()
    deployment: Deployment = Deployment()
    monitoring: Monitoring = Monitoring()
    retraining: Retraining = Retraining()
    schedules: Schedules = Schedules()

    @field_validator("entity", mode="before")
    @classmethod
    def _tuple(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        allowed = allowed_estimators(self.task)
        if self.training.estimator not in allowed:
            raise ValueError(
                f"training.estimator: {self.training.estimator!r} is not allowed for a {self.task} model"
                + _nearest(self.training.estimator, allowed)
            )
        self._check_metrics()
        self._check_gate()
        self._check_rollout()
        if self.time is None and not self.entity:
            raise ValueError("a table without time is split by a hash of its entity: give entity, or time")
        if self.split.test_days and not (self.time and self.time.event):
            raise ValueError("split.test_days needs time.event; use split.test_share")
        if self.time is None and self.target.known_after_days:
            raise ValueError("target.known_after_days needs time.event")
        if self.schedules.drift_detection and self.monitoring.data == "source" and not (self.time and self.time.event):
            raise ValueError(
                "schedules.drift_detection: the rows of a table without time.event belong to no day; "
                "set monitoring.data to predictions"
            )
        return self

    def _check_metrics(self) -> None:
        asked = [("metrics.primary", self.metrics.primary), *(("metrics.floors", n) for n in self.metrics.floors)]
        asked += [("gate.slices.floors", name) for one in self.gate.slices for name in one.floors]
        for where, name in asked:
            if name is not None and name not in METRICS[self.task]:
                raise ValueError(f"{where}: {name!r} is not a {self.task} metric" + _nearest(name, METRICS[self.task]))
            if name == MONEY and self.payoff is None:
                raise ValueError(f"{where}: {MONEY} needs the section payoff, which says what an outcome is worth")

    def _check_gate(self) -> None:
        if self.task != "binary" and (self.payoff or self.gate.fairness):
            raise ValueError(f"{'payoff' if self.payoff else 'gate.fairness'} is for binary models only")
        known = self.features.columns
        if known is None:
            return
        for test in self.behaviour:
            columns = test.row if test.test == "minimum" else [test.column]
            for column in columns:
                if column not in known:
                    raise ValueError(f"behaviour {test.name}: {column!r} is no feature" + _nearest(column, known))

    def _check_rollout(self) -> None:
        name = self.deployment.rollout.metric
        known = row_metrics(self.task, self.payoff is not None)
        if name is not None and name not in known:
            raise ValueError(
                f"deployment.rollout.metric: {name!r} is no mean over the rows of a {self.task} model"
                + _nearest(name, known)
            )

    @property
    def rollout_metric(self) -> str:
        """The metric that a challenger is held against the champion in: a mean over rows."""
        return self.deployment.rollout.metric or row_metric(self.task, self.primary_metric, self.payoff is not None)

    @property
    def threshold(self) -> float:
        """Binary: probability of the positive class from which it is the answer."""
        return PayoffOf(**self.payoff.model_dump()).threshold if self.payoff else 0.5

    @property
    def judged_columns(self) -> tuple[str, ...]:
        """Columns that the gate groups rows by, features or not."""
        named = [c for one in self.gate.slices for c in one.where] + [f.column for f in self.gate.fairness]
        return tuple(dict.fromkeys(named))

    @property
    def primary_metric(self) -> str:
        """The metric that decides."""
        return self.metrics.primary or primary_metric(self.task)

    @property
    def embargo_days(self) -> float:
        """Days between the last training event and the first test event."""
        days = self.split.embargo_days
        return self.target.known_after_days if days is None else days

    @property
    def reserved_columns(self) -> tuple[str, ...]:
        """Columns that tell who and when, and are no features."""
        times = (self.time.event, self.time.arrival) if self.time else ()
        return (*self.entity, *(c for c in times if c), self.target.column)


def model_names(models_dir: Path) -> list[str]:
    """Names of all models: the files models/NAME.yaml."""
    return sorted(path.stem for path in models_dir.glob("*.yaml"))


def load_model(name: str, models_dir: Path) -> ModelConfig:
    """Read models/NAME.yaml.

    Raises BadConfiguration naming the file, the key and the nearest known key.
    """
    path = models_dir / f"{name}.yaml"
    if not path.is_file():
        hint = _nearest(name, model_names(models_dir)) or f"; `python -m pipeline new {name}` writes one"
        raise BadConfiguration(f"no model file {path}{hint}")
    return parse_model(path.read_text(encoding="utf-8"), name, str(path))


def parse_model(text: str, name: str, where: str) -> ModelConfig:
    """A model file's text as its configuration; `where` stands in the messages."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadConfiguration(f"{where} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise BadConfiguration(f"{where} is not a mapping of keys; start it with `task: binary`")
    content.setdefault("name", name)
    if content["name"] != name:
        raise BadConfiguration(f"{where}: name is {content['name']!r}, but the file is {name}.yaml")
    try:
        return ModelConfig.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(f"  {_explain(problem)}" for problem in error.errors())
        raise BadConfiguration(f"{where} cannot be used:\n{problems}") from None


def _explain(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key" + _nearest(str(problem["loc"][-1]), _known_keys(problem["loc"][:-1]))
    if problem["type"] == "missing":
        return f"{key}: is required"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {message[0].lower()}{message[1:]}, got {problem['input']!r}"


def _known_keys(location: tuple[str | int, ...]) -> list[str]:
    found: list[type[BaseModel]] = [ModelConfig]
    for part in location:
        fields = [section.model_fields[str(part)] for section in found if str(part) in section.model_fields]
        if fields:
            found = [section for field in fields for section in _sections(field.annotation)]
        else:  # a place in a list, or the kind of one of several sections
            found = [s for s in found if part in _tags(s)] or found
    return [name for section in found for name in section.model_fields]


def _tags(section: type[BaseModel]) -> tuple[Any, ...]:
    """The words that choose this section among several."""
    return get_args(section.model_fields["test"].annotation) if "test" in section.model_fields else ()


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The sections that stand anywhere in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in getattr(annotation, "__args__", ()) for section in _sections(part)]


def _nearest(word: str, known: Any) -> str:
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def override(model: ModelConfig, changes: dict[str, Any]) -> ModelConfig:
    """The model with some keys changed, by dotted name, checked like the file itself.

    Raises BadConfiguration naming the key.
    """
    content = model.model_dump(mode="python", exclude_unset=True)
    content["name"] = model.name
    for key, value in changes.items():
        section = content
        *parents, last = key.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise BadConfiguration(f"override {key}: {parent} is not a section")
        section[last] = value
    try:
        return ModelConfig.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(f"  {_explain(problem)}" for problem in error.errors())
        raise BadConfiguration(f"overrides of {model.name} cannot be used:\n{problems}") from None
