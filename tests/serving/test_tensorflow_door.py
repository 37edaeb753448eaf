"""TensorFlow Serving's documented requests and responses, https://www.tensorflow.org/tfx/serving/api_rest."""

from __future__ import annotations

import httpx
import numpy as np
import pytest

from tests.serving.conftest import home
from tests.serving.live_service import deploy, serving

CLOSE = 1e-6


@pytest.fixture(scope="module")
def client(live):
    with httpx.Client(base_url=live.address) as client:
        yield client


def by_column(model):
    return {name: [row[name] for row in model.rows] for name in model.rows[0]}


def test_rows_and_columns_are_answered_under_the_documented_keys(live, client):
    model = live.model
    for path in ("/v1/models/churn:predict", "/v1/models/churn/versions/1:predict"):
        rows = client.post(path, json={"signature_name": "serving_default", "instances": model.rows})
        assert list(rows.json()) == ["predictions"]
        assert np.array(rows.json()["predictions"]) == pytest.approx(model.scores, abs=CLOSE)
        columns = client.post(path, json={"inputs": by_column(model)})
        assert list(columns.json()) == ["outputs"]
        assert np.array(columns.json()["outputs"]) == pytest.approx(model.scores, abs=CLOSE)


def test_the_signature_of_labels_gives_labels(live, client):
    asked = {"signature_name": "labels", "instances": [list(row.values()) for row in live.model.rows]}
    assert client.post("/v1/models/churn:predict", json=asked).json() == {"predictions": live.model.labels}


def test_what_curl_sends_without_a_content_type_is_taken(live, client):
    body = b'{"instances": [{"tenure": NaN, "charge": 70.5, "plan": null}]}'
    headers = {"content-type": "application/x-www-form-urlencoded"}
    reply = client.post("/v1/models/churn:predict", content=body, headers=headers)
    assert reply.status_code == 200


def test_a_single_input_is_given_without_its_name(tmp_path):
    model = deploy(home(tmp_path), "bill", "sklearn.linear_model.Ridge", "bill", features=("tenure",))
    values = [row["tenure"] for row in model.rows]
    with serving(model.settings) as address:
        truth = pytest.approx(model.scores, abs=CLOSE)
        for asked, key in (
            ({"instances": values}, "predictions"), ({"instances": [[one] for one in values]}, "predictions"),
            ({"instances": [{"tenure": one} for one in values]}, "predictions"), ({"inputs": values}, "outputs"),
            ({"inputs": {"tenure": values}}, "outputs"), ({"inputs": {"tenure": [[v] for v in values]}}, "outputs"),
        ):  # fmt: skip
            reply = httpx.post(f"{address}/v1/models/bill:predict", json=asked)
            assert np.array(reply.json()[key]) == truth, asked


def test_status_and_metadata_have_the_documented_shape(client):
    fine = {"error_code": "OK", "error_message": ""}
    available = {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": fine}]}
    assert client.get("/v1/models/churn").json() == client.get("/v1/models/churn/versions/1").json() == available
    told = client.get("/v1/models/churn/metadata").json()
    assert told["model_spec"] == {"name": "churn", "signature_name": "", "version": "1"}
    definitions = told["metadata"]["signature_def"]["signature_def"]
    assert set(definitions) == {"serving_default", "labels"}
    plan = definitions["serving_default"]["inputs"]["plan"]
    assert plan == {
        "dtype": "DT_STRING", "name": "plan:0",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
    }  # fmt: skip
    assert definitions["labels"]["outputs"]["labels"]["dtype"] == "DT_INT64"
    assert definitions["serving_default"]["method_name"] == "tensorflow/serving/predict"


@pytest.mark.parametrize(("path", "asked", "status", "reason"), [
    ("churn:predict", {"instances": [{"tenure": "long", "charge": 1, "plan": "plus"}]}, 400, "tenure: must be a num"),
    ("churn:predict", {"instances": [], "inputs": []}, 400, "exactly one"),
    ("churn:predict", {"instances": {}}, 400, "instances: must be a list"),
    ("churn:predict", {"instances": []}, 400, "there is no row"),
    ("churn:predict", {"inputs": {"tenure": [1], "charge": [1, 2], "plan": ["plus"]}}, 400, "charge: has the shape"),
    ("churn:predict", {"inputs": {"tenure": [[1, 2]], "charge": [1], "plan": ["plus"]}}, 400, "tenure: must be a num"),
    ("churn:predict", {"inputs": {"tenure": 1, "charge": [1], "plan": ["plus"]}}, 400, "tenure: must be a list"),
    ("churn:predict", {"instances": [[1, 10**400, "plus"]]}, 400, "the body is no JSON"),
    ("churn:predict", {"signature_name": "sheep", "instances": []}, 400, "signature_name"),
    ("churn/versions/7:predict", {"instances": []}, 404, "version 7"),
    ("sheep:predict", {"instances": []}, 404, "no model 'sheep'"),
])  # fmt: skip
def test_a_refusal_is_one_error_in_words(client, path, asked, status, reason):
    reply = client.post(f"/v1/models/{path}", json=asked)
    assert reply.status_code == status
    assert list(reply.json()) == ["error"]
    assert reason in reply.json()["error"]


def test_the_wrong_method_is_refused_in_the_words_of_the_protocol(client):
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"):
        reply = client.request(method, "/v1/models/churn:predict")
        assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
        assert method == "HEAD" or list(reply.json()) == ["error"]
    assert client.post("/v1/models/churn").headers["allow"] == "GET"


def test_a_name_with_odd_characters_is_a_model_that_is_not_there(client):
    for name in ("a%2Fb", "a%3Ab", "%00", "%F0%9F%90%91", "a%25b", "..%2F..%2Fetc"):
        reply = client.post(f"/v1/models/{name}:predict", json={"instances": []})
        assert reply.status_code == 404
        assert list(reply.json()) == ["error"]
