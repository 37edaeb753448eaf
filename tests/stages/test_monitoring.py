"""The stages that watch a champion: what is an alarm, what is none, and what follows from it."""

from __future__ import annotations

import json
import time
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from pipeline.adapters import met_rows
from pipeline.adapters.champion_reference import champion_as_of
from pipeline.adapters.champions import champion_of
from pipeline.adapters.observed import labels_known
from pipeline.adapters.registry import Registry
from pipeline.adapters.watch_store import WatchStore
from pipeline.config import override
from pipeline.gauges import GaugeStore
from pipeline.ledger import Ledger
from pipeline.monitoring_records import MeasurePerformanceRecord
from pipeline.retraining import carry_out, report
from pipeline.rollout import RolloutStore
from pipeline.stages import MONITORING, run_stage
from pipeline.watch import told
from serving.prediction_log import PredictionLog, new_prediction_id
from tests.conftest import LENIENT, MODEL, at, customers, turn
from tests.predictions import write_entry

CHAMPION = "2025-08-01"
SHIFT = pd.Timestamp("2025-08-10", tz="UTC")
FAST = {"target.known_after_days": 0, "split.test_days": 5, "monitoring.windows_days": [1, 7]}


def many(seed: int = 3) -> pd.DataFrame:
    """A hundred rows a day for 250 days, with a column that tells nothing."""
    frame = customers(25_000, seed, days=250)
    rng = np.random.default_rng(seed)
    return frame.assign(
        tenure=frame["tenure"].astype(float), fax=rng.normal(0, 1, len(frame)), arrived_at=frame["event_time"]
    )


def shifted(column: str, by: float) -> pd.DataFrame:
    """Every row from SHIFT on has more of it; what becomes of the customers stays."""
    frame = many()
    frame.loc[frame["event_time"] >= SHIFT, column] += by
    return frame


def watched(model, settings, cutoff: str, kind: str = "manual"):
    """The three stages at one cut-off."""
    record = None
    for stage in MONITORING:
        record = run_stage(stage, model, at(model, cutoff, kind), settings, record)
    return record


def started(write_model, settings, frame: pd.DataFrame, changes: dict | None = None):
    model = override(write_model(frame), {**FAST, **LENIENT, **(changes or {})})
    assert turn(model, settings, CHAMPION).status == "deployed"
    return model


def test_a_shift_in_a_column_the_model_leans_on_retrains_and_in_one_it_does_not_use_it_is_no_action(
    write_model, settings
):
    frame = shifted("tenure", 20.0)
    frame.loc[frame["event_time"] >= SHIFT, "fax"] += 1.5
    model = started(write_model, settings, frame)
    decision = watched(model, settings, "2025-08-26")
    drift = decision.performance.drift
    confirmed = {alarm.subject for alarm in drift.alarms if alarm.level == "confirmed"}
    assert "column tenure" in confirmed
    assert confirmed <= {"column tenure", "prediction"}
    assert any(told.startswith("fax: no action: the model does not use it") for told in drift.findings)
    assert decision.action == "retrain", decision.reasons
    assert decision.reasons[0].startswith("tenure: confirmed, since 2025-08-")

    done = turn(model, settings, "2025-08-26")
    assert report(decision, done, model, at(model, "2025-08-26"), settings).startswith("version 2 deployed")
    after = watched(model, settings, "2025-08-30")
    assert after.action == "nothing"
    with Ledger(settings.database_url) as ledger:
        kinds = [line.kind for line in ledger.lines(model.name) if line.kind in ("alarm", "decision", "retrained")]
        assert kinds[:3] == ["alarm", "decision", "retrained"]
        assert list(ledger.faults()) == []


def test_only_a_shift_in_the_unused_column_decides_nothing_and_says_why(write_model, settings):
    model = started(write_model, settings, shifted("fax", 1.5))
    decision = watched(model, settings, "2025-08-25")
    assert decision.action == "nothing"
    assert any("fax: no action: the model does not use it" in reason for reason in decision.reasons)
    assert decision.performance.due == ()


def test_days_checked_one_by_one_and_all_at_once_tell_the_same_and_twice_is_once(write_model, settings, tmp_path):
    model = started(write_model, settings, shifted("tenure", 20.0))
    for day in range(2, 17, 7):
        daily = watched(model, settings, f"2025-08-{day:02d}")
    with WatchStore(settings.database_url) as store:
        kept = store.days(model.name, "drift", date(2025, 8, 1), date(2025, 8, 31))
    assert [one.day.day for one in kept] == list(range(1, 16))
    with Ledger(settings.database_url) as ledger:
        lines = ledger.count()
    again = watched(model, settings, "2025-08-16")
    assert again.performance == daily.performance
    with Ledger(settings.database_url) as ledger:
        assert ledger.count() == lines
    (settings.home / "sketches").rename(tmp_path / "gone")
    assert watched(model, settings, "2025-08-16").performance.drift == daily.performance.drift


