"""Policies walked through made-up histories: who retrains when, and who waits."""

from dataclasses import dataclass, field
from datetime import date, timedelta

import pytest

from pipeline.core.alarms import Alarm
from pipeline.core.replay_policies import POLICIES, named_policies
from pipeline.core.replay_price import Prices, frontier, price, propose, section
from pipeline.core.replay_walk import Known, Watched, walk
from pipeline.core.situation import Explained, Policy
from pipeline.core.verdict import Difference

BEGIN = date(2026, 1, 1)
DRIFTS = date(2026, 3, 1)


@dataclass
class MadeUp:
    """A world that changes once: a model made before that day is told of until another replaces it."""

    every: int = 7
    days: int = 140
    persists: bool = False
    """Whether new models do not help."""
    cause: str | None = None
    asked: list[tuple[str, date, date]] = field(default_factory=list)

    @property
    def checks(self) -> tuple[date, ...]:
        return tuple(BEGIN + timedelta(days=n) for n in range(0, self.days, self.every))

    def known(self, model: date, now: date) -> Known:
        return Known(5000, 100 * (now - model).days, None)

    def _alarm(self, kind: str, model: date, now: date) -> Watched:
        self.asked.append((kind, model, now))
        if now <= DRIFTS or (model > DRIFTS and not self.persists):
            return Watched()
        since = max(DRIFTS, model) + timedelta(days=1)
        alarm = Alarm(
            kind,
            "charge",
            "confirmed",
            since,
            now,
            now,
            (now,),
            (now,),
            0,
            7,
            0.5,
            0.2,
            0.4,
            "moved",
            confirmed_on=since,
        )  # type: ignore[arg-type]
        first = now - timedelta(days=self.every) <= max(DRIFTS, model)
        return Watched((Explained(alarm, self.cause),), confirmed=(alarm,) if first else ())  # type: ignore[arg-type]

    def drift(self, model: date, now: date) -> Watched:
        return self._alarm("column", model, now)

    def performance(self, model: date, now: date) -> Watched:
        return Watched()

    def gap(self, previous: date, model: date, now: date) -> Difference | None:
        return None

    def refused(self, candidate: date, champion: date) -> str | None:
        return None


def walked(name: str, history: MadeUp, policy: Policy | None = None):
    (named,) = named_policies([name], policy or Policy(), history.every)
    return walk(named, history)


def test_never_retrains_nothing_and_is_told_of_the_drift():
    found = walked("never", MadeUp())
    assert found.retrainings == 0
    assert [event.day for event in found.of("alarm")] == [date(2026, 3, 5)]


def test_always_retrains_at_every_check():
    found = walked("always", MadeUp())
    assert found.retrainings == found.decisions == 19


def test_cron_retrains_at_the_first_check_at_which_the_champion_is_old_enough():
    assert [event.day for event in walked("cron:30", MadeUp()).of("retrained")] == [
        BEGIN + timedelta(days=n) for n in (35, 70, 105)
    ]


def test_drift_retrains_once_where_the_world_changes_once():
    found = walked("drift", MadeUp())
    assert [event.day for event in found.of("retrained")] == [date(2026, 3, 5)]
    assert [reign.since for reign in found.reigns] == [BEGIN, date(2026, 3, 5)]


def test_performance_alone_is_not_asked_about_drift():
    history = MadeUp()
    assert walked("performance", history).retrainings == 0
    assert not history.asked


def test_a_policy_never_asks_about_a_day_that_has_not_come():
    history = MadeUp()
    walked("combined", history)
    days = [now for _, _, now in history.asked]
    assert days == sorted(days)
    assert all(model < now for _, model, now in history.asked)


def test_where_nothing_helps_a_person_is_called_instead_of_retraining_for_ever():
    found = walked("drift", MadeUp(persists=True))
    after = sum(check > DRIFTS for check in MadeUp().checks)
    assert len(found.of("called")) >= 2
    assert found.retrainings < after


def test_broken_data_calls_a_person_once_and_is_learned_from_after_they_looked():
    found = walked("drift", MadeUp(cause="data fault"))
    assert [event.day for event in found.of("called")] == [date(2026, 3, 5)]
    assert [event.day for event in found.of("retrained")] == [date(2026, 3, 12)]


def test_a_candidate_that_is_refused_leaves_the_champion_and_counts_as_a_retraining():
    class Strict(MadeUp):
        def refused(self, candidate: date, champion: date) -> str | None:
            return "HOLD: unclear"

    found = walked("cron:30", Strict())
    assert len(found.reigns) == 1
    assert found.retrainings == len(found.of("refused")) > 0


def test_a_name_that_is_no_policy_is_refused():
    for name in ("weekly", "cron:", "cron:x", "cron:0", "always:3"):
        with pytest.raises(ValueError, match="is no policy"):
            named_policies([name], Policy(), 7)


def test_the_proposal_is_on_the_frontier_and_no_point_of_it_is_beaten():
    policies = named_policies(POLICIES, Policy(), 7)
    walks = [walk(named, MadeUp()) for named in policies]
    metrics = {one.policy: 0.7 + 0.01 * min(one.retrainings, 12) for one in walks}
    outcomes = price(walks, policies, metrics, dict.fromkeys(metrics, ()), "roc_auc", Prices())
    best = [one for one in outcomes if one.on_frontier]
    assert propose(outcomes) in best
    for one in best:
        assert not any(o.retrainings <= one.retrainings and o.metric > one.metric for o in outcomes)


def test_what_retraining_costs_decides_what_is_proposed():
    policies = named_policies(("never", "always"), Policy(), 7)
    walks = [walk(named, MadeUp()) for named in policies]
    metrics = {"never": 0.78, "always": 0.80}
    proposed = {
        cost: propose(price(walks, policies, metrics, dict.fromkeys(metrics, ()), "roc_auc", Prices(cost, 10.0))).policy
        for cost in (0.1, 10.0)
    }
    assert proposed == {0.1: "always", 10.0: "never"}


def test_of_errors_the_smaller_is_on_the_frontier():
    assert frontier([(0, 10.0), (3, 9.0), (5, 9.5)], "root_mean_squared_error") == [True, True, False]


def test_a_policy_is_written_as_the_model_file_reads_it():
    (combined,) = named_policies(["combined"], Policy(max_age_days=90), 7)
    assert section(combined) == (
        "retraining: {on_alarm: true, on_performance: true, max_age_days: 90, cool_down_days: 7, "
        "budget_per_month: 4, breaker_after: 2}"
    )
