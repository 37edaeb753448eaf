"""Metrics: one truth from many workers, and nothing stale that looks fresh."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from pipeline.errors import OutsideFailure
from pipeline.gauge_names import NAMES, STORE_UP
from pipeline.gauges import Gauge, GaugeStore
from serving import telemetry
from serving.telemetry import CACHE_SECONDS, MonitorCollector, Telemetry

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)


@pytest.fixture
def store(settings):
    with GaugeStore(settings.database_url) as store:
        yield store


def one_of_each(model: str) -> dict[str | None, list[Gauge]]:
    """A value under every name, by monitor."""
    found: dict[str | None, list[Gauge]] = {}
    for name in NAMES.values():
        found.setdefault(name.monitor, []).append(Gauge(name.name, model, dict.fromkeys(name.labels, "x"), 2.0))
    return found


def write(store: GaugeStore, model: str = "churn") -> None:
    for monitor, gauges in one_of_each(model).items():
        if monitor is not None:
            assert store.replace(model, monitor, gauges, NOON - timedelta(hours=12), NOON, rows=5)


def shown(text: str) -> set[str]:
    return set(re.findall(r"^(\w+)[{ ]", text, re.MULTILINE))


def test_what_the_monitors_measured_is_shown_beside_the_services_own(store):
    write(store)
    own = Telemetry()
    own.tell({"churn": 3, "broken": None}, 0)
    text = Telemetry(MonitorCollector(store)).render().decode()
    assert {*NAMES, STORE_UP} <= shown(text)
    assert not shown(own.render().decode()) & {*NAMES, STORE_UP}
    assert 'model_feature_drift{feature_name="x",model="churn",window_days="x"} 2.0' in text
    fresh = re.search(r'last_success_timestamp_seconds{model="churn",monitor="drift"} (.+)', text)
    assert float(fresh[1]) == NOON.timestamp()
    assert f"{STORE_UP} 1.0" in text
    assert "# TYPE model_retrainings_total counter" in text


def test_prometheus_own_linter_finds_nothing(store):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("the Debian package prometheus is not installed")
    write(store)
    both = Telemetry(MonitorCollector(store))
    both.tell({"churn": 1}, 2)
    text = both.render().decode()
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    # A lag in days is read by people.
    assert [line for line in (done.stdout + done.stderr).splitlines() if "lag_days" not in line] == []


def test_a_store_that_cannot_be_read_shows_no_values_and_says_so(store):
    write(store)
    now = 0.0

    def broken():
        raise OutsideFailure("the database is away")

    answers = [store.read, broken]
    flaky = SimpleNamespace(read=lambda: answers.pop(0)())
    both = Telemetry(MonitorCollector(flaky, lambda: now))
    both.tell({"churn": 1}, 0)
    assert "model_feature_drift{" in both.render().decode()
    now = CACHE_SECONDS + 1
    text = both.render().decode()
    assert "model_feature_drift" not in text
    assert f"{STORE_UP} 0.0" in text
    assert 'model_ready{model="churn"} 1.0' in text


def test_a_store_that_hangs_is_asked_once_and_does_not_hold_up_the_scrape(monkeypatch):
    monkeypatch.setattr(telemetry, "PATIENCE_SECONDS", 0.05)
    release, asked = threading.Event(), []

    def hang():
        asked.append(1)
        release.wait(10)
        return ()

    collector = MonitorCollector(SimpleNamespace(read=hang))
    begun = time.monotonic()
    for _ in range(5):
        assert f"{STORE_UP} 0.0" in Telemetry(collector).render().decode()
    assert time.monotonic() - begun < 5
    assert asked == [1]
    release.set()
    monkeypatch.setattr(telemetry, "PATIENCE_SECONDS", 5)
    assert f"{STORE_UP} 1.0" in Telemetry(collector).render().decode()


def test_scrapes_in_quick_succession_read_the_store_once(store):
    write(store)
    reads = []
    counted = SimpleNamespace(read=lambda: reads.append(1) or store.read())
    both = Telemetry(MonitorCollector(counted))
    texts = [both.render() for _ in range(10)]
    assert all(b"model_feature_drift{" in text for text in texts)
    assert reads == [1]


def test_a_killed_worker_no_longer_says_what_it_is_at_but_what_it_counted_stays(tmp_path):
    code = """
import os, signal, sys
from serving.telemetry import Telemetry
worker = Telemetry()
worker.tell({"churn": int(sys.argv[1])}, 4)
worker.refused.labels("churn").inc()
if sys.argv[2] == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
print(worker.render().decode())
"""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for generation, fate in (("3", "dies"), ("7", "lives")):
        command = [sys.executable, "-c", code, generation, fate]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert 'model_rollout_generation{model="churn"} 7.0' in done.stdout
    assert 'model_requests_refused_total{model="churn"} 2.0' in done.stdout
    assert "model_prediction_log_lost_total 8.0" in done.stdout
