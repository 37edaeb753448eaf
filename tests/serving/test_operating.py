"""Who may ask what, how much at once, and what an operator can order of a running service."""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading

import grpc
import httpx
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from pipeline.errors import BadConfiguration
from pipeline.rollout import RolloutStore
from serving.keys import Keys, hashed
from serving.orders import OrderFile, Orders
from serving.serving_settings import serving_settings
from tests.serving.live_service import deploy, free_port, running, serving, wait_until

TOKEN = "the-token-of-this-test"
NEIGHBOURS = "sklearn.neighbors.KNeighborsClassifier"
"""It has no fast form, so that its calls take milliseconds and many can wait."""


@pytest.fixture
def deployed(settings):
    return deploy(settings)


def test_with_keys_only_those_who_bring_one_are_answered_at_any_door(deployed, settings):
    environ = {"EVERGREEN_API_KEYS": f"{hashed('first-key')},{hashed('second-key')}"}
    ask = {"json": {"features": deployed.rows[0]}}
    tensorflow = {"json": {"instances": [deployed.rows[0]]}}
    with serving(settings, environ=environ) as address:
        for path, asked in (("/predict", ask), ("/v1/models/churn:predict", tensorflow)):
            for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": "Basic first-key"}):
                assert httpx.post(address + path, headers=headers, **asked).status_code == 401
            for headers in ({"X-API-Key": "first-key"}, {"Authorization": "Bearer second-key"}):
                assert httpx.post(address + path, headers=headers, **asked).status_code == 200
        assert httpx.get(f"{address}/health").status_code == 200


def test_a_key_in_the_place_of_its_hash_is_refused_at_the_start():
    with pytest.raises(BadConfiguration, match="SHA-256"):
        Keys(["first-key"])
    with pytest.raises(BadConfiguration, match="at least 16 characters"):
        serving_settings({"EVERGREEN_ADMIN_TOKEN": "short"})


