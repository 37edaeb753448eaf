"""The doors, asked by clients that others wrote; every answer held against scikit-learn's."""

from __future__ import annotations

import io

import httpx
import numpy as np
import pyarrow as pa
import pytest
import tritonclient.grpc
import tritonclient.http
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from tritonclient.utils import InferenceServerException

from pipeline.core.package import rows_to_columns
from pipeline.package_files import read_golden, read_package
from tests.serving.live_service import Deployed

CLOSE = 1e-6
"""What golden rows allow."""


def filled(model: Deployed) -> list[int]:
    """Places of the rows without a missing value."""
    return [place for place, row in enumerate(model.rows) if None not in row.values()]


def tensors(client, model: Deployed, places: list[int], **more):
    """A tensor a feature; a missing number is NaN, a missing text empty."""
    frame = model.frame.iloc[places]
    texts = frame["plan"].fillna("").to_numpy(dtype=object)
    made = []
    for name, kind, values in (
        ("tenure", "INT64", frame["tenure"].to_numpy().astype(np.int64)),
        ("charge", "FP64", frame["charge"].to_numpy()),
        ("plan", "BYTES", texts),
    ):
        one = client.InferInput(name, [len(frame)], kind)
        one.set_data_from_numpy(values, **more)
        made.append(one)
    return made


def assert_true(result, model: Deployed, places: list[int]) -> None:
    assert result.as_numpy("prediction").tolist() == [model.labels[place] for place in places]
    assert result.as_numpy("scores") == pytest.approx(model.scores[places], abs=CLOSE)
    assert result.as_numpy("confidence") == pytest.approx(model.scores[places].max(axis=1), abs=CLOSE)


@pytest.fixture
def triton_http(live):
    with tritonclient.http.InferenceServerClient(live.address.removeprefix("http://")) as client:
        yield client


@pytest.fixture
def triton_grpc(live):
    with tritonclient.grpc.InferenceServerClient(live.grpc) as client:
        yield client


def test_tritons_http_client_gets_scikit_learns_answers_in_binary_and_in_json(live, triton_http):
    every = list(range(len(live.model.rows)))
    binary = tensors(tritonclient.http, live.model, every)
    assert_true(triton_http.infer("churn", binary), live.model, every)
    places = filled(live.model)
    as_json = tensors(tritonclient.http, live.model, places, binary_data=False)
    outputs = [tritonclient.http.InferRequestedOutput(name, binary_data=False)
               for name in ("scores", "confidence", "prediction")]  # fmt: skip
    result = triton_http.infer("churn", as_json, model_version="1", outputs=outputs, request_id="r1")
    assert_true(result, live.model, places)
    assert result.get_response()["id"] == "r1"


def test_tritons_grpc_client_gets_scikit_learns_answers(live, triton_grpc):
    every = list(range(len(live.model.rows)))
    result = triton_grpc.infer("churn", tensors(tritonclient.grpc, live.model, every), request_id="r1")
    assert_true(result, live.model, every)
    assert result.get_response().id == "r1"
    only = [tritonclient.grpc.InferRequestedOutput("prediction")]
    result = triton_grpc.infer("churn", tensors(tritonclient.grpc, live.model, every), outputs=only)
    assert result.as_numpy("prediction").tolist() == live.model.labels
    assert result.as_numpy("scores") is None


def test_triton_finds_out_what_is_served(live, triton_http, triton_grpc):
    for client, more in ((triton_http, {}), (triton_grpc, {"as_json": True})):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("churn")
        assert client.is_model_ready("churn", "1")
        assert not client.is_model_ready("churn", "2")
        assert not client.is_model_ready("sheep")
        assert client.get_server_metadata(**more)["name"] == "evergreen"
        told = client.get_model_metadata("churn", **more)
        assert [(one["name"], one["datatype"]) for one in told["inputs"]] == [
            ("tenure", "FP64"), ("charge", "FP64"), ("plan", "BYTES"),
        ]  # fmt: skip
        assert [one["name"] for one in told["outputs"]] == ["prediction", "confidence", "scores"]


