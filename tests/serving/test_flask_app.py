"""The Flask application, under gunicorn and without it."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager

import httpx
import pytest

from pipeline.package_files import read_golden
from pipeline.rollout import RolloutStore
from serving.flask_app import create_app
from serving.keys import hashed
from serving.serving_settings import ServingSettings
from tests.predictions import logged
from tests.serving.live_service import free_port, running, wait_until


@contextmanager
def gunicorn(settings, *arguments, **environ):
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--config", "python:serving.gunicorn_conf", "-b", f"127.0.0.1:{port}",
               "--log-level", "warning", *arguments, "serving.flask_app:create_app()"]  # fmt: skip
    with running(command, {"EVERGREEN_HOME": str(settings.home), **environ}):
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: httpx.get(f"{address}/health").status_code == 200)
        yield address


def of_users(settings, *users):
    return [one for one in logged(settings.log) if one["user_id"] in users]


@pytest.fixture
def client(churn):
    app = create_app(churn.settings)
    yield app.test_client()
    app.extensions["evergreen"]().stop()


def test_the_form_that_tutorials_teach_is_answered_with_an_integer(churn):
    row = churn.rows[0]
    with gunicorn(churn.settings) as address:
        assert httpx.get(f"{address}/health").json() == {"status": "healthy"}
        answer = httpx.post(f"{address}/predict", json={"features": list(row.values())}).json()
    assert answer["prediction"] == churn.labels[0]
    assert type(answer["prediction"]) is int
    assert answer["confidence"] == pytest.approx(churn.scores[0].max(), abs=1e-6)
    assert set(answer) == {"prediction", "confidence", "model_version", "variant", "prediction_id"}


def test_the_registered_rows_come_out_the_same(churn, client):
    rows, scores = read_golden(churn.folder)
    for row, truth in zip(rows, scores, strict=True):
        answer = client.post("/models/churn/predict", json={"features": row}).get_json()
        assert answer["confidence"] == pytest.approx(max(truth), abs=1e-6)
        assert answer["prediction"] == int(truth[1] >= 0.5)


@pytest.mark.parametrize("form", [("-w", "2"), ("-w", "2", "--preload"), ("-w", "1", "--threads", "4")])
@pytest.mark.parametrize("mode", ["fast", "strict"])
def test_workers_and_threads_lose_no_answer_and_count_together(churn, form, mode):
    users = [f"{mode}-{'-'.join(form)}-{number}" for number in range(8)]
    store = RolloutStore(churn.settings.database_url)
    before = {server.server_id for server in store.servers("churn")}
    with gunicorn(churn.settings, *form, EVERGREEN_LOG_MODE=mode) as address:

        def ask(user):
            with httpx.Client(base_url=address) as client:
                for _ in range(25):
                    assert client.post("/predict", json={"features": churn.rows[1], "user_id": user}).status_code == 200

        callers = [threading.Thread(target=ask, args=(user,)) for user in users]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        text = httpx.get(f"{address}/metrics").text
    assert 'model_predictions_total{model="churn",variant="champion",version="1"} 200.0' in text
    assert 'model_ready{model="churn"} 1.0' in text
    found = of_users(churn.settings, *users)
    assert len({one["prediction_id"] for one in found}) == 200
    assert all(one["features"] == churn.rows[1] for one in found)
    assert {server.server_id for server in store.servers("churn")} == before  # all have signed off


def test_a_label_counts_once(churn, client):
    prediction = client.post("/predict", json={"features": churn.rows[0]}).get_json()["prediction_id"]
    label = {"prediction_id": prediction, "actual": 1}
    assert [client.post("/feedback", json=label).get_json()["first"] for _ in range(2)] == [True, False]


def test_refusals_look_like_those_of_the_other_service(client):
    for method, path, body, status, reason in (
        ("POST", "/predict", b"{", 422, "no JSON"), ("POST", "/predict", b"[]", 422, "JSON object"),
        ("POST", "/predict", b'{"features": [1]}', 422, "1 values for the 3 features"),
        ("POST", "/predict", b'{"features": [1, "x", "y"]}', 422, "must be a number"),
        ("POST", "/models/sheep/predict", b'{"features": []}', 404, "no model 'sheep'"),
        ("POST", "/feedback", b"{}", 422, "a label is"), ("GET", "/nothing", b"", 404, "not found"),
        ("GET", "/predict", b"", 405, "not allowed"), ("POST", "/predict", b"x" * (9 << 20), 413, "larger than"),
    ):  # fmt: skip
        reply = client.open(path, method=method, data=body)
        assert (reply.status_code, list(reply.get_json())) == (status, ["error"])
        assert reason in reply.get_json()["error"]["reason"]
    assert client.get("/predict").headers["allow"] == "OPTIONS, POST"
    late = client.post("/predict", data=b"{}", headers={"x-request-timeout-ms": "soon"})
    assert late.status_code == 422


def test_keys_are_asked_for_where_there_are_some(churn):
    app = create_app(churn.settings, limits=ServingSettings(key_hashes=(hashed("key"),)))
    client = app.test_client()
    ask = {"features": churn.rows[0]}
    assert client.post("/predict", json=ask).status_code == 401
    assert client.post("/predict", json=ask, headers={"X-API-Key": "key"}).status_code == 200
    assert client.get("/health").status_code == 200
    app.extensions["evergreen"]().stop()


def test_without_a_model_it_is_healthy_and_not_ready(settings):
    app = create_app(settings)
    client = app.test_client()
    assert client.get("/health").status_code == 200
    assert client.get("/ready").status_code == 503
    refused = client.post("/predict", json={"features": []})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    app.extensions["evergreen"]().stop()
