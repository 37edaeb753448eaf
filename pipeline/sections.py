"""The sections of a model file, each typed, frozen, unknown keys refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
ColumnKind = Literal["number", "category"]
Value = str | int | float | bool | None


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


AsTuple = BeforeValidator(_as_tuple)
"""YAML has lists where frozen sections have tuples."""


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
    exclude: Annotated[tuple[str, ...], AsTuple] = ()
    trusted: Annotated[tuple[str, ...], AsTuple] = ()
    """Columns that may tell almost all of the target: somebody knows that they are known in time."""
    max_categories: int = Field(default=1000, ge=2)
    """A category column with more distinct values stops the run."""
    new_columns: Literal["refuse", "ignore"] = "refuse"
    """What to do when the source shows a column that the pinned schema does not know."""
    unseen_categories: Literal["unknown", "refuse"] = "unknown"
    """What the service does with a category that training never saw: take it for an unknown one and count it, or refuse
    the request."""


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
    expectations: Annotated[tuple[Expectation, ...], AsTuple] = ()


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


class Slice(Section):
    """A part of the rows that must not be broken, whatever the whole is like."""

    where: dict[str, str | int | bool | Annotated[tuple[float, float], AsTuple]] = Field(min_length=1)
    """Column: a value, or [low, high) of a number. The column need not be a feature."""
    name: str | None = None
    floors: dict[str, float] = {}
    """As metrics.floors, on these rows."""


class Fairness(Section):
    """Groups that must get the positive answer at like rates."""

    column: str
    """Need not be a feature."""
    measure: Literal["selection_rate", "true_positive_rate", "false_positive_rate"] = "selection_rate"
    min_ratio: float = Field(default=0.8, gt=0, le=1)
    """Smallest over largest rate; four fifths is the usual rule."""
    min_rows: int = Field(default=50, ge=1)
    """Smaller groups tell nothing and are left out."""


class Gate(Section):
    """When a candidate may become champion."""

    mode: Literal["enabled", "dry_run", "disabled"] = "enabled"
    """`dry_run`: judge and write down, but let pass. `disabled`: do not judge."""
    require: Literal["superiority", "non_inferiority"] = "superiority"
    """`non_inferiority`: not worse by more than the margin is enough, such as for a model on fresher data."""
    min_gain: Share = 0.02
    """superiority: share of the champion's error that has to go before a gain matters. Models of one recipe and
    different seeds differ by about 0.01."""
    margin: float = Field(default=0.0, ge=0)
    """non_inferiority: how much worse than the champion, in the primary metric, still counts as not worse."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    resamples: int = Field(default=500, ge=50, le=10_000)
    slices: Annotated[tuple[Slice, ...], AsTuple] = ()
    search_slices: bool = True
    """Also look for broken slices that nobody named."""
    slice_margin: float = Field(default=0.1, ge=0)
    """Share by which the loss on a slice may be above the champion's."""
    slice_min_rows: int = Field(default=100, ge=20)
    fairness: Annotated[tuple[Fairness, ...], AsTuple] = ()
    max_latency_ms: float | None = Field(default=None, gt=0)
    """99th percentile of single requests to a real server; not measured when left out."""

    @model_validator(mode="after")
    def _some_margin(self) -> Self:
        if self.require == "non_inferiority" and self.margin == 0:
            raise ValueError("require: non_inferiority needs a margin above 0, in units of the primary metric")
        return self


class InvarianceTest(Section):
    """A feature that must not matter."""

    test: Literal["invariance"]
    name: str
    column: str
    values: Annotated[tuple[Value, ...], AsTuple] = Field(min_length=2)
    tolerance: float = Field(default=0.01, ge=0)
    """Of the score: the probability of the positive class, or the prediction."""
    max_failing_share: Share = 0.0


class DirectionTest(Section):
    """A number that must push the score one way, or leave it."""

    test: Literal["direction"]
    name: str
    column: str
    add: float
    """What is added to the column."""
    expect: Literal["up", "down"]
    tolerance: float = Field(default=0.01, ge=0)
    max_failing_share: Share = 0.0


class MinimumTest(Section):
    """One row that anyone would get right."""

    test: Literal["minimum"]
    name: str
    row: dict[str, Value]
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _some_bound(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("give at_least, at_most or both")
        return self


BehaviourTest = Annotated[InvarianceTest | DirectionTest | MinimumTest, Field(discriminator="test")]


class Payoff(Section):
    """Money made by one row of each outcome; a cost is negative."""

    true_positive: float = 0
    false_positive: float = 0
    true_negative: float = 0
    false_negative: float = 0

    @model_validator(mode="after")
    def _worth_it(self) -> Self:
        if self.true_positive <= self.false_negative or self.true_negative <= self.false_positive:
            raise ValueError(
                "a right answer must be worth more than a wrong one: true_positive above false_negative, "
                "true_negative above false_positive"
            )
        return self


class Approval(Section):
    """A person who has to agree before a version becomes champion."""

    timeout_hours: float = Field(default=24, gt=0)
    """Silence until then is a rejection."""


class Schedules(Section):
    """Cron expressions, UTC; none: only by hand and by events."""

    training: str | None = None
    drift_detection: str | None = None
    rollout: str | None = "7 * * * *"
    """When a running rollout is judged; for a strategy that is not `direct`."""
