"""What becomes an alarm, when it is told, and whether it was right."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.alarm_grades import Graded, grade, scorecard, wilson
from pipeline.core.alarms import FORGET_DAYS, Alarm, AlarmRules, AlarmState, Signal, Step, step
from pipeline.core.situation import Drop

RULES = AlarmRules()
FIRST = date(2026, 3, 1)
LEVEL = 1e-6


def signal(seen: bool = True, **changes) -> Signal:
    fields = {
        "kind": "column", "subject": "tenure", "window_days": 7, "p_value": LEVEL / 100 if seen else 0.4,
        "level": LEVEL, "effect": 0.31, "impact": 0.12, "told": "mean 32 -> 41", "importance": 0.4,
    }  # fmt: skip
    return Signal(**{**fields, **changes})


def days(sights: Sequence[bool | None], rules: AlarmRules = RULES) -> list[Step]:
    """A subject day by day: seen, quiet, or not judged (None)."""
    state, steps = AlarmState(), []
    for number, seen in enumerate(sights):
        signals = [] if seen is None else [signal(seen)]
        steps.append(step(state, FIRST + timedelta(days=number), signals, rules))
        state = steps[-1].state
    return steps


def levels(steps: Sequence[Step]) -> list[str]:
    return [one.state.alarms[0].level if one.state.alarms else "-" for one in steps]


def told(steps: Sequence[Step]) -> int:
    return sum(len(one.confirmed) for one in steps)


def test_a_change_is_suspected_at_first_sight_confirmed_at_the_second_and_told_once():
    steps = days([True, True, True, True])
    assert levels(steps) == ["suspected", "confirmed", "confirmed", "confirmed"]
    assert [len(one.raised) for one in steps] == [1, 0, 0, 0]
    assert [len(one.confirmed) for one in steps] == [0, 1, 0, 0]
    alarm = steps[-1].state.alarms[0]
    assert (alarm.since, alarm.confirmed_on, alarm.last_seen) == (
        FIRST, FIRST + timedelta(days=1), FIRST + timedelta(days=3),
    )  # fmt: skip


def test_an_alarm_remembers_its_worst_and_tells_its_last_evidence():
    first = step(AlarmState(), FIRST, [signal(effect=0.5, impact=0.2)], RULES).state
    second = step(first, FIRST + timedelta(days=1), [signal(effect=0.2, impact=0.1, told="mean 32 -> 36")], RULES)
    alarm = second.confirmed[0]
    assert (alarm.effect, alarm.impact, alarm.told) == (0.5, 0.2, "mean 32 -> 36")


def test_an_alarm_is_confirmed_only_on_a_day_that_sees_it():
    rules = AlarmRules(confirm_days=2, of_days=4)
    assert levels(days([True, False, False, True], rules)) == ["suspected"] * 3 + ["confirmed"]
    assert levels(days([True, False, False, False, True], rules)) == ["suspected"] * 3 + ["-", "suspected"]
    assert levels(days([True, True], AlarmRules(confirm_days=1, of_days=1))) == ["confirmed", "confirmed"]


def test_a_suspicion_that_nothing_follows_lapses_untold():
    steps = days([True, False, False, True])
    assert levels(steps) == ["suspected", "suspected", "-", "suspected"]
    assert steps[-1].raised[0].since == FIRST + timedelta(days=3)
    assert told(steps) == sum(len(one.resolved) for one in steps) == 0


def test_days_that_could_not_be_judged_neither_confirm_nor_resolve():
    steps = days([True, None, None, None, None, True, *[None] * 30])
    assert levels(steps) == ["suspected"] * 5 + ["confirmed"] * 31
    assert steps[-1].state.alarms[0].quiet_days == 0


def test_a_quiet_day_does_not_resolve_what_only_a_longer_window_can_see():
    state = AlarmState()
    for number in range(2):
        state = step(state, FIRST + timedelta(days=number), [signal(window_days=30)], RULES).state
    for number in range(2, 20):
        state = step(state, FIRST + timedelta(days=number), [signal(False, window_days=1)], RULES).state
    assert state.alarms[0].level == "confirmed"
    for number in range(20, 27):
        state = step(state, FIRST + timedelta(days=number), [signal(False, window_days=30)], RULES).state
    assert state.alarms[0].level == "resolved"


def test_a_confirmed_alarm_is_resolved_by_quiet_days_and_told_again_only_after_its_cool_down():
    quiet = [False] * 7
    steps = days([True, True, *quiet])
    assert levels(steps)[-2:] == ["confirmed", "resolved"]
    assert len(steps[-1].resolved) == 1
    soon = days([True, True, *quiet, *[False] * 5, True, True])
    assert levels(soon)[-2:] == ["resolved", "confirmed"]
    assert told(soon) == 1
    assert soon[-2].findings[0].outcome == "quiet"
    assert soon[-1].state.alarms[0].since == FIRST
    last = days([True, True, *quiet, *[False] * 12, True, True])  # both days of the sights are in the cool-down
    assert (levels(last)[-1], told(last)) == ("confirmed", 1)
    late = days([True, True, *quiet, *[False] * 15, True, True])
    assert levels(late)[-3:] == ["-", "suspected", "confirmed"]
    assert told(late) == 2


def test_a_column_that_nobody_checks_any_more_is_closed():
    steps = days([True, True, *[None] * (FORGET_DAYS + 1)])
    assert levels(steps)[-2:] == ["confirmed", "resolved"]
    assert "not checked since" in steps[-1].resolved[0].told


@pytest.mark.parametrize(
    ("changes", "outcome", "why"),
    [
        ({"effect": 0.03}, "not material", "psi 0.030 is below 0.1"),
        ({"impact": 0.0, "importance": 0.0}, "no action", "the model does not use it (importance 0.000)"),
        ({"impact": 0.0, "importance": -0.01}, "no action", "the model does not use it (importance 0.000)"),
        ({"impact": 0.004, "importance": 0.2}, "no action", "estimated loss, 0.4% of the champion's error"),
        ({}, "alarm", "suspected since 2026-03-01"),
    ],
)
def test_what_changed_is_told_with_the_reason_why_it_is_an_alarm_or_none(changes, outcome, why):
    found = step(AlarmState(), FIRST, [signal(**changes)], RULES)
    assert [f.outcome for f in found.findings] == [outcome]
    assert why in found.findings[0].told
    assert "mean 32 -> 41" in found.findings[0].told
    assert len(found.state.alarms) == (outcome == "alarm")


def test_what_did_not_change_is_not_told_however_large():
    assert step(AlarmState(), FIRST, [signal(False, effect=9.0)], RULES).findings == ()


def test_a_loss_of_performance_is_weighed_by_its_size_alone():
    drop = signal(kind="performance", subject="performance", effect=0.0, impact=0.05, importance=None)
    assert step(AlarmState(), FIRST, [drop], RULES).raised[0].subject == "performance"


def test_of_several_windows_the_strongest_speaks_and_all_that_saw_it_are_named():
    views = [signal(window_days=1, p_value=LEVEL / 2), signal(window_days=7, p_value=LEVEL / 1e6, told="7 days"),
             signal(False, window_days=30)]  # fmt: skip
    found = step(AlarmState(), FIRST, views, RULES)
    assert (found.raised[0].window_days, found.raised[0].told) == (7, "7 days")
    assert "windows of days: 1, 7" in found.findings[0].told


def test_a_column_may_be_called_prediction():
    both = [signal(subject="prediction"), signal(kind="prediction", subject="prediction")]
    raised = step(AlarmState(), FIRST, both, RULES).raised
    assert [a.name for a in raised] == ["column prediction", "prediction"]
    assert [a.episode for a in raised] == ["column:prediction:2026-03-01", "prediction:prediction:2026-03-01"]


def test_a_day_that_is_not_after_the_state_is_refused_with_both_named():
    state = step(AlarmState(), FIRST, [signal()], RULES).state
    with pytest.raises(ValueError, match=r"stand at 2026-03-01, so 2026-03-01 is no day"):
        step(state, FIRST, [signal()], RULES)


views = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.sampled_from([1, 7, 30])),
    st.tuples(st.booleans(), st.sampled_from([0.05, 0.1, 0.5]), st.sampled_from([0.0, 0.02, 0.3])),
    max_size=6,
).map(
    lambda drawn: [
        signal(seen, subject=subject, window_days=days, effect=effect, impact=impact,
               importance={"a": None, "b": 0.0, "c": 0.4}[subject])
        for (subject, days), (seen, effect, impact) in drawn.items()
    ]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.tuples(views, st.integers(1, 20)), max_size=15), st.randoms(use_true_random=False))
def test_the_same_signals_in_any_order_give_the_same_state_that_survives_being_written_down(history, shuffler):
    state, day = AlarmState(), FIRST
    for signals, gap in history:
        day += timedelta(days=gap)
        again = list(signals)
        shuffler.shuffle(again)
        one = step(state, day, signals, RULES)
        assert step(AlarmState.from_json(state.to_json()), day, again, RULES) == one
        state = one.state
        assert len(state.alarms) <= 3
        for alarm in state.alarms:
            assert len(alarm.days_checked) <= RULES.of_days
            assert set(alarm.days_seen) <= set(alarm.days_checked)
            assert (alarm.level == "resolved") == (alarm.resolved_on is not None)
        for alarm in one.confirmed:
            assert alarm.days_seen[-1] == day
            assert len(alarm.days_seen) >= RULES.confirm_days


@pytest.mark.parametrize("power", [1.0, 0.8, 0.6, 0.5])
def test_one_long_shift_is_told_once_even_where_a_day_sees_it_only_half_of_the_time(power):
    once = 0
    for seed in range(40):
        rng = np.random.default_rng([1, seed])
        once += told(days([bool(seen) for seen in rng.random(180) < power])) == 1
    assert once == 40


@pytest.mark.parametrize(("confirm", "of", "most"), [(1, 1, 365 * 1e-3), (2, 3, 0.01)])
def test_without_drift_alarms_are_told_in_at_most_as_many_years_as_the_level_allows(confirm, of, most):
    """A thousand years at once, each a subject of its own; two of three days ask for much more than the level."""
    level, years = 1e-3, 1000
    rng = np.random.default_rng(2)
    rules = AlarmRules(confirm_days=confirm, of_days=of)
    state, alarmed = AlarmState(), set()
    for number in range(365):
        low = np.flatnonzero(rng.random(years) <= level).tolist()
        quiet = {one.subject for one in state.alarms} - set(map(str, low))  # those that stand at nothing stay there
        signals = [signal(subject=str(year)) for year in low] + [signal(False, subject=subject) for subject in quiet]
        now = step(state, FIRST + timedelta(days=number), signals, rules)
        state, alarmed = now.state, alarmed | {one.subject for one in now.confirmed}
    assert len(alarmed) <= most * years
    if confirm == 1:
        assert len(alarmed) > 250  # the level is used, not wasted


def alarm(**changes) -> Alarm:
    fields = {
        "kind": "column", "subject": "tenure", "level": "confirmed", "since": FIRST, "last_seen": FIRST,
        "last_checked": FIRST, "days_checked": (FIRST,), "days_seen": (FIRST,), "quiet_days": 0, "window_days": 7,
        "effect": 0.3, "impact": 0.1, "importance": 0.4, "told": "mean 32 -> 41", "confirmed_on": FIRST,
    }  # fmt: skip
    return Alarm(**{**fields, **changes})


@pytest.mark.parametrize(
    ("drop", "expected"),
    [
        (Drop(0.09, 0.04, 0.14), "true"),
        (Drop(0.01, 0.004, 0.016), "false"),
        (Drop(0.00, -0.05, 0.05), "open"),
        (Drop(0.09, 0.04, 0.14, mature=False), "open"),
        (Drop(0.09, 0.04, 0.14, source="estimated"), "open"),
        (None, "open"),
    ],
)
def test_a_past_alarm_is_graded_only_by_labels_that_tell(drop, expected):
    assert grade(alarm(), drop, 0.02) == expected


def test_precision_counts_alarms_that_came_true_and_recall_drops_that_were_announced():
    graded = [Graded(alarm(), "true"), Graded(alarm(subject="plan"), "false"), Graded(alarm(subject="age"), "open")]
    later = FIRST + timedelta(days=40)
    announced = alarm(kind="performance", subject="performance", since=FIRST, confirmed_on=FIRST + timedelta(days=9))
    unheard = alarm(kind="performance", subject="performance", since=later, confirmed_on=later)
    closed = [Graded(alarm(resolved_on=FIRST + timedelta(days=20)), one.grade) for one in graded]
    card = scorecard(closed, [announced, unheard])
    assert (card.alarms, card.true, card.false, card.announced, card.missed) == (3, 1, 1, 1, 1)
    assert card.precision == wilson(1, 2, 0.95)
    assert card.recall.low < 0.5 < card.recall.high
    too_late = alarm(kind="performance", subject="performance", confirmed_on=FIRST - timedelta(days=1))
    assert scorecard(closed, [too_late]).missed == 1
    nothing = scorecard([], [])
    assert nothing.precision is None
    assert nothing.recall is None


def test_the_interval_of_a_share_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for share in (0.05, 0.3, 0.9):
        found = [wilson(int(hits), 40, 0.95) for hits in rng.binomial(40, share, 500)]
        assert np.mean([one.low <= share <= one.high for one in found]) >= 0.92
