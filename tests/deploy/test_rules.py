"""The alert rules and the configurations around them, by the tools that come with Prometheus and Alertmanager."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import yaml

from tests.deploy.live import DEPLOY

PROMETHEUS = DEPLOY / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))


def tool(name: str, *arguments: object) -> None:
    """Fails with what the tool says."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed (Debian packages prometheus and prometheus-alertmanager)")
    done = subprocess.run([name, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=PROMETHEUS)
    assert done.returncode == 0, done.stdout + done.stderr


def rules() -> list[dict]:
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def test_the_alerts_are_raised_when_they_should_be_and_at_no_other_time():
    tool("promtool", "test", "rules", *sorted((PROMETHEUS / "tests").glob("*.yml")))


def test_prometheus_and_alertmanager_take_their_configuration():
    tool("promtool", "check", "config", "prometheus.yml")
    tool("amtool", "check-config", DEPLOY / "alertmanager" / "alertmanager.yml")


def test_every_alert_is_tested_and_tells_what_it_is_and_what_to_do():
    tested = "".join(path.read_text() for path in (PROMETHEUS / "tests").glob("*.yml"))
    for rule in rules():
        assert rule["alert"] in tested
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "description", "runbook"} == set(rule["annotations"])


def test_alerts_that_ask_for_retraining_go_to_the_receiver_one_a_model():
    assert [rule["alert"] for rule in rules() if rule["labels"].get("action") == "retrain"] == [
        "DriftConfirmed", "PerformanceDropped",
    ]  # fmt: skip
    config = DEPLOY / "alertmanager" / "alertmanager.yml"
    tool("amtool", "config", "routes", "test", f"--config.file={config}", "--verify.receivers=retraining,people",
         "alertname=DriftConfirmed", "action=retrain", "model=churn")  # fmt: skip
    tool("amtool", "config", "routes", "test", f"--config.file={config}", "--verify.receivers=people",
         "alertname=MonitorStale", "model=churn")  # fmt: skip