def test_a_declared_slice_of_a_column_that_is_no_feature_is_told_where_the_model_became_worse(write_model, settings):
    frame = many()
    turned = (frame["event_time"] >= SHIFT) & (frame["plan"] == "basic")
    frame.loc[turned, "churned"] = 1 - frame.loc[turned, "churned"]
    slices = [{"name": "the basic plan", "where": {"plan": "basic"}}]
    changes = {"features.exclude": ["plan"], "gate.slices": slices, "gate.mode": "disabled"}
    model = started(write_model, settings, frame, changes)
    decision = watched(model, settings, "2025-08-20")
    performance = decision.performance
    found = [one for one in performance.worse if one.name == "the basic plan"]
    assert found
    assert found[0].now > found[0].then
    assert any(found[0].told in line for line in told(decision))
    assert performance.worse_slices >= len(performance.worse)
    plain = json.loads(performance.to_json())
    assert MeasurePerformanceRecord.from_json(json.dumps(plain)) == performance
    del plain["worse"], plain["worse_slices"]
    assert MeasurePerformanceRecord.from_json(json.dumps(plain)).worse == ()


def test_a_backfill_fills_in_the_days_and_asks_for_nothing(write_model, settings):
    model = started(write_model, settings, shifted("tenure", 20.0))
    decision = watched(model, settings, "2025-08-20", kind="backfill")
    assert decision.action == "nothing"
    assert decision.reasons == ("a backfill requests no retraining",)
    assert "column tenure" in {alarm.subject for alarm in decision.performance.drift.alarms}
    assert (settings.home / decision.performance.drift.report).is_file()
    with GaugeStore(settings.database_url) as gauges, Ledger(settings.database_url) as ledger:
        assert gauges.read() == ()
        assert ledger.lines(model.name, "decision") == []
    assert watched(model, settings, "2025-07-15", kind="backfill").performance.status == "no champion"


def test_labels_thirty_days_late_and_no_drift_raise_no_alarm(write_model, settings):
    model = started(write_model, settings, many(5), {"target.known_after_days": 30, "split.test_days": 20})
    for cutoff in ("2025-08-12", "2025-08-22", "2025-09-02"):
        performance = watched(model, settings, cutoff).performance
        assert performance.alarms == ()
        assert performance.drift.alarms == ()
    young = [w for w in performance.windows if w.last == "2025-09-01"]
    assert {w.status for w in young} <= {"immature", "insufficient"}
    ripe = [w for w in performance.windows if w.status == "mature"]
    assert ripe
    assert all(w.last <= "2025-08-03" for w in ripe)
    assert all(abs(w.drop) < 0.05 for w in ripe)
    assert all(w.estimated is not None for w in young)


def test_a_champion_that_its_predecessor_beats_on_fresh_labels_is_rolled_back(write_model, settings):
    model = started(write_model, settings, many())
    stump = {"max_iter": 1, "max_leaf_nodes": 2}
    bad = override(model, {"training.estimator": "sklearn.ensemble.HistGradientBoostingClassifier",
                           "training.parameters": stump, "gate.mode": "dry_run"})  # fmt: skip
    assert turn(bad, settings, "2025-08-08").status == "deployed"
    decision = watched(model, settings, "2025-08-20")
    assert decision.action == "roll back", decision.reasons
    done = carry_out(decision, model, at(model, "2025-08-20"), settings)
    assert done.startswith("rolled back from version 2 to 1")
    assert champion_of(model.name, settings).version == 1
    assert Registry(model.name, settings).history()[-1].kind == "rolled_back"
    assert carry_out(decision, model, at(model, "2025-08-20"), settings) == "version 1 answers again already"


def test_a_broken_sensor_calls_a_person_opens_the_breaker_and_retrains_nothing(write_model, settings):
    frame = many()
    frame.loc[frame["event_time"] >= SHIFT, "tenure"] = np.nan
    model = started(write_model, settings, frame)
    decision = watched(model, settings, "2025-08-16")
    assert (decision.action, decision.breaker) == ("call a person", "open")
    assert decision.reasons[0].startswith("tenure: data fault since")
    assert any(event.startswith("error: tenure: missing in") for event in decision.performance.drift.events)
    assert watched(model, settings, "2025-08-18").action == "nothing"


