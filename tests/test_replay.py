"""The loop turned over past data: a world that changes on a known day, and real streams where this machine has them."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from benchmarks.replay import STREAMS, replay_of
from demo.__main__ import main as drill
from pipeline.__main__ import main
from pipeline.config import ModelConfig, override
from pipeline.errors import BadConfiguration, NotEnoughData
from pipeline.replay import Asked, Replay, add_arguments, replay, replayed, told

NOW = datetime(2027, 1, 1, tzinfo=UTC)
CHANGE = date(2025, 4, 1)
MODEL = """
task: binary
source: {{path: {path}}}
entity: customer
time: {{event: event_time, arrival: arrived_at}}
target: {{column: churned, positive: 1, known_after_days: 2}}
split: {{test_days: 8, train_days: 60, min_rows: 50}}
training:
  estimator: sklearn.linear_model.LogisticRegression
"""


def changing(days: int = 150, a_day: int = 40) -> pd.DataFrame:
    """Customers of whom, from one day on, other ones leave."""
    rng = np.random.default_rng(5)
    rows = days * a_day
    event = pd.Timestamp("2025-01-01", tz="UTC") + pd.to_timedelta(np.sort(rng.integers(0, days * 86_400, rows)), "s")
    changed = np.asarray(event >= pd.Timestamp(CHANGE, tz="UTC"))
    charge, tenure = rng.normal(60, 20, rows) + 30 * changed, rng.integers(0, 72, rows)
    leaning = np.where(changed, 1.5 - (charge - 90) / 12, 1.5 + (charge - 60) / 12) - tenure / 18
    churned = (rng.random(rows) < 1 / (1 + np.exp(-leaning))).astype(int)
    return pd.DataFrame({
        "customer": [f"C{n}" for n in range(rows)], "event_time": event, "arrived_at": event + pd.Timedelta("2h"),
        "tenure": tenure, "charge": charge, "churned": churned,
    })  # fmt: skip


def of(found: Replay, policy: str):
    outcome = next(one for one in found.outcomes if one.policy == policy)
    return outcome, next(one for one in found.walks if one.policy == policy)


@pytest.fixture
def world(write_model) -> ModelConfig:
    return write_model(changing(), MODEL)


def test_a_world_that_changes_is_worth_retraining_for_and_comes_out_the_same_twice(world, settings):
    asked = Asked("2025-03-12", every_days=7, policies=("never", "always", "drift"))
    found = replayed(world, asked, settings, NOW)
    never, drift, always = (of(found, name)[0] for name in ("never", "drift", "always"))
    assert never.metric < drift.metric - 0.02
    assert drift.metric <= always.metric + 0.01
    assert 0 == never.retrainings < drift.retrainings < always.retrainings
    first = of(found, "never")[1].of("alarm")[0]
    assert CHANGE < first.day <= date(2025, 4, 30)
    for one in found.outcomes:
        beaten = [o for o in found.outcomes if o.retrainings <= one.retrainings and o.metric > one.metric]
        assert not (one.on_frontier and beaten)
    again = replayed(world, replace(asked, policies=("drift",)), settings, NOW)
    assert again.walks[0] == of(found, "drift")[1]
    assert again.outcomes[0].months == drift.months
    assert found.section in told(found)


def test_rows_that_come_later_change_nothing_of_what_was_decided_before(write_model, settings):
    asked = Asked(begin="2025-02-20", every_days=14, policies=("combined",))
    table = changing()
    whole = replayed(write_model(table, MODEL, name="whole"), asked, settings, NOW)
    later = table[table["arrived_at"] < pd.Timestamp("2025-05-15", tz="UTC")]
    part = replayed(write_model(later, MODEL, name="part"), asked, settings, NOW)
    until = part.last
    events = [event for event in whole.walks[0].events if event.day <= until]
    assert events == list(part.walks[0].events)
    assert events


def test_days_of_a_table_in_order_of_time_are_numbered_and_said_so(write_model, settings):
    text = MODEL.replace("entity: customer\n", "").replace("event: event_time, arrival: arrived_at", "order: rows")
    text = text.replace("test_days: 8, train_days: 60", "test_share: 0.3")
    table = changing().drop(columns=["customer", "event_time", "arrived_at"])
    model = write_model(table, text)
    found = replayed(model, Asked(rows_a_day=40, every_days=28, policies=("never", "cron:60")), settings, NOW)
    assert "40 rows a day" in found.days
    assert [one.policy for one in found.outcomes] == ["never", "cron 60"]
    with pytest.raises(BadConfiguration, match="the data has the days"):
        replayed(model, Asked(begin="1990-01-01", rows_a_day=40), settings, NOW)
    with pytest.raises(NotEnoughData, match="replay from a later day"):
        replayed(model, Asked(begin="2000-01-03", rows_a_day=40), settings, NOW)
    with pytest.raises(BadConfiguration, match="is no policy"):
        replayed(model, Asked(policies=("weekly",), rows_a_day=40), settings, NOW)


def test_a_retrained_model_that_the_gate_turns_away_leaves_the_champion(world, settings):
    strict = override(world, {"gate.min_gain": 0.9})
    found = replayed(strict, Asked(every_days=28, policies=("always",), gate=True), settings, NOW)
    walk = found.walks[0]
    assert len(walk.reigns) == 1
    assert len(walk.of("refused")) == walk.retrainings > 0


def test_the_command_prints_one_object_and_draws(world, settings, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EVERGREEN_HOME", str(settings.home))
    monkeypatch.setenv("EVERGREEN_MODELS", str(settings.models_dir))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    parser.add_argument("--json", action="store_true")
    picture = tmp_path / "pictures" / "replay.png"
    flags = ["--model", "churn", "--every", "28", "--policies", "never,always", "--plot", str(picture), "--json"]
    assert replay(parser.parse_args(flags)) == 0
    content = json.loads(capsys.readouterr().out)
    assert [one["policy"] for one in content["outcomes"]] == ["never", "always"]
    assert content["proposed"] in ("never", "always")
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("flag", [
    "--from 200%", "--from 100%", "--from 0%", "--from nan%", "--from soon", "--plot x.abc", "--plot nowhere",
    "--plot /proc/x/y.png", "--retraining-cost nan", "--retraining-cost -1", "--error-cost inf", "--error-cost much",
])  # fmt: skip
def test_flags_that_cannot_be_are_bad_usage_before_any_work(flag, world, settings, monkeypatch, capsys):
    monkeypatch.setenv("EVERGREEN_HOME", str(settings.home))
    monkeypatch.setenv("EVERGREEN_MODELS", str(settings.models_dir))
    name, _, value = flag.partition(" ")
    try:
        status = main(["replay", "--model", "churn", f"{name}={value}"])
    except SystemExit as left:
        status = left.code
    assert status == 2
    told = capsys.readouterr().err
    assert name in told.splitlines()[-1]
    assert not settings.store.exists()


@pytest.mark.parametrize("begin", ["99.9%", "0.01%"])
def test_a_share_that_rounds_to_no_day_of_the_data_is_bad_usage(begin, world, settings):
    with pytest.raises(BadConfiguration, match="the data has the days"):
        replayed(world, Asked(begin), settings, NOW)


def test_a_drill_in_a_folder_that_cannot_be_written_into_is_bad_usage(capsys):
    assert drill(["drill", "--folder", "/proc/x"]) == 2
    assert capsys.readouterr().err.startswith("error: --folder: cannot write into /proc/x: ")


@pytest.mark.parametrize("name", ["bank", "electricity"])
def test_on_real_streams_that_drift_few_retrainings_are_as_good_as_all(name, real_data):
    found = replay_of(STREAMS[name], real_data, 14, ("always", "combined"))
    always, combined = (of(found, policy)[0] for policy in ("always", "combined"))
    print(told(found))
    assert combined.metric >= 0.99 * always.metric
    assert combined.retrainings <= always.retrainings / 3
    assert combined.alarms


def test_weather_that_hardly_drifts_raises_no_alarm_about_performance(real_data):
    found = replay_of(STREAMS["weather"], real_data, 14, ("never",))
    alarms = of(found, "never")[1].of("alarm")
    print(told(found))
    assert not [event for event in alarms if event.told.startswith(("performance:", "concept:"))]