def test_triton_is_told_what_is_wrong(live, triton_http, triton_grpc):
    for client, module, missing, invalid in (
        (triton_http, tritonclient.http, "404", "400"),
        (triton_grpc, tritonclient.grpc, "StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT"),
    ):
        whole = tensors(module, live.model, [0, 1])
        for arguments, status, reason in (
            (("sheep", whole), missing, "no model 'sheep'"),
            (("churn", whole, "7"), missing, "version 7"),
            (("churn", whole[:2]), invalid, "plan: is missing"),
            (("churn", [*whole, whole[0]]), invalid, "tenure: is given twice"),
        ):
            with pytest.raises(InferenceServerException, match=reason) as refused:
                client.infer(*arguments)
            assert refused.value.status() == status


def test_mlflows_client_scores_a_frame_with_texts_and_missing_values(live):
    url = httpx.URL(live.address)
    client = ScoringServerClient(url.host, url.port)
    client.wait_server_ready(timeout=10)
    assert client.get_version().startswith("3.")
    assert client.invoke(live.model.frame).get_predictions()[0].tolist() == live.model.labels
    shuffled = live.model.frame[["plan", "tenure", "charge"]]
    assert client.invoke(shuffled, params={}).get_predictions()[0].tolist() == live.model.labels
    rows = [list(row.values()) for row in live.model.rows]
    assert client.invoke(rows).get_predictions()[0].tolist() == live.model.labels
    with pytest.raises(Exception, match="charge: is missing"):
        client.invoke(live.model.frame[["plan", "tenure"]])


def test_mlflow_takes_records_and_csv(live):
    address, model = f"{live.address}/invocations", live.model
    records = httpx.post(address, json={"dataframe_records": model.rows})
    table = io.StringIO()
    model.frame.to_csv(table, index=False)
    lines = httpx.post(address, content=table.getvalue(), headers={"content-type": "text/csv; charset=utf-8"})
    assert records.json() == lines.json() == {"predictions": model.labels}
    wrong = httpx.post(address, json={"dataframe_records": [{"tenure": "long"}]})
    assert wrong.status_code == 400
    assert set(wrong.json()) == {"error_code", "message"}
    other = httpx.post(address, content=b"x", headers={"content-type": "application/parquet"})
    assert other.status_code == 415


@pytest.mark.parametrize("chunks", [1, 3])
def test_arrow_streams_of_several_batches_and_types_are_answered_in_their_order(live, chunks):
    frame = live.model.frame
    table = pa.table({
        "plan": pa.array(frame["plan"], pa.string(), from_pandas=True).dictionary_encode(),
        "tenure": pa.array(frame["tenure"].astype(int), pa.int16()),
        "charge": pa.array(frame["charge"], pa.float64(), from_pandas=True),
    })  # fmt: skip
    sent = io.BytesIO()
    with pa.ipc.new_stream(sent, table.schema) as stream:
        for batch in table.to_batches(max_chunksize=-(-len(frame) // chunks)):
            stream.write_batch(batch)
    reply = httpx.post(
        f"{live.address}/arrow", content=sent.getvalue(),
        headers={"content-type": "application/vnd.apache.arrow.stream"},
    )  # fmt: skip
    with pa.ipc.open_stream(reply.content) as stream:
        answers = stream.read_all()
    assert answers["prediction"].to_pylist() == live.model.labels
    assert np.array(answers["scores"].to_pylist()) == pytest.approx(live.model.scores, abs=CLOSE)
    assert answers.schema.metadata[b"model_version"] == b"1"


def test_every_door_gives_the_answers_that_the_package_registered(live):
    rows, registered = read_golden(live.model.folder)
    predictor = read_package(live.model.folder).predictor
    truth = predictor.predict(rows_to_columns(rows, predictor.signature)).labels
    own = [httpx.post(f"{live.address}/predict", json={"features": row}).json() for row in rows]
    scores = httpx.post(f"{live.address}/v1/models/churn:predict", json={"instances": rows}).json()["predictions"]
    inputs = [
        {"name": name, "shape": [len(rows)], "datatype": kind, "data": [row[name] for row in rows]}
        for name, kind in (("tenure", "FP64"), ("charge", "FP64"), ("plan", "BYTES"))
    ]
    inferred = httpx.post(f"{live.address}/v2/models/churn/infer", json={"inputs": inputs}).json()["outputs"]
    scored = httpx.post(f"{live.address}/invocations", json={"dataframe_records": rows}).json()["predictions"]
    assert [one["prediction"] for one in own] == inferred[0]["data"] == scored == truth
    assert np.array(scores) == pytest.approx(np.array(registered), abs=CLOSE)
    assert np.array(inferred[2]["data"]).reshape(-1, 2) == pytest.approx(np.array(registered), abs=CLOSE)