def test_what_the_service_answered_is_watched_by_its_log_and_by_the_labels_that_came_back(
    write_model, settings, monkeypatch
):
    frame = many()
    model = started(write_model, settings, frame, {"monitoring.data": "predictions"})
    champion = champion_of(model.name, settings)
    log = PredictionLog(settings.log, "server")
    log.start()
    rng = np.random.default_rng(0)
    rows = frame.sample(2_000, random_state=1)
    start = datetime(2025, 8, 1, tzinfo=UTC).timestamp()
    labels = []
    for number, (_, row) in enumerate(rows.iterrows()):
        when = start + number * 8 * 86_400 / 2_000
        prediction = new_prediction_id(when)
        write_entry(log, {
            "prediction_id": prediction, "time": when, "model": model.name, "user_id": None, "variant": "champion",
            "version": champion.version, "digest": champion.digest, "prediction": 1, "confidence": 0.5,
            "features": {"tenure": row.tenure, "charge": row.charge, "plan": row.plan, "fax": row.fax},
            "scores": [0.5, 0.5], "latency_seconds": 0.001,
        })  # fmt: skip
        labels.append((prediction, int(row.churned), when + rng.uniform(0, 86_400)))
    log.stop()
    with RolloutStore(settings.database_url) as store:
        for prediction, label, received in labels:
            store.take_feedback(prediction, label, received)
    decision = watched(model, settings, "2025-08-09")
    assert decision.performance.drift.rows == pytest.approx(250, abs=2)
    window = decision.performance.windows[0]
    assert window.rows == pytest.approx(1750, abs=10)
    assert window.realised is not None
    assert abs(window.drop) < 0.06
    known = labels_known(model, datetime(2025, 8, 1, tzinfo=UTC), datetime(2025, 8, 5, tzinfo=UTC), settings)
    assert (known["known_at"] <= pd.Timestamp("2025-08-05", tz="UTC")).all()
    _of_more_rows_than_can_be_held_a_sample_tells_of_every_day(model, settings, monkeypatch)


def _of_more_rows_than_can_be_held_a_sample_tells_of_every_day(model, settings, monkeypatch) -> None:
    cutoff = datetime(2025, 8, 9, tzinfo=UTC)
    champion = champion_as_of(model, cutoff, settings)
    assert champion is not None
    days = (date(2025, 8, 1), date(2025, 8, 8))
    whole = met_rows.met_rows(champion, model, *days, cutoff, settings)
    monkeypatch.setattr(met_rows, "MOST_ROWS", 600)
    few = met_rows.met_rows(champion, model, *days, cutoff, settings)
    assert (whole.share, few.share) == (1.0, 0.25)
    assert len(whole.event) == 2_000
    assert len(few.event) == pytest.approx(500, abs=80)
    assert np.unique(few.event.astype("datetime64[D]"), return_counts=True)[1].min() > 35
    assert few.known.mean() == pytest.approx(whole.known.mean(), abs=0.03)
    assert set(few.event) <= set(whole.event)


def test_monitors_show_their_values_and_their_age(write_model, settings):
    model = started(write_model, settings, shifted("tenure", 20.0))
    before = time.time()
    watched(model, settings, "2025-08-20")
    with GaugeStore(settings.database_url) as store:
        monitors = {one.monitor: one for one in store.read()}
    assert set(monitors) == {"drift", "performance", "retraining"}
    drift = {(g.name, *sorted(g.labels.values())): g.value for g in monitors["drift"].gauges}
    assert drift["model_feature_drift", "7", "tenure"] > 0.1
    assert drift["model_drift_alarms", "column tenure", "confirmed"] == 1.0
    assert monitors["drift"].written_at.timestamp() >= before
    assert monitors["drift"].as_of == datetime(2025, 8, 20, tzinfo=UTC)
    names = {gauge.name for gauge in monitors["performance"].gauges}
    assert {"model_performance_realised", "model_performance_estimated", "model_performance_registered"} <= names
    details = json.loads((settings.home / _details(settings, model)).read_text())
    assert {"windows", "findings", "state"} <= set(details)


def _details(settings, model) -> str:
    return run_stage("detect_drift", model, at(model, "2025-08-20"), settings).details


def test_a_day_without_any_rows_is_an_event_and_not_a_crash(write_model, settings):
    frame = many()
    model = started(write_model, settings, frame)
    end = frame["event_time"].max().date() + timedelta(days=3)
    decision = watched(model, settings, end.isoformat())
    assert any("no rows today" in event for event in decision.performance.drift.events)


