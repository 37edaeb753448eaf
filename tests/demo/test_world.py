from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from demo.__main__ import main
from demo.calendar import BLIND_SENSOR, CALENDAR, FAULTS, LABEL_DAYS, NEW_PLAN, PRICE_RISE
from demo.world import World, arrivals, reviews, true_probability

WORLD = World()


def days(first: int, last: int, what=reviews) -> pd.DataFrame:
    return pd.concat([what(WORLD, day) for day in range(first, last)], ignore_index=True)


def files(folder) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (folder / "churn").iterdir()}


def test_the_same_seed_gives_the_same_bytes_and_a_longer_world_begins_with_the_shorter(tmp_path):
    for name, length in (("a", "40"), ("b", "40"), ("longer", "50")):
        assert main(["generate", "--out", str(tmp_path / name), "--days", length, "--reviews-a-day", "20"]) == 0
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert len(files(tmp_path / "a")) == 40
    assert files(tmp_path / "a").items() <= files(tmp_path / "longer").items()


def test_a_world_that_is_there_is_left_alone_and_another_takes_its_place(tmp_path, capsys):
    short = ["generate", "--out", str(tmp_path / "w"), "--days", "3", "--reviews-a-day", "5"]
    main(short)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "w" / "churn").iterdir()}
    main(short)
    assert "already there" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "w" / "churn").iterdir()} == before
    main([*short, "--seed", "8"])
    assert files(tmp_path / "w") != before


def test_no_label_is_told_before_it_has_matured():
    copies = days(0, 60, arrivals)
    labelled = copies[copies.churned.notna()]
    assert (labelled.arrived_at >= labelled.event_time + pd.Timedelta(days=LABEL_DAYS)).all()
    first = copies[copies.churned.isna()]
    assert ((first.arrived_at - first.event_time) > pd.Timedelta(0)).sum() == first.event_time.notna().sum()


def test_about_one_row_in_a_hundred_is_malformed_in_every_way_that_is_written_down():
    copies = days(0, 200, arrivals)
    first = copies[copies.churned.isna()]
    seen = {
        "negative tenure": (first.tenure_months < 0).mean(),
        "charge of a million": (first.monthly_charge == 1e6).mean(),
        "infinite charge": np.isinf(first.monthly_charge).mean(),
        "plan left blank": (first["plan"] == "").mean(),
        "no customer": first.customer_id.isna().mean(),
        "no event time": first.event_time.isna().mean(),
    }
    assert set(seen) == set(FAULTS)
    for fault, share in seen.items():
        assert share == pytest.approx(FAULTS[fault], rel=0.6), fault
    assert sum(seen.values()) == pytest.approx(0.01, rel=0.2)


def test_late_corrections_bring_the_true_charge():
    copies = days(0, 60, arrivals).dropna(subset=["customer_id", "event_time"])
    first = copies[copies.churned.isna()].sort_values("arrived_at")
    twice = first[first.duplicated(["customer_id", "event_time"], keep=False)]
    by_key = twice.groupby(["customer_id", "event_time"]).total_charge
    assert len(by_key) == pytest.approx(0.02 * 6000, rel=0.4)
    assert np.allclose(by_key.first(), 100 * by_key.last())


def test_what_the_calendar_says_can_be_seen_in_the_data():
    calm, dear = days(200, 260), days(PRICE_RISE.start_day, PRICE_RISE.start_day + 60)
    assert dear.monthly_charge.mean() / calm.monthly_charge.mean() == pytest.approx(1.18, abs=0.03)
    same = calm.assign(monthly_charge=calm.monthly_charge)
    assert (true_probability(same, price_rise=True) != true_probability(same, price_rise=False)).mean() > 0.5
    assert "flex" not in set(days(NEW_PLAN.start_day - 20, NEW_PLAN.start_day)["plan"])
    assert (days(NEW_PLAN.start_day, NEW_PLAN.start_day + 20)["plan"] == "flex").mean() == pytest.approx(
        1 / 6, abs=0.03
    )
    assert (
        days(BLIND_SENSOR.start_day, BLIND_SENSOR.start_day + 2, arrivals)
        .query("churned.isna()")
        .signal_quality.isna()
        .all()
    )
    summer, winter = days(290, 310).roaming_minutes.mean(), days(90, 110).roaming_minutes.mean()
    assert summer > 2 * winter
    assert len({happening.name for happening in CALENDAR}) == 4


def test_the_truth_can_be_learned_but_not_perfectly():
    calm = days(0, 120)
    assert 0.80 < roc_auc_score(calm.churned, calm.chance) < 0.92
    assert 0.12 < calm.churned.mean() < 0.28


def test_a_world_without_days_is_refused(capsys):
    assert main(["generate", "--days", "0"]) == 2
    assert "at least one day" in capsys.readouterr().err
