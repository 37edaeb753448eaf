"""The only reader of models/*.yaml: typed, frozen, unknown keys refused."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline.core.estimators import Task, allowed_estimators
from pipeline.core.metric_names import METRICS, primary_metric
from pipeline.errors import BadConfiguration

Share = Annotated[float, Field(ge=0, le=1)]
ColumnKind = Literal["number", "category"]


class Section(BaseModel):
    """A part of a model file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Sql(Section):
    """A query through SQLAlchemy."""

    url_variable: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    """Name of the environment variable that holds the database address: no secret in a model file."""
    query: str


class Source(Section):
    """Where the table is: exactly one of `path` and `sql`."""

    path: str | None = None
    """A file, a folder or a pattern; anything fsspec opens, such as s3://bucket/table/*.parquet."""
    sql: Sql | None = None
    format: Literal["csv", "parquet"] | None = None
    """Taken from the ending of the path when left out."""
    separator: str = Field(",", min_length=1, max_length=1)
    encoding: str = "utf-8"

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.path is None) == (self.sql is None):
            raise ValueError("give exactly one of path and sql")
        return self


class Time(Section):
    """How the table tells time. Without this section rows are split by a hash of the entity."""

    event: str | None = None
    """Column: when it happened."""
    arrival: str | None = None
    """Column: when the row came to be known."""
    format: str | None = None
    """strptime form of text instants; ISO 8601 when left out. Instants without a zone are UTC."""
    order: Literal["rows"] | None = None
    """`rows`: the table has no instants, but its rows stand in order of time."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.event is None) == (self.order is None):
            raise ValueError("give exactly one of event and order")
        if self.arrival and not self.event:
            raise ValueError("arrival needs event")
        return self


class Target(Section):
    """What is predicted."""

    column: str
    known_after_days: float = Field(default=0, ge=0)
    """Days after the event until the label is final; younger labels are not used."""
    positive: str | int | bool | None = None
    """Binary: the value that counts as 1. Left out: the later of the two in sorted order."""


class Features(Section):
    """Which columns the model sees."""

    columns: dict[str, ColumnKind] | None = None
    """Name and kind of each feature. Left out: inferred at the first run, then pinned."""
    exclude: tuple[str, ...] = ()
    max_categories: int = Field(default=1000, ge=2)
    """A category column with more distinct values stops the run."""
    new_columns: Literal["refuse", "ignore"] = "refuse"
    """What to do when the source shows a column that the pinned schema does not know."""

    @field_validator("exclude", mode="before")
    @classmethod
    def _tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


class Expectation(BaseModel):
    """One Great Expectations check: its snake-case name under `expect`, then its own arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)
    expect: str = Field(pattern=r"^expect_[a-zA-Z_]+$")
    reason: str | None = None
    """What quarantine calls a row that breaks it; made from the arguments when left out."""

    @property
    def arguments(self) -> dict[str, Any]:
        """What Great Expectations is given."""
        return dict(self.model_extra or {})


class Validation(Section):
    """What the data must be like."""

    max_quarantined_share: Share = 0.05
    """More rows than this in quarantine stop the run."""
    expectations: tuple[Expectation, ...] = ()

    @field_validator("expectations", mode="before")
    @classmethod
    def _tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


class Split(Section):
    """Which rows train and which judge. With time, the later rows judge."""

    test_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the rows that judge; ignored where test_days is given."""
    test_days: float | None = Field(default=None, gt=0)
    train_days: float | None = Field(default=None, gt=0)
    """Length of the training window; all of the past when left out."""
    embargo_days: float | None = Field(default=None, ge=0)
    """Gap between the parts; target.known_after_days when left out."""
    embargo_rows: int = Field(default=0, ge=0)
    """The gap where the order of rows is time."""
    min_rows: int = Field(default=100, ge=2)
    """Fewer rows in either part stop the run."""


class Search(Section):
    """A search for parameters, by cross-validation inside the training part."""

    parameters: dict[str, list[Any]]
    candidates: int | None = Field(default=None, ge=1)
    """Drawn at random; every combination when left out."""
    folds: int = Field(default=3, ge=2, le=20)


class Training(Section):
    """How the model is made."""

    estimator: str
    """Import path from the allow-list."""
    parameters: dict[str, Any] = {}
    seed: int = Field(default=7, ge=0, lt=2**32)
    search: Search | None = None
    max_onehot: int = Field(default=50, ge=0)
    """Categories up to this many become one column each; more become one ordered column."""


class Metrics(Section):
    """What counts, by scikit-learn's names."""

    primary: str | None = None
    """The one that decides; a usual one for the task when left out."""
    floors: dict[str, float] = {}
    """A candidate worse than a floor is rejected (errors and losses: above it)."""


class Gate(Section):
    """When a candidate may become champion."""

    margin: float = Field(default=0.0, ge=0)
    """How much worse than the champion, in the primary metric, still counts as not worse."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    resamples: int = Field(default=500, ge=50, le=10_000)


class Deployment(Section):
    """How traffic moves to a new champion."""

    strategy: Literal["direct"] = "direct"


class Schedules(Section):
    """Cron expressions, UTC; none: only by hand and by events."""

    training: str | None = None


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
    gate: Gate = Gate()
    deployment: Deployment = Deployment()
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
        for where, names in (("metrics.primary", [self.metrics.primary]), ("metrics.floors", self.metrics.floors)):
            for name in names:
                if name is not None and name not in METRICS[self.task]:
                    raise ValueError(
                        f"{where}: {name!r} is not a {self.task} metric" + _nearest(name, METRICS[self.task])
                    )
        if self.time is None and not self.entity:
            raise ValueError("a table without time is split by a hash of its entity: give entity, or time")
        if self.split.test_days and not (self.time and self.time.event):
            raise ValueError("split.test_days needs time.event; use split.test_share")
        if self.time is None and self.target.known_after_days:
            raise ValueError("target.known_after_days needs time.event")
        return self

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
    section: type[BaseModel] = ModelConfig
    for part in location:
        annotation = section.model_fields[str(part)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        section = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(section.model_fields)


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