@pytest.mark.parametrize("kind", ["float", "bool"])
def test_labels_are_met_however_the_table_stores_them_and_whatever_its_columns_are_called(write_model, settings, kind):
    frame = many()
    columns = {"customer": "id", "tenure": "copy", "charge": "fate", "event_time": "Happened", "arrived_at": "arrived"}
    frame = frame.rename(columns=columns)
    frame["churned"] = frame["churned"].astype({"float": float, "bool": bool}[kind])
    text = MODEL.replace("customer", "id").replace("event_time", "Happened").replace("arrived_at", "arrived")
    model = override(
        write_model(frame, text.replace("positive: 1", "positive: 1" if kind == "float" else "positive: 'True'")),
        {**FAST, **LENIENT},
    )
    assert turn(model, settings, CHAMPION).status == "deployed"
    decision = watched(model, settings, "2025-08-12")
    assert decision.performance.drift.rows == pytest.approx(100, abs=40)
    window = decision.performance.windows[0]
    assert (window.status, window.labelled) == ("mature", window.rows)
    assert window.rows > 600
    assert abs(window.drop) < 0.1


def test_a_column_that_vanishes_calls_a_person_and_the_day_is_watched_on(write_model, settings):
    frame = many()
    model = started(write_model, settings, frame)
    frame[frame["event_time"] < SHIFT].to_parquet(model.source.path)
    watched(model, settings, "2025-08-09")
    frame.drop(columns="charge").to_parquet(model.source.path)
    decision = watched(model, settings, "2025-08-12")
    assert any(event.startswith("error: charge: missing in") for event in decision.performance.drift.events)
    assert decision.action == "call a person"


def test_a_promotion_leaves_a_monitor_that_lives_and_no_alarm_of_the_champion_before(write_model, settings):
    model = started(write_model, settings, shifted("tenure", 20.0))
    watched(model, settings, "2025-08-20")
    turn(model, settings, "2025-08-20")
    assert champion_of(model.name, settings).version == 2
    decision = watched(model, settings, "2025-08-20")
    assert decision.performance.status == "no new day"
    watched(model, settings, "2025-08-20T06:00")
    with GaugeStore(settings.database_url) as store:
        monitors = {one.monitor: one for one in store.read()}
    assert monitors["drift"].as_of == monitors["performance"].as_of == datetime(2025, 8, 20, 6, tzinfo=UTC)
    assert monitors["drift"].gauges == monitors["performance"].gauges == ()


def test_rows_that_were_always_set_apart_are_no_change_and_many_more_of_them_are_one(write_model, settings):
    frame, rng = many(), np.random.default_rng(11)
    jump = pd.Timestamp("2025-08-11", tz="UTC")
    late = (frame["event_time"] >= jump).to_numpy()
    frame.loc[rng.random(len(frame)) < np.where(late, 0.2, 0.04), "tenure"] = np.nan
    frame.loc[rng.random(len(frame)) < 0.03, "charge"] = 999.0  # of all of them the model is sure
    between = {"column": "charge", "min_value": -100, "max_value": 300, "mostly": 0.9}
    model = started(write_model, settings, frame, {
        "validation.max_quarantined_share": 0.2,
        "validation.expectations": [
            {"expect": "expect_column_values_to_not_be_null", "column": "tenure", "mostly": 0.95},
            {"expect": "expect_column_values_to_be_between", **between},
        ],
    })  # fmt: skip
    usual = watched(model, settings, "2025-08-11").performance.drift
    assert usual.day == "2025-08-10"
    assert usual.alarms == ()
    assert not [told for told in (*usual.findings, *usual.events) if "missing" in told or "charge" in told]
    assert [window.changed for window in usual.windows] == [(), ()]

    after = watched(model, settings, "2025-08-21").performance.drift
    assert "column tenure" in {alarm.subject for alarm in after.alarms}
    assert [told for told in after.findings if told.startswith("tenure: alarm: confirmed") and "; missing" in told]


def test_of_what_a_service_answers_the_rows_set_apart_are_no_part(write_model, settings):
    frame = many()
    frame.loc[np.random.default_rng(11).random(len(frame)) < 0.04, "tenure"] = np.nan
    expected = {"expect": "expect_column_values_to_not_be_null", "column": "tenure", "mostly": 0.95}
    model = started(write_model, settings, frame, {"validation.expectations": [expected]})
    answered = override(model, {"monitoring.data": "predictions"})
    cutoff = datetime(2025, 8, 2, tzinfo=UTC)
    rows, fewer = (champion_as_of(one, cutoff, settings) for one in (model, answered))
    prepare = rows.register.evaluate.train.prepare
    assert fewer.features.sketch.rows == prepare.train_rows + prepare.test_rows
    assert fewer.features.sketch.missing_share("tenure") == 0
    assert fewer.prediction.sketch.rows == prepare.test_rows
    assert rows.features.sketch.missing_share("tenure") == pytest.approx(0.04, abs=0.004)
    assert rows.prediction.sketch.rows / prepare.test_rows == pytest.approx(1.04, abs=0.02)
    assert rows.features.sketch.rows <= len(frame[frame["event_time"] < CHAMPION])
