"""When a model is retrained, when a person is called instead, and that it knows when to stop."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.situations import kept_breaker
from pipeline.core.alarms import Alarm, AlarmRules, AlarmState, Signal, step
from pipeline.core.retraining import MONTH, decide_retraining
from pipeline.core.situation import Breaker, Champion, Drop, Explained, Policy, Retraining, Situation
from pipeline.core.verdict import Difference
from pipeline.ledger import Event, Ledger

NOW = datetime(2026, 6, 1, tzinfo=UTC)
TODAY = NOW.date()
CHAMPION = Champion(NOW - timedelta(days=40), NOW - timedelta(days=39), trained_rows=5000)
FELL = Drop(0.30, 0.20, 0.40)
POLICY = Policy()


def alarm(**changes) -> Alarm:
    since = TODAY - timedelta(days=2)
    fields = {
        "kind": "column", "subject": "tenure", "level": "confirmed", "since": since, "last_seen": TODAY,
        "last_checked": TODAY, "days_checked": (TODAY,), "days_seen": (TODAY,), "quiet_days": 0, "window_days": 7,
        "effect": 0.3, "impact": 0.12, "importance": 0.4, "told": "mean 32 -> 41", "confirmed_on": TODAY,
    }  # fmt: skip
    return Alarm(**{**fields, **changes})


LOSS = alarm(kind="performance", subject="performance", importance=None, told="roc_auc 0.81 -> 0.74")


def situation(*alarms: Alarm, cause=None, **changes) -> Situation:
    fields = {"now": NOW, "kind": "scheduled", "champion": CHAMPION, "new_rows": 800}
    return Situation(**{**fields, "alarms": tuple(Explained(a, cause) for a in alarms), **changes})


def past(*days_ago: float, helped: bool | None = True) -> tuple[Retraining, ...]:
    return tuple(Retraining(NOW - timedelta(days=days), helped=helped) for days in days_ago)


def reasons(of: Situation, policy: Policy = POLICY) -> str:
    return " | ".join(decide_retraining(of, policy).reasons)


def action(of: Situation, policy: Policy = POLICY) -> str:
    return decide_retraining(of, policy).action


def after_three_days_of_shift(subject: str, importance: float) -> Situation:
    """The same shift in the evidence, in a column of this importance."""
    state, found = AlarmState(), None
    seen = Signal("column", subject, 7, 1e-12, 1e-6, effect=0.4, impact=importance * 0.3, told="mean 0.0 -> 0.5",
                  importance=importance)  # fmt: skip
    for number in (3, 2, 1):
        found = step(state, TODAY - timedelta(days=number), [seen], AlarmRules())
        state = found.state
    return situation(*state.alarms, findings=found.findings)


def test_a_shift_in_a_column_the_model_does_not_use_is_no_action_and_in_the_top_one_a_retraining():
    unused = decide_retraining(after_three_days_of_shift("fax_number", 0.0), Policy())
    assert unused.action == "nothing"
    assert any(
        r.startswith("fax_number: no action: the model does not use it (importance 0.000)") for r in unused.reasons
    )
    top = decide_retraining(after_three_days_of_shift("tenure", 0.45), Policy())
    assert top.action == "retrain"
    assert top.reasons[0].startswith("tenure: confirmed, since 2026-05-29, estimated loss 13.5%: mean 0.0 -> 0.5")


def test_an_alarm_on_an_unused_column_retrains_nothing_even_if_somebody_raised_it():
    assert action(situation(alarm(importance=0.0))) == "nothing"
    assert "no action: the model does not use it" in reasons(situation(alarm(importance=0.0)))


@pytest.mark.parametrize(
    ("changes", "policy", "why"),
    [
        ({}, Policy(), "nothing asks for it: the champion is 40 days old, 800 new labelled rows"),
        ({"alarms": (Explained(alarm(level="suspected")),)}, Policy(), "suspected since 2026-05-30, not confirmed"),
        ({"alarms": (Explained(alarm()),), "running": True}, Policy(), "one at a time"),
        ({"alarms": (Explained(alarm()),), "champion": None}, Policy(), "there is no champion yet"),
        ({"alarms": (Explained(alarm()),)}, Policy(mode="disabled"), "disabled in the model file"),
        ({"alarms": (Explained(alarm()),)}, Policy(on_alarm=False), "the policy does not retrain on it"),
        ({"alarms": (Explained(alarm()),), "new_rows": 12}, Policy(), "only 12 new labelled rows, 100 are needed"),
        ({"alarms": (Explained(alarm()),), "learnable_until": NOW - timedelta(days=30)}, Policy(),
         "a model trained now would learn what was so until 2026-05-02 00:00"),
        ({"alarms": (Explained(alarm()),), "retrainings": past(3)}, Policy(),
         "cooling down after the retraining of 2026-05-29 00:00 until 2026-06-05 00:00"),
        ({"alarms": (Explained(alarm()),), "retrainings": past(8, 16, 24)}, Policy(),
         "3 of 4 retrainings of 30 days are used, the last is kept for a performance that is worse beyond doubt; "
         "next from 2026-06-07 00:00 on"),
        ({"alarms": (Explained(alarm()),)}, Policy(budget_per_month=0), "the model file allows no retraining"),
        ({"alarms": (Explained(alarm(last_seen=CHAMPION.cutoff.date())),)}, Policy(),
         "not seen again since the champion was trained"),
        ({"alarms": (Explained(alarm()),), "retrainings": past(0)}, Policy(), "this cut-off or a later one"),
        ({"alarms": (Explained(alarm()),), "champion": replace(CHAMPION, cutoff=NOW)}, Policy(),
         "the champion was trained at 2026-06-01 00:00, which is this cut-off or a later one"),
    ],
)  # fmt: skip
def test_whoever_does_nothing_says_what_was_seen_and_why_it_is_not_enough(changes, policy, why):
    decision = decide_retraining(situation(**changes), policy)
    assert decision.action == "nothing"
    assert why in " | ".join(decision.reasons)


def test_age_and_new_rows_retrain_where_the_model_file_says_so():
    assert action(situation(), Policy(max_age_days=40)) == "retrain"
    assert action(situation(), Policy(max_age_days=41)) == "nothing"
    assert "800 new labelled rows, it was trained on 5,000" in reasons(situation(), Policy(min_new_share=0.16))
    assert action(situation(), Policy(min_new_share=0.17)) == "nothing"


def test_the_last_of_the_budget_is_kept_for_a_performance_that_is_worse_beyond_doubt():
    used = {"retrainings": past(8, 16, 24)}
    assert action(situation(alarm(), **used)) == "nothing"
    assert action(situation(LOSS, **used)) == "nothing"
    assert action(situation(LOSS, realised=FELL, **used)) == "retrain"
    assert action(situation(LOSS, realised=replace(FELL, mature=False), **used)) == "nothing"
    assert action(situation(LOSS, realised=FELL, retrainings=past(8, 16, 24, 29))) == "nothing"
    assert action(situation(LOSS, realised=FELL, retrainings=past(8, 16, 24, 30))) == "retrain"
    assert action(situation(alarm(), retrainings=past(31)), Policy(budget_per_month=1)) == "retrain"


def test_a_fall_of_performance_waits_for_the_cool_down_only_until_the_last_retraining_is_judged():
    assert action(situation(LOSS, retrainings=past(3, helped=None))) == "nothing"
    assert action(situation(LOSS, retrainings=past(3, helped=True))) == "retrain"


def test_a_dry_run_changes_nothing_and_says_what_it_would_have_said():
    decision = decide_retraining(situation(alarm()), Policy(mode="dry_run"))
    assert (decision.action, decision.judged) == ("nothing", "retrain")
    assert decision.reasons[0] == "retraining only looks on (dry_run); it would have said retrain"


def test_a_data_fault_calls_a_person_once_and_stops_every_retraining():
    broken = situation(alarm(), cause="data fault", realised=FELL)
    first = decide_retraining(broken, Policy(max_age_days=1))
    assert first.action == "call a person"
    assert first.called_for == (alarm().episode,)
    assert first.breaker.is_open
    second = decide_retraining(replace(broken, called=first.called_for), Policy(max_age_days=1))
    assert second.action == "nothing"
    assert "a person was called; no retraining on such data" in second.reasons
    assert action(situation(alarm(importance=0.0), cause="data fault"), Policy(max_age_days=1)) == "retrain"


def lead(value: float, error: float, degrees: int = 900) -> Difference:
    return Difference(value, value - 2 * error, value + 2 * error, error, "DeLong", degrees)


def live(policy: Policy, days: int, *, helps: bool | None, healed: int | None = None) -> list[tuple[int, str, Breaker]]:
    """A column that broke on day 0, day by day; every retraining ends the next day and helps, or does not."""
    broke, called, breaker = NOW.date(), (), Breaker()
    done: tuple[Retraining, ...] = ()
    told = []
    for number in range(1, days):
        now = NOW + timedelta(days=number)
        gone = healed is not None and number >= healed
        standing = alarm(since=broke, last_seen=now.date(), level="resolved" if gone else "confirmed")
        decision = decide_retraining(
            situation(standing, now=now, retrainings=done, breaker=breaker, called=called), policy
        )
        if decision.action != "nothing":
            told.append((number, decision.action, decision.breaker))
        if decision.action == "retrain":
            done = (*done, Retraining(now, helped=helps))
        breaker, called = decision.breaker, (*called, *decision.called_for)
    return told


@pytest.mark.parametrize("helps", [False, None])
def test_a_column_that_stays_broken_is_retrained_twice_and_then_a_person_is_called_once(helps):
    told = live(Policy(), 120, helps=helps)
    assert [(day, what) for day, what, _ in told][:2] == [(1, "retrain"), (8, "retrain")]
    assert [what for _, what, _ in told] == ["retrain", "retrain", "call a person"]
    assert told[-1][2].is_open


def test_failures_before_an_alarm_was_there_do_not_open_the_breaker_and_neither_do_those_it_did_not_outlive():
    failed = {"retrainings": past(8, 16, helped=False)}
    assert action(situation(alarm(since=TODAY - timedelta(days=20)), **failed)) == "call a person"
    assert action(situation(alarm(since=TODAY - timedelta(days=12)), **failed)) == "retrain"
    assert action(situation(alarm(since=TODAY - timedelta(days=2)), **failed)) == "retrain"
    helped = past(8, helped=True) + past(16, 24, helped=False)
    assert (
        action(situation(alarm(since=TODAY - timedelta(days=26)), retrainings=helped), Policy(budget_per_month=5))
        == "retrain"
    )


def test_a_retraining_counts_against_the_breaker_only_when_it_is_over_and_has_had_its_time():
    standing, failed = alarm(since=TODAY - timedelta(days=30)), past(16, helped=False)
    assert action(situation(standing, retrainings=failed + past(3, helped=None))) == "nothing"
    assert action(situation(standing, retrainings=failed + past(8, helped=None))) == "call a person"
    crashed = Retraining(NOW - timedelta(days=8), finished=False)
    assert action(situation(standing, retrainings=(*failed, crashed))) == "retrain"


def test_an_open_breaker_closes_when_the_alarm_is_resolved_or_a_person_closes_it():
    failed = past(5, 12, helped=False)
    before = alarm(since=TODAY - timedelta(days=20))
    opened = Breaker(True, NOW - timedelta(days=1), "does not help", (before.episode,))
    held = situation(before, breaker=opened, retrainings=failed, new_rows=800)
    assert "drift persists after retraining, a person was called" in reasons(held, Policy(max_age_days=1))
    resolved = replace(held, alarms=(Explained(replace(before, level="resolved")),), retrainings=past(8, 15))
    decision = decide_retraining(resolved, Policy(max_age_days=1))
    assert decision.action == "retrain"
    assert decision.breaker == Breaker(False, NOW)
    closed = replace(held, breaker=Breaker(False, NOW - timedelta(hours=1)))
    assert action(closed, Policy(cool_down_days=2)) == "retrain"
    assert action(replace(held, breaker=Breaker()), Policy(cool_down_days=2)) == "call a person"


SENSOR = alarm(subject="signal_quality", since=TODAY - timedelta(days=6), told="missing in 40.0% of the rows")
CHARGE = alarm(subject="monthly_charge", since=TODAY - timedelta(days=8), told="mean 61 -> 74")


def faulty(*others: Alarm, **changes) -> Situation:
    """A sensor that is broken, and other alarms that are no data fault."""
    of = situation(*others, **changes)
    return replace(of, alarms=(Explained(SENSOR, "data fault"), *of.alarms))


def test_a_breaker_that_a_data_fault_opened_closes_when_the_source_is_mended_whatever_else_has_drifted():
    call = decide_retraining(faulty(CHARGE), POLICY)
    assert call.breaker == Breaker(True, NOW, "data fault", (SENSOR.episode,))
    later = NOW + timedelta(days=4)
    charge = replace(CHARGE, last_seen=later.date())
    kept = {"now": later, "breaker": call.breaker, "called": call.called_for}
    held = decide_retraining(situation(SENSOR, charge, **kept), POLICY)
    assert (held.action, held.breaker) == ("nothing", call.breaker)
    mended = decide_retraining(situation(replace(SENSOR, level="resolved"), charge, **kept), POLICY)
    assert (mended.action, mended.breaker) == ("retrain", Breaker(False, later))
    assert mended.reasons[0].startswith("monthly_charge: confirmed")


def test_a_fault_keeps_the_breaker_open_on_a_day_without_a_sight_and_not_once_it_is_seen_to_be_none():
    call = decide_retraining(faulty(), POLICY)
    later = NOW + timedelta(days=1)
    kept = {"now": later, "breaker": call.breaker, "called": call.called_for}
    assert decide_retraining(situation(SENSOR, **kept), Policy(max_age_days=1)).breaker.is_open
    seen = replace(SENSOR, last_seen=later.date())
    assert decide_retraining(situation(seen, cause="data fault", **kept), POLICY).breaker == call.breaker
    assert action(situation(seen, cause="covariates", **kept)) == "retrain"


def test_an_open_breaker_tells_what_opened_it():
    call = decide_retraining(faulty(CHARGE), POLICY)
    told = reasons(situation(SENSOR, CHARGE, now=NOW + timedelta(days=1), breaker=call.breaker))
    assert told.startswith("the breaker is open since 2026-06-01 00:00: a data fault, a person was called | "
                           "signal_quality: since 2026-05-26, last seen on 2026-06-01: missing in")  # fmt: skip
    assert "after retraining" not in told
    assert "monthly_charge" not in told


def test_a_breaker_that_opened_as_retraining_did_not_help_stays_open_for_its_alarm_alone():
    old = replace(CHARGE, since=TODAY - timedelta(days=20))
    call = decide_retraining(situation(old, retrainings=past(8, 16, helped=False)), POLICY)
    assert call.breaker == Breaker(True, NOW, "does not help", (old.episode,))
    later = {"now": NOW + timedelta(days=5), "breaker": call.breaker, "retrainings": past(8, 16, helped=False)}
    seen = {"last_seen": TODAY + timedelta(days=5)}
    assert action(situation(replace(old, **seen), **later)) == "nothing"
    assert action(situation(replace(old, level="resolved"), replace(SENSOR, **seen), **later)) == "retrain"


def test_a_second_fault_keeps_the_breaker_open_when_the_first_is_mended():
    first = decide_retraining(faulty(), POLICY)
    later = NOW + timedelta(days=3)
    second = alarm(subject="tenure", since=later.date(), last_seen=later.date())
    both = faulty(now=later, breaker=first.breaker, called=first.called_for)
    call = decide_retraining(replace(both, alarms=(*both.alarms, Explained(second, "data fault"))), POLICY)
    assert (call.action, call.called_for) == ("call a person", (second.episode,))
    assert call.breaker == Breaker(True, NOW, "data fault", (SENSOR.episode, second.episode))
    after = situation(replace(SENSOR, level="resolved"), second, now=later + timedelta(days=1), breaker=call.breaker)
    assert decide_retraining(after, POLICY).breaker == call.breaker


def test_a_data_fault_does_not_let_go_of_a_breaker_that_opened_as_retraining_did_not_help():
    opened = Breaker(True, NOW - timedelta(days=2), "does not help", (CHARGE.episode,))
    call = decide_retraining(faulty(CHARGE, breaker=opened), POLICY)
    assert (call.action, call.breaker.cause) == ("call a person", "does not help")
    mended = situation(replace(SENSOR, level="resolved"), CHARGE, breaker=call.breaker, called=call.called_for)
    assert "drift persists after retraining" in reasons(mended)


def test_the_alarm_that_opened_the_breaker_keeps_it_open_when_a_person_changes_the_champion():
    opened = Breaker(True, NOW - timedelta(days=1), "does not help", ("column:monthly_charge:2026-05-10",))
    assert action(situation(CHARGE, breaker=opened)) == "nothing"
    anew = replace(CHARGE, since=TODAY)
    assert action(situation(anew, breaker=opened)) == "retrain"


def test_the_breaker_opens_for_the_alarms_that_outlived_a_retraining_also_where_a_later_one_was_interrupted():
    old = alarm(since=TODAY - timedelta(days=30), last_seen=TODAY - timedelta(days=2))
    crashed = Retraining(NOW - timedelta(days=1), finished=False)
    call = decide_retraining(situation(old, retrainings=(*past(8, 16, helped=False), crashed)), POLICY)
    assert (call.action, call.breaker.episodes) == ("call a person", (old.episode,))


def test_any_alarm_from_before_keeps_a_breaker_open_whose_cause_is_not_known():
    assert action(situation(CHARGE, breaker=Breaker(True, NOW))) == "nothing"
    assert "for a cause that was not written down" in reasons(situation(CHARGE, breaker=Breaker(True, NOW)))
    assert action(situation(CHARGE, breaker=Breaker(True, NOW - timedelta(days=30)))) == "retrain"


@pytest.mark.parametrize(
    ("reason", "cause"),
    [("tenure: data fault since 2026-04-29: stuck", "data fault"),
     ("drift persists after retraining: stop and call a person", "does not help")],
)  # fmt: skip
def test_lines_from_before_causes_were_written_down_are_read_with_the_cause_that_they_told(tmp_path, reason, cause):
    def line(day: int, action: str, told: str, called_for: list[str]) -> Event:
        return Event("churn", "decision", 1, {
            "action": action, "reasons": [told], "called_for": called_for, "by": "a test",
            "reason": f"{action}: {told}", "cutoff": datetime(2026, 5, day, tzinfo=UTC).isoformat(),
            "breaker": {"is_open": True, "since": "2026-05-01T00:00:00+00:00"},
        })  # fmt: skip

    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        ledger.append(line(1, "call a person", reason, ["column:tenure:2026-04-29"]))
        ledger.append(line(2, "nothing", "a person was called", []))
        lines = list(ledger.lines("churn", "decision"))
        known = Breaker(True, datetime(2026, 5, 1, tzinfo=UTC), cause, ("column:tenure:2026-04-29",))
        assert kept_breaker(lines, ledger, "churn") == known
        assert kept_breaker(lines[1:], ledger, "churn") == Breaker(True, known.since)
        written = {"is_open": True, "since": "2026-05-01T00:00:00+00:00", "cause": cause, "episodes": ["column:age:x"]}
        after = line(3, "nothing", "a person was called", [])
        ledger.append(replace(after, body={**after.body, "breaker": written}))
        lines = list(ledger.lines("churn", "decision"))
        assert kept_breaker(lines, ledger, "churn") == replace(known, episodes=("column:age:x",))


dates = st.integers(-60, 0).map(lambda days: TODAY + timedelta(days=days))
instants = st.integers(-60 * 24, 24).map(lambda hours: NOW + timedelta(hours=hours))
drops = st.none() | st.builds(
    lambda value, half, mature, source: Drop(value, value - half, value + half, mature, source),
    st.floats(-1, 1), st.floats(0, 1), st.booleans(), st.sampled_from(["realised", "estimated"]),
)  # fmt: skip
alarms = st.builds(
    lambda kind, level, since, seen, importance: alarm(
        kind=kind, subject=kind, level=level, since=min(since, seen), last_seen=seen, importance=importance),
    st.sampled_from(["column", "performance"]), st.sampled_from(["suspected", "confirmed", "resolved"]),
    dates, dates, st.sampled_from([None, 0.0, 0.4]),
)  # fmt: skip
explained = st.builds(Explained, alarms, st.sampled_from([None, "covariates", "concept", "data fault", "unclear"]))
retrainings = st.lists(
    st.builds(Retraining, instants, st.booleans(), st.sampled_from([None, True, False])), max_size=5
).map(tuple)
breakers = st.builds(
    lambda is_open, since, cause, on, first: Breaker(
        is_open, since, cause, tuple(f"{one}:{one}:{first}" for one in on)),
    st.booleans(), instants, st.sampled_from([None, "data fault", "does not help"]),
    st.sets(st.sampled_from(["column", "performance"])), dates,
)  # fmt: skip
situations = st.builds(
    Situation,
    now=st.just(NOW), kind=st.sampled_from(["manual", "scheduled", "asset", "backfill"]),
    champion=st.none() | st.builds(Champion, instants, instants, st.integers(1, 9999)), new_rows=st.integers(0, 9999),
    alarms=st.lists(explained, max_size=3).map(tuple), realised=drops, estimated=drops, retrainings=retrainings,
    running=st.booleans(), previous=st.none() | st.builds(lead, st.floats(-0.1, 0.1), st.floats(0, 0.05)),
    breaker=breakers, learnable_until=st.none() | instants,
)  # fmt: skip
policies = st.builds(
    Policy,
    on_alarm=st.booleans(), on_performance=st.booleans(), max_age_days=st.none() | st.floats(1, 60),
    min_new_share=st.none() | st.floats(0, 1), cool_down_days=st.floats(0, 10), budget_per_month=st.integers(0, 5),
    breaker_after=st.integers(1, 3),
)  # fmt: skip


@settings(deadline=None)
@given(situations, policies)
def test_whatever_the_situation_the_laws_of_retraining_hold(of, policy):
    decision = decide_retraining(of, policy)
    assert decision.reasons
    assert decide_retraining(of, policy) == decision
    if of.kind == "backfill":
        assert (decision.action, decision.breaker) == ("nothing", of.breaker)
    if decision.action == "retrain":
        assert not of.running
        assert not decision.breaker.is_open
        assert of.champion.cutoff < of.now
        assert not any(e.cause == "data fault" and e.alarm in of.confirmed for e in of.alarms)
        assert len([p for p in of.retrainings if p.cutoff > NOW - MONTH]) < policy.budget_per_month
    if decision.breaker.is_open:
        assert decision.action != "retrain"
    looked_on = decide_retraining(of, replace(policy, mode="dry_run"))
    assert looked_on.action == "nothing"
    assert looked_on.judged == (None if decision.action == "nothing" else decision.action)


days_of_life = st.tuples(
    st.integers(1, 240), st.sampled_from([alarm(), LOSS]), st.sampled_from([None, FELL]), st.sampled_from([True, None])
)


@settings(deadline=None)
@given(st.lists(days_of_life, min_size=10, max_size=40), policies)
def test_whatever_happens_no_thirty_days_have_more_retrainings_than_the_budget(history, policy):
    now, done, breaker = NOW, (), Breaker()
    for hours, standing, drop, helped in history:
        now += timedelta(hours=hours)
        seen = replace(standing, last_seen=now.date())
        of = situation(seen, now=now, realised=drop, retrainings=done, breaker=breaker)
        decision = decide_retraining(of, policy)
        breaker = decision.breaker
        if decision.action == "retrain":
            done = (*done, Retraining(now, helped=helped))
    for one in done:
        assert sum(one.cutoff <= other.cutoff < one.cutoff + MONTH for other in done) <= policy.budget_per_month
