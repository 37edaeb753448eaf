"""What the monitors measured last: the newest of every monitor, whole, and never older than it says."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.gauge_names import MONITORS, NAMES
from pipeline.gauges import CAP, Gauge, GaugeStore, exposed

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def drift(feature: str, value: float = 0.1, model: str = "churn") -> Gauge:
    return Gauge("model_feature_drift", model, {"feature_name": feature, "window_days": "7"}, value)


def features(store: GaugeStore) -> dict[str, float]:
    return {gauge.labels["feature_name"]: gauge.value for monitor in store.read() for gauge in monitor.gauges}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, settings):
    return settings.database_url if request.param == "sqlite" else request.getfixturevalue("postgres")


@pytest.fixture
def store(settings):
    with GaugeStore(settings.database_url) as store:
        yield store


def test_a_column_that_is_no_longer_measured_does_not_linger(url):
    with GaugeStore(url) as store:
        assert store.replace(
            "columns", "drift", [drift(f, model="columns") for f in ("age", "zip")], NOON, NOON, rows=9
        )
        assert store.replace("columns", "drift", [drift("age", 0.2, "columns")], NOON + DAY, NOON + DAY, rows=8)
        (monitor,) = [monitor for monitor in store.read() if monitor.model == "columns"]
        assert monitor.gauges == (drift("age", 0.2, "columns"),)
        assert (monitor.as_of, monitor.written_at, monitor.rows) == (NOON + DAY, NOON + DAY, 8)


def test_a_backfill_never_overwrites_what_is_newer_nor_makes_it_look_fresh(store):
    store.replace("churn", "drift", [drift("age", 0.2)], NOON, NOON, rows=1)
    for as_of in (NOON - DAY, NOON):
        assert not store.replace("churn", "drift", [drift("age", 0.9)], as_of, NOON + 9 * DAY, rows=1)
    assert features(store) == {"age": 0.2}
    assert store.read()[0].written_at == NOON


def test_monitors_and_models_do_not_touch_each_other(store):
    store.replace("churn", "drift", [drift("age")], NOON, NOON, rows=1)
    store.replace("other", "drift", [drift("age", 0.7, "other")], NOON, NOON, rows=1)
    known = Gauge("model_labels_known_share", "churn", {}, 0.5)
    store.replace("churn", "performance", [known], NOON - DAY, NOON, rows=1)
    store.replace("churn", "drift", [], NOON + DAY, NOON + DAY, rows=0)
    assert [(m.model, m.monitor, len(m.gauges)) for m in store.read()] == [
        ("churn", "drift", 0), ("churn", "performance", 1), ("other", "drift", 1),
    ]  # fmt: skip


def test_of_many_runs_at_once_the_newest_stays_whole(url):
    def write(day: int) -> bool:
        with GaugeStore(url) as store:
            gauges = [drift(f"f{number}", day, "raced") for number in range(20)]
            return store.replace("raced", "drift", gauges, NOON + day * DAY, NOON, rows=day)

    with GaugeStore(url) as store:
        store.read()  # makes the tables, which is not what is raced for
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(write, range(24)))
    assert taken[-1]
    with GaugeStore(url) as store:
        (monitor,) = [monitor for monitor in store.read() if monitor.model == "raced"]
    assert monitor.as_of == NOON + 23 * DAY
    assert [gauge.value for gauge in monitor.gauges] == [23.0] * 20


def test_features_beyond_the_bound_are_left_out_and_counted(store):
    store.replace("churn", "drift", [drift(f"f{number}") for number in range(CAP + 7)], NOON, NOON, rows=1)
    assert list(features(store)) == [f"f{number}" for number in range(CAP)]
    assert {g.name: g.value for g in exposed(store.read())}["model_monitor_gauges_left_out"] == 7


@pytest.mark.parametrize(
    ("gauges", "why"),
    [
        ([drift("age"), drift("age", 0.5)], "twice"),
        ([drift("age", model="other")], "of other, not of churn"),
        ([Gauge("model_labels_known_share", "churn", {}, 0.5)], "not what the monitor drift measures"),
    ],
)
def test_a_monitor_that_contradicts_itself_is_told_and_changes_nothing(store, gauges, why):
    store.replace("churn", "drift", [drift("zip")], NOON, NOON, rows=1)
    with pytest.raises(ValueError, match=why):
        store.replace("churn", "drift", gauges, NOON + DAY, NOON, rows=1)
    assert features(store) == {"zip": 0.1}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_there_is_no_value_that_is_no_number(value):
    with pytest.raises(ValueError, match="leave out what is not known"):
        drift("age", value)


def test_every_name_is_of_one_monitor_and_says_what_it_means():
    assert {name.monitor for name in NAMES.values()} == {*MONITORS, None}
    assert all(name.about and key == name.name and name.name.startswith("model_") for key, name in NAMES.items())
