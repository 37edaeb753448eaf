"""What is known when it is decided whether to retrain, and what the model file allows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipeline.core.alarms import Alarm, Finding
from pipeline.core.verdict import Difference

Cause = Literal["covariates", "concept", "data fault", "unclear"]
Action = Literal["nothing", "retrain", "roll back", "call a person"]
BreakerCause = Literal["data fault", "does not help"]


@dataclass(frozen=True)
class Policy:
    """When a model is retrained, and where that stops."""

    mode: Literal["enabled", "dry_run", "disabled"] = "enabled"
    """`dry_run`: say what would be done. `disabled`: say nothing."""
    on_alarm: bool = True
    """A confirmed drift alarm retrains."""
    on_performance: bool = True
    """A confirmed performance alarm retrains."""
    max_age_days: float | None = None
    """Age of the champion's data from which it is retrained; None: never for its age."""
    min_new_share: float | None = None
    """New labelled rows, as a share of those it was trained on, from which it is retrained; None: never."""
    min_rows: int = 100
    """Fewer new labelled rows than this teach nothing new, whatever the trigger."""
    cool_down_days: float = 7
    """Days between two retrainings."""
    budget_per_month: int = 4
    """Retrainings in any 30 days, whoever asked for them."""
    breaker_after: int = 2
    """Retrainings in a row that did not help, while the alarm persists, after which a person is called."""
    min_regress: float = 0.0
    """How much better than the champion, in the primary metric, its predecessor must be to answer again."""


@dataclass(frozen=True)
class Drop:
    """How much worse than at registration, as a share of the registered error; positive is worse."""

    value: float
    low: float
    high: float
    mature: bool = True
    """Whether enough labels are known. Immature drops decide nothing."""
    source: Literal["realised", "estimated"] = "realised"

    def __str__(self) -> str:
        """As people read it, with its interval."""
        return (
            f"{self.value:+.1%} of the registered error ({self.source}, interval {self.low:+.1%} to {self.high:+.1%})"
        )


@dataclass(frozen=True)
class Explained:
    """An alarm, and its cause where one was found."""

    alarm: Alarm
    cause: Cause | None = None


@dataclass(frozen=True)
class Champion:
    """The version that answers."""

    cutoff: datetime
    """What it was trained on was known by then."""
    since: datetime
    """Since when it answers."""
    trained_rows: int


@dataclass(frozen=True)
class Retraining:
    """One retraining of the past."""

    cutoff: datetime
    finished: bool = True
    helped: bool | None = None
    """None: not yet known. A candidate that the gate turned away did not help."""


@dataclass(frozen=True)
class Breaker:
    """Open: no retraining until a person closes it, or what it opened for is over."""

    is_open: bool = False
    since: datetime | None = None
    """When it was opened or closed last, by the clock of the cut-offs; failures before a closing no longer count."""
    cause: BreakerCause | None = None
    """Why it opened; None: it is closed, or opened before this was written down."""
    episodes: tuple[str, ...] = ()
    """Of the alarms that it opened for."""


@dataclass(frozen=True)
class Situation:
    """Everything that a decision may know. All instants are aware."""

    now: datetime
    """The cut-off."""
    kind: Literal["manual", "scheduled", "asset", "backfill"]
    champion: Champion | None
    new_rows: int
    """Labelled rows that came to be known after the champion's cut-off."""
    alarms: tuple[Explained, ...] = ()
    """All that stand: suspected ones are told, confirmed ones count."""
    findings: tuple[Finding, ...] = ()
    """Today's; those that are no alarm are told as reasons why nothing is done."""
    realised: Drop | None = None
    estimated: Drop | None = None
    learnable_until: datetime | None = None
    """Of a change that began by then a model trained now would learn enough: its labels are known, and lie before the
    rows that judge; None: not asked for."""
    retrainings: tuple[Retraining, ...] = ()
    """Those of the past in any order, whoever asked for them; also the running one."""
    running: bool = False
    """A retraining runs at this moment."""
    previous: Difference | None = None
    """The champion's predecessor on the same fresh rows, which neither learned from; positive: it is better."""
    breaker: Breaker = Breaker()
    called: tuple[str, ...] = ()
    """Episodes of alarms for which a person was called before."""

    @property
    def confirmed(self) -> tuple[Alarm, ...]:
        """Confirmed alarms on what the model uses."""
        return tuple(e.alarm for e in self.alarms if e.alarm.level == "confirmed" and e.alarm.used)


@dataclass(frozen=True)
class Decision:
    """What to do, with every reason."""

    action: Action
    reasons: tuple[str, ...]
    breaker: Breaker
    """To be kept for the next decision."""
    called_for: tuple[str, ...] = ()
    """Episodes of alarms for which a person is called now."""
    judged: Action | None = None
    """What would have been done, where the policy only looks on."""
