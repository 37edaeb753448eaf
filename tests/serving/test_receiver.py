"""The receiver: believes only who knows the secret, asks Airflow once for each alert, and says what became of it."""

from __future__ import annotations

import asyncio
import copy
import os
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from pipeline.errors import BadConfiguration
from pipeline.settings import receiver_settings
from serving.receiver import create_app
from tests.deploy.fake_airflow import FakeAirflow, running

SECRET = "s3cret-of-the-receiver"
TOLD = {"Authorization": f"Bearer {SECRET}"}
ALERT = {
    "status": "firing", "labels": {"alertname": "DriftConfirmed", "model": "churn", "action": "retrain"},
    "annotations": {"summary": "Drift of churn is confirmed: tenure"}, "fingerprint": "0123456789abcdef",
    "startsAt": "2026-06-01T14:00:00.123456789+02:00", "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://prometheus",
}  # fmt: skip
BODY = {
    "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing", "receiver": "retraining",
    "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager",
    "alerts": [ALERT],
}  # fmt: skip
RUN = "alert__0123456789abcdef__20260601T120000.123456Z"


def body(**of_the_alert) -> dict:
    changed = copy.deepcopy(BODY)
    changed["alerts"][0].update(of_the_alert)
    return changed


def labels(**changed) -> dict[str, str]:
    return {key: value for key, value in {**ALERT["labels"], **changed}.items() if value is not None}


@pytest.fixture
def airflow() -> Iterator[FakeAirflow]:
    state = FakeAirflow(users={"ops": "pass"}, dags={"retraining_churn"})
    with running(state):
        yield state


def environment(address: str, **more: str) -> dict[str, str]:
    log_in = {"EVERGREEN_AIRFLOW_USER": "ops", "EVERGREEN_AIRFLOW_PASSWORD": "pass"}
    return {"EVERGREEN_ALERT_SECRET": SECRET, "EVERGREEN_AIRFLOW_URL": address, **log_in, **more}


class Receiver:
    """The application, asked as a web server asks it."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.app = create_app(receiver_settings(environ))

    def post(self, **about) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
                return await client.post("/alerts", **about)

        return asyncio.run(ask())

    def results(self, content: dict) -> list[str]:
        answer = self.post(json=content, headers=TOLD)
        assert answer.status_code == 200, answer.text
        return [alert["result"] for alert in answer.json()["alerts"]]


@pytest.fixture
def receiver(airflow) -> Receiver:
    return Receiver(environment(airflow.address))


def test_an_alert_starts_one_run_with_its_reason_and_its_repeats_none(airflow, receiver):
    assert receiver.results(BODY) == ["started"]
    assert receiver.results(BODY) == ["already"]
    assert Receiver(environment(airflow.address)).results(BODY) == ["already"]
    assert airflow.runs == {
        ("retraining_churn", RUN): {"reasons": ["DriftConfirmed: Drift of churn is confirmed: tenure"], "cutoff": None}
    }
    assert receiver.results(body(startsAt="2026-06-09T12:00:00Z")) == ["started"]
    assert len(airflow.runs) == 2


@pytest.mark.parametrize(
    ("alert", "result"),
    [
        (body(status="resolved"), "ignored"),
        (body(labels=labels(action=None)), "ignored"),
        (body(labels=labels(action="page")), "ignored"),
        (body(labels=labels(model=None)), "refused"),
        (body(labels=labels(model="../../variables")), "refused"),
        (body(labels=labels(model="churn\n")), "refused"),
        (body(labels=labels(model="unknown")), "refused"),
    ],
)
def test_what_asks_for_no_retraining_or_of_no_model_starts_nothing(airflow, receiver, alert, result):
    assert receiver.results(alert) == [result]
    assert airflow.runs == {}


@pytest.mark.parametrize(
    "header", [None, "", "Bearer ", "Bearer wrong", SECRET, f"Basic {SECRET}", f"Bearer {SECRET}x"]
)
def test_who_does_not_know_the_secret_reaches_nothing(airflow, receiver, header):
    headers = {} if header is None else {"Authorization": header}
    assert receiver.post(json=BODY, headers=headers).status_code == 401
    assert receiver.post(content=b"x" * 5, headers=headers).status_code == 401
    assert airflow.asked == 0


@pytest.mark.parametrize(
    "content",
    [
        {**BODY, "version": "3"}, {**BODY, "alerts": [ALERT] * 1001}, {"alerts": []}, [], "text",
        body(fingerprint="x/../y"), body(startsAt="yesterday"), body(startsAt="2026-06-01T12:00:00"), body(labels=[]),
    ],
)  # fmt: skip
def test_what_is_not_alertmanagers_is_refused_whole(airflow, receiver, content):
    assert receiver.post(json=content, headers=TOLD).status_code == 422
    assert airflow.asked == 0


def test_a_body_without_end_is_cut_off(receiver):
    assert receiver.post(content=b"[" * 2_000_000, headers=TOLD).status_code == 413


def test_an_airflow_that_is_down_gives_502_so_that_the_alert_comes_again(airflow, receiver):
    airflow.broken = True
    answer = receiver.post(json=BODY, headers=TOLD)
    assert (answer.status_code, "503" in answer.json()["error"]["reason"]) == (502, True)
    airflow.broken = False
    assert receiver.results(BODY) == ["started"]
    nowhere = Receiver(environment("http://127.0.0.1:9"))
    answer = nowhere.post(json=BODY, headers=TOLD)
    assert (answer.status_code, "does not answer" in answer.json()["error"]["reason"]) == (502, True)


def test_a_wrong_log_in_gives_502_and_no_password(airflow):
    answer = Receiver(environment(airflow.address, EVERGREEN_AIRFLOW_PASSWORD="geheim")).post(json=BODY, headers=TOLD)
    assert answer.status_code == 502
    assert "EVERGREEN_AIRFLOW_USER" in answer.text
    assert "geheim" not in answer.text


def test_an_airflow_that_makes_everybody_an_admin_needs_no_log_in(airflow):
    airflow.users = None
    open_to_all = Receiver({"EVERGREEN_ALERT_SECRET": SECRET, "EVERGREEN_AIRFLOW_URL": airflow.address})
    assert open_to_all.results(BODY) == ["started"]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"EVERGREEN_ALERT_SECRET": "short"},
        {"EVERGREEN_ALERT_SECRET": SECRET, "EVERGREEN_AIRFLOW_USER": "ops"},
        {"EVERGREEN_ALERT_SECRET": SECRET, "EVERGREEN_AIRFLOW_URL": "airflow:8080"},
    ],
)
def test_half_a_setting_is_refused(environ):
    with pytest.raises(BadConfiguration, match="EVERGREEN_"):
        receiver_settings(environ)


def test_secrets_do_not_show():
    assert "s3cret" not in repr(receiver_settings(environment("http://airflow")))


def test_without_a_secret_it_does_not_start():
    environ = {name: value for name, value in os.environ.items() if not name.startswith("EVERGREEN_")}
    command = [sys.executable, "-W", "error", "-m", "serving.receiver"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: EVERGREEN_ALERT_SECRET")