def ask_at_once(address: str, row: dict, headers: dict[str, str]) -> list[httpx.Response]:
    """What eight callers, ten times each, are answered."""
    answers: list[httpx.Response] = []

    def ask() -> None:
        for _ in range(10):
            answers.append(httpx.post(f"{address}/predict", json={"features": row}, headers=headers, timeout=30))

    callers = [threading.Thread(target=ask) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return answers


def test_more_requests_than_allowed_at_once_are_told_to_come_again_and_are_counted(settings):
    deployed = deploy(settings, path=NEIGHBOURS)
    with serving(settings, environ={"EVERGREEN_MAX_CONCURRENCY": "2"}) as address:
        answers = ask_at_once(address, deployed.rows[0], {})
        turned_away = [one for one in answers if one.status_code == 429]
        assert {one.status_code for one in answers} == {200, 429}
        assert {one.headers["retry-after"] for one in turned_away} == {"1"}
        counted = f"model_requests_turned_away_total {len(turned_away)}.0"
        wait_until(lambda: counted in httpx.get(f"{address}/metrics").text)


def test_a_request_whose_deadline_has_passed_is_not_scored_and_is_told_so(settings):
    deployed = deploy(settings, path=NEIGHBOURS)
    with serving(settings) as address:
        answers = ask_at_once(address, deployed.rows[0], {"X-Request-Timeout-Ms": "1"})
        late = [one for one in answers if one.status_code == 504]
        assert late
        assert "deadline" in late[0].json()["error"]["reason"]
        scored = f'variant="champion",version="1"}} {len(answers) - len(late)}.0'
        assert scored in httpx.get(f"{address}/metrics").text
        (refused,) = {one.status_code for one in ask_at_once(address, deployed.rows[0], {"X-Request-Timeout-Ms": "x"})}
        assert refused == 422


def test_a_request_keeps_its_name(deployed, settings):
    with serving(settings) as address:
        ask = {"features": deployed.rows[0]}
        answer = httpx.post(f"{address}/predict", json=ask, headers={"X-Request-Id": "abc-1"})
        assert answer.headers["x-request-id"] == "abc-1"
        assert "x-request-id" not in httpx.post(f"{address}/predict", json=ask).headers


def test_orders_need_the_token_and_without_one_there_are_none(deployed, settings):
    with serving(settings) as address:
        assert httpx.post(f"{address}/admin/reload").status_code == 404
    with serving(settings, environ={"EVERGREEN_ADMIN_TOKEN": TOKEN}) as address:
        assert httpx.post(f"{address}/admin/reload").status_code == 401
        wrong = {"Authorization": f"Bearer {TOKEN}x"}
        assert httpx.post(f"{address}/admin/reload", headers=wrong).status_code == 401


def test_orders_reach_every_worker_and_a_pinned_service_fails_a_deployment_and_answers_on(deployed, settings):
    right = {"Authorization": f"Bearer {TOKEN}"}
    with (
        serving(settings, "--workers", "2", environ={"EVERGREEN_ADMIN_TOKEN": TOKEN}) as address,
        RolloutStore(settings.database_url) as store,
        httpx.Client(base_url=f"{address}/admin", headers=right) as admin,
    ):
        wait_until(lambda: len(store.servers("churn")) == 2)
        assert admin.post("/models/other/pin").status_code == 404
        assert admin.post("/models/churn/pin").json()["pinned"] == ["churn"]
        rollout = store.get("churn")
        staged = store.stage("churn", rollout.active, rollout.generation)
        wait_until(lambda: [one.staged_state for one in store.servers("churn")] == ["failed"] * 2)
        assert "pinned" in store.servers("churn")[0].detail
        assert httpx.post(f"{address}/predict", json={"features": deployed.rows[0]}).status_code == 200
        again = store.unstage("churn", staged.generation)
        assert admin.post("/models/churn/unpin").json()["pinned"] == []
        store.stage("churn", rollout.active, again.generation)
        wait_until(lambda: [one.staged_state for one in store.servers("churn")] == ["ready"] * 2)
        assert admin.post("/reload").json()["reloads"] == 1
        assert admin.post("/log-level", json={"level": "DEBUG"}).json()["log_level"] == "DEBUG"
        assert admin.post("/log-level", json={"level": "LOUD"}).status_code == 422
        assert httpx.post(f"{address}/predict", json={"features": deployed.rows[0]}).status_code == 200


def test_orders_are_written_whole_and_are_nothing_at_the_start(tmp_path):
    orders = OrderFile(tmp_path)
    assert orders.read() == Orders()
    orders.change(log_level="ERROR")
    assert OrderFile(tmp_path).change(pinned=("churn",)) == Orders("ERROR", 0, ("churn",))
    assert [path.name for path in tmp_path.iterdir()] == ["orders.json"]


def test_a_service_with_a_certificate_speaks_tls_over_http_and_grpc(deployed, settings, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]  # fmt: skip
    subprocess.run(made, check=True, capture_output=True)
    port, grpc_port = free_port(), free_port()
    command = [
        sys.executable, "-m", "serving", "--port", str(port), "--grpc-port", str(grpc_port),
        "--certificate", str(certificate), "--private-key", str(key),
    ]  # fmt: skip
    trust = ssl.create_default_context(cafile=str(certificate))
    with running(command, {"EVERGREEN_HOME": str(settings.home)}), httpx.Client(verify=trust) as client:
        ask = {"features": deployed.rows[0]}
        wait_until(lambda: client.post(f"https://localhost:{port}/predict", json=ask).status_code == 200)
        trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
        with grpc.secure_channel(f"localhost:{grpc_port}", trusted) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            assert stub.ModelReady(service_pb2.ModelReadyRequest(name=deployed.name), timeout=20).ready
        with grpc.insecure_channel(f"localhost:{grpc_port}") as channel, pytest.raises(grpc.RpcError):
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerLive(service_pb2.ServerLiveRequest(), timeout=5)
