"""The chain as it runs: the service, Prometheus, Alertmanager and the receiver, each a process of its own.

Configuration and rules are those of `deploy/`. Only addresses and intervals of the configurations are others, so that
nobody waits for minutes; the rule files are used as they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import yaml

from local.processes import free_port
from pipeline.config import parse_model
from pipeline.gauge_names import MONITORS, NAMES
from pipeline.gauges import Gauge, GaugeStore
from pipeline.package_files import read_golden
from pipeline.settings import Settings, load_settings
from tests.conftest import MODEL, customers, turn
from tests.deploy.fake_airflow import FakeAirflow, running

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
PROGRAMS = ("prometheus", "prometheus-alertmanager", "promtool")
SECRET = "the-secret-of-this-test"
PYTHON = (sys.executable, "-W", "error", "-m")
LABELS = {
    "decision": "hold", "feature_name": "tenure", "kind": "unseen_category", "level": "suspected", "metric": "roc_auc",
    "quantile": "0.5", "result": "helped", "severity": "warning", "status": "ok", "subject": "tenure",
    "window_days": "7",
}  # fmt: skip
DAGS = {"retraining_churn", "retraining_broken", "retraining_later"}


def missing_programs() -> list[str]:
    return [program for program in PROGRAMS if shutil.which(program) is None]


@dataclass
class Live:
    service: str
    prometheus: str
    alertmanager: str
    airflow: FakeAirflow
    store: GaugeStore
    row: dict[str, Any]
    """What the model answers to."""

    def write(self, model: str, monitor: str, *gauges: Gauge, max_age_seconds: float = 3600) -> None:
        """As a monitor does that ends now."""
        now = datetime.now(UTC)
        assert self.store.replace(model, monitor, gauges, now, now, rows=500, max_age_seconds=max_age_seconds)

    def query(self, expression: str, seconds: float | None = None) -> list[dict[str, Any]]:
        """Series of an instant, or of the last seconds. Fails with Prometheus' words where the query is wrong."""
        asked: dict[str, Any] = {"query": expression}
        if seconds is not None:
            asked |= {"start": time.time() - seconds, "end": time.time(), "step": 1}
        path = "query" if seconds is None else "query_range"
        answer = httpx.get(f"{self.prometheus}/api/v1/{path}", params=asked, timeout=20).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        return answer["data"]["result"]

    def alerts(self, name: str, model: str) -> list[dict[str, Any]]:
        """What Alertmanager holds of one kind."""
        asked = {"filter": [f'alertname="{name}"', f'model="{model}"']}
        return httpx.get(f"{self.alertmanager}/api/v2/alerts", params=asked, timeout=20).json()

    def predict(self, **changed: Any) -> httpx.Response:
        return httpx.post(f"{self.service}/predict", json={"features": {**self.row, **changed}}, timeout=20)


