"""The dashboards: well formed, of metrics that exist, and every query answered by a real Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from pipeline.gauge_names import NAMES, STORE_UP
from serving.telemetry import Telemetry
from tests.deploy.live import DEPLOY, wait_until

GRAFANA = DEPLOY / "grafana"
PATHS = sorted((GRAFANA / "dashboards").glob("*.json"))
SUBSTITUTES = {"$model": "churn", "$window_days": "7", "$__rate_interval": "10s", "$__range": "60s"}


def dashboards() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in PATHS:
        yield path.stem, json.loads(path.read_text())


def targets() -> list[Any]:
    return [
        pytest.param(target, id=f"{name}: {panel['title']} {target['refId']}")
        for name, dashboard in dashboards() for panel in dashboard["panels"] for target in panel["targets"]
    ]  # fmt: skip


def filled_in(expression: str) -> str:
    for variable, value in SUBSTITUTES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


def overlap(one: dict[str, int], other: dict[str, int], start: str, length: str) -> bool:
    return one[start] < other[start] + other[length] and other[start] < one[start] + one[length]


@pytest.fixture(scope="module")
def busy(chain):
    """The chain after some traffic of every kind."""
    for _ in range(10):
        prediction = chain.predict().json()["prediction_id"]
    assert chain.predict(charge="cheap").status_code == 422
    label = {"prediction_id": prediction, "actual": 1}
    assert httpx.post(f"{chain.service}/feedback", json=label, timeout=20).status_code == 200
    seen = ("model_predictions_total", "model_requests_refused_total", "model_feedback_total > 0")
    wait_until(lambda: all(chain.query(f"rate({name.split()[0]}[10s])") for name in seen))
    return chain


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_dashboard_is_what_grafana_reads(path):
    dashboard = json.loads(path.read_text())
    jsonschema.validate(dashboard, json.loads((GRAFANA / "dashboard.schema.json").read_text()))
    source = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    panels = dashboard["panels"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert len({panel["id"] for panel in panels}) == len(panels)
    boxes = [panel["gridPos"] for panel in panels]
    assert all(box["x"] + box["w"] <= 24 for box in boxes)
    assert not [(a, b) for a, b in combinations(boxes, 2) if overlap(a, b, "x", "w") and overlap(a, b, "y", "h")]


def test_dashboards_have_addresses_of_their_own_and_are_found_by_grafana():
    uids = [dashboard["uid"] for _, dashboard in dashboards()]
    assert sorted(uids) == [f"evergreen-{path.stem}" for path in PATHS]
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "evergreen.yml").read_text())["providers"][0]
    compose = yaml.safe_load((DEPLOY.parent / "docker-compose.yaml").read_text())
    mounts = dict(volume.split(":")[:2][::-1] for volume in compose["services"]["grafana"]["volumes"])
    assert Path(mounts[provider["options"]["path"]]) == Path("deploy/grafana/dashboards")


def test_rules_and_dashboards_ask_for_metrics_that_exist():
    own = {metric.name for metric in Telemetry().registry.collect()}
    known = {*NAMES, STORE_UP, *own, *(f"{name}_total" for name in own)}
    texts = [path.read_text() for path in (*PATHS, *(DEPLOY / "prometheus" / "rules").glob("*.yml"))]
    asked = {re.sub(r"_(bucket|count|sum)$", "", name) for text in texts for name in re.findall(r"\bmodel_\w+", text)}
    assert asked - known == set()
    assert set(NAMES) - asked == {"model_monitor_gauges_left_out"}


@pytest.mark.parametrize("target", targets())
def test_every_query_finds_something(busy, target):
    expression = filled_in(target["expr"])
    if "ALERTS" in expression:  # what stands is another test's matter
        busy.query(expression)
        return
    assert busy.query(expression, None if target.get("instant") else 60) != []


def test_variables_and_annotations_can_be_asked(busy):
    for _, dashboard in dashboards():
        for annotation in dashboard["annotations"]["list"]:
            busy.query(filled_in(annotation["expr"]), 60)
        for variable in dashboard["templating"]["list"]:
            selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
            address = f"{busy.prometheus}/api/v1/label/{label}/values"
            answer = httpx.get(address, params={"match[]": filled_in(selector)}, timeout=20).json()
            assert SUBSTITUTES[f"${variable['name']}"] in answer["data"]