def wait_until(what: Callable[[], Any], seconds: float = 60) -> Any:
    """What it gave when it came true; it fails where that takes longer."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found := what():
                return found
        except httpx.TransportError:
            pass
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.1)


def one_of_each(model: str, monitor: str) -> list[Gauge]:
    """A plausible value under every name of a monitor, without anything to be alarmed about."""
    quiet = {"model_retraining_breaker_open": 0.0, "model_champion_since_timestamp_seconds": time.time() - 86_400}
    return [
        Gauge(name.name, model, {label: LABELS[label] for label in name.labels}, quiet.get(name.name, 0.5))
        for name in NAMES.values() if name.monitor == monitor
    ]  # fmt: skip


@contextmanager
def live(folder: Path) -> Iterator[Live]:
    settings = load_settings({"EVERGREEN_HOME": str(folder / "home"), "EVERGREEN_MODELS": str(folder / "models")})
    ports = {name: free_port(0) for name in ("serving", "prometheus", "alertmanager", "receiver")}
    at = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    with ExitStack() as stack:
        airflow = stack.enter_context(running(FakeAirflow({"ops": "pass"}, DAGS)))
        environ = {
            "EVERGREEN_HOME": str(settings.home), "EVERGREEN_AIRFLOW_USER": "ops",
            "EVERGREEN_AIRFLOW_URL": airflow.address, "EVERGREEN_AIRFLOW_PASSWORD": "pass",
        }  # fmt: skip
        serving = [*PYTHON, "serving", "--port", str(ports["serving"]), "--workers", "2"]
        stack.enter_context(process(serving, environ))
        stack.enter_context(alerting(folder, ports, environ))
        row = _deployed(folder, settings)  # while they start
        store = stack.enter_context(GaugeStore(settings.database_url))
        for address in (f"{at['serving']}/ready", f"{at['receiver']}/health", f"{at['alertmanager']}/-/ready"):
            wait_until(lambda address=address: httpx.get(address).status_code == 200)
        world = Live(at["serving"], at["prometheus"], at["alertmanager"], airflow, store, row)
        for monitor in MONITORS:
            world.write("churn", monitor, *one_of_each("churn", monitor))
        wait_until(lambda: world.query('model_monitor_rows{model="churn"}'))
        yield world


@contextmanager
def alerting(folder: Path, ports: dict[str, int], environ: dict[str, str]) -> Iterator[None]:
    """Prometheus, Alertmanager and the receiver, before whatever serves at its port; `environ`: of the receiver."""
    prometheus, alertmanager = _prometheus(folder, ports), _alertmanager(folder, ports)
    commands = [
        [*PYTHON, "serving.receiver", "--port", str(ports["receiver"])],
        ["prometheus", f"--config.file={prometheus}", f"--storage.tsdb.path={folder / 'tsdb'}",
         f"--web.listen-address=127.0.0.1:{ports['prometheus']}", "--log.level=error"],
        ["prometheus-alertmanager", f"--config.file={alertmanager}", f"--storage.path={folder / 'alerts'}",
         f"--web.listen-address=127.0.0.1:{ports['alertmanager']}", "--cluster.listen-address=",
         "--log.level=error"],
    ]  # fmt: skip
    with ExitStack() as stack:
        for command in commands:
            stack.enter_context(process(command, environ | {"EVERGREEN_ALERT_SECRET": SECRET}))
        yield


def _deployed(folder: Path, settings: Settings) -> dict[str, Any]:
    folder.joinpath("models").mkdir()
    customers().to_parquet(folder / "table.parquet")
    text = MODEL.format(path=folder / "table.parquet")
    folder.joinpath("models", "churn.yaml").write_text(text)
    record = turn(parse_model(text, "churn", "churn.yaml"), settings, "2025-10-01")
    return read_golden(settings.home / record.register.package)[0][0]


def _prometheus(folder: Path, ports: dict[str, int]) -> Path:
    content = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    content["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    content["rule_files"] = [str(DEPLOY / "prometheus" / pattern) for pattern in content["rule_files"]]
    for part in (*content["scrape_configs"], *content["alerting"]["alertmanagers"]):
        for static in part["static_configs"]:
            static["targets"] = [f"127.0.0.1:{ports[target.split(':')[0]]}" for target in static["targets"]]
    return _written(folder / "prometheus.yml", content)


def _alertmanager(folder: Path, ports: dict[str, int]) -> Path:
    content = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    content["route"] |= {"group_wait": "1s", "group_interval": "1s", "repeat_interval": "1s"}
    for route in content["route"]["routes"]:
        route.pop("repeat_interval", None)
    (hook,) = [hook for receiver in content["receivers"] for hook in receiver.get("webhook_configs", [])]
    (folder / "secret").write_text(SECRET)
    hook["url"] = f"http://127.0.0.1:{ports['receiver']}/alerts"
    hook["http_config"]["authorization"]["credentials_file"] = str(folder / "secret")
    return _written(folder / "alertmanager.yml", content)


def _written(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


@contextmanager
def process(command: list[str], environ: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(command, env={**os.environ, **environ}, cwd=REPOSITORY)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
