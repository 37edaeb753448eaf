"""The gRPC door beside what a friendly client does: bounds, keys, deadlines, and messages that are none."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.doors.grpc_messages import SERVICE, SOURCE, messages
from serving.keys import hashed
from tests.predictions import logged
from tests.serving.live_service import free_port, serving, wait_until

CODE = grpc.StatusCode


@pytest.fixture
def stub(live):
    with grpc.insecure_channel(live.grpc) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def asked(**more):
    """One row in the lists of its types."""
    request = service_pb2.ModelInferRequest(model_name="churn", **more)
    for name, kind, field, value in (
        ("tenure", "INT64", "int64_contents", 3), ("charge", "FP64", "fp64_contents", 70.5),
        ("plan", "BYTES", "bytes_contents", b"basic"),
    ):  # fmt: skip
        tensor = request.inputs.add(name=name, datatype=kind, shape=[1])
        getattr(tensor.contents, field).append(value)
    return request


def refusal(call, *arguments, **more):
    with pytest.raises(grpc.RpcError) as refused:
        call(*arguments, **more)
    return refused.value


def fields(descriptor):
    return {
        field.name: (
            field.number, field.type, field.is_repeated, field.message_type and field.message_type.full_name,
            field.containing_oneof and field.containing_oneof.name,
        )
        for field in descriptor.fields
    }  # fmt: skip


def test_our_messages_are_those_of_triton_field_by_field():
    for name, kind in messages().items():
        theirs = getattr(service_pb2, name).DESCRIPTOR
        assert fields(kind.DESCRIPTOR) == fields(theirs)
        for nested in kind.DESCRIPTOR.nested_types:
            assert fields(nested) == fields(theirs.nested_types_by_name[nested.name])
            assert nested.has_options == theirs.nested_types_by_name[nested.name].has_options
    told = set(re.findall(r"rpc (\w+)", SOURCE.read_text()))
    assert told <= set(service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name)
    assert service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name == SERVICE


def test_typed_contents_are_answered_in_typed_contents(live, stub):
    answer = stub.ModelInfer(asked(id="a"))
    truth = httpx.post(f"{live.address}/predict", json={"features": [3, 70.5, "basic"]}).json()
    prediction, confidence, scores = answer.outputs
    assert list(prediction.contents.int64_contents) == [truth["prediction"]]
    assert list(confidence.contents.fp64_contents) == pytest.approx([truth["confidence"]])
    assert (list(scores.shape), len(scores.contents.fp64_contents)) == ([1, 2], 2)
    assert (answer.id, answer.model_version, len(answer.raw_output_contents)) == ("a", "1", 0)


def test_an_answer_is_written_down_with_its_user(live, stub):
    stub.ModelInfer(asked(), metadata=[("x-user-id", "grpc-user")])

    def found():
        return [one for one in logged(live.model.settings.log) if one["user_id"] == "grpc-user"]

    wait_until(lambda: len(found()) == 1)
    assert found()[0]["features"] == {"tenure": 3.0, "charge": 70.5, "plan": "basic"}


def test_contents_that_do_not_fit_are_refused_with_the_tensor_and_the_reason(stub):
    wrong = asked()
    wrong.inputs[1].contents.fp64_contents.append(1.0)
    twice = asked(raw_input_contents=[b"", b"", b""])
    other = asked()
    other.inputs[0].datatype = "FP32"
    half = asked()
    half.inputs[1].datatype = "FP16"
    wild = asked()
    wild.inputs[1].shape[:] = [2**40, 2**40]
    unknown = asked()
    unknown.inputs[1].datatype = "COMPLEX"
    nothing = service_pb2.ModelInferRequest(model_name="churn")
    for request, reason in (
        (wrong, "charge: has 2 values"), (twice, "either contents or raw"), (other, "tenure: FP32 is given in fp32"),
        (half, "charge: FP16 is given in raw"), (wild, "charge: its shape"), (unknown, "charge: its datatype"),
        (nothing, "inputs: must be from 1"), (asked(outputs=[{"name": "sheep"}]), "outputs: 'sheep' is none of"),
        (asked(raw_input_contents=[b"x"]), "1 raw_input_contents for 3 inputs"),
    ):  # fmt: skip
        error = refusal(stub.ModelInfer, request)
        assert error.code() == CODE.INVALID_ARGUMENT
        assert reason in error.details()


def test_bytes_that_are_no_message_and_methods_that_are_none(live):
    with grpc.insecure_channel(live.grpc) as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        assert refusal(call, b"\xff\xff\xff").code() == CODE.INVALID_ARGUMENT
        assert refusal(channel.unary_unary(f"/{SERVICE}/ModelStreamInfer"), b"").code() == CODE.UNIMPLEMENTED
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"") == b"\x08\x01"


def test_a_deadline_that_passes_and_a_message_that_is_too_large(live, stub):
    assert refusal(stub.ModelInfer, asked(), timeout=0.000_1).code() == CODE.DEADLINE_EXCEEDED
    large = asked()
    large.inputs[2].contents.bytes_contents[0] = b"x" * (9 << 20)
    assert refusal(stub.ModelInfer, large).code() == CODE.RESOURCE_EXHAUSTED
    assert stub.ModelInfer(asked()).model_version == "1"


def test_keys_and_the_bound_on_concurrency_hold_here_too(churn):
    port, key = free_port(), "a-key-of-this-test"
    environ = {"EVERGREEN_API_KEYS": hashed(key), "EVERGREEN_MAX_CONCURRENCY": "2"}
    with (
        serving(churn.settings, "--grpc-port", str(port), environ=environ) as address,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert refusal(stub.ModelInfer, asked()).code() == CODE.UNAUTHENTICATED
        assert refusal(stub.ServerLive, service_pb2.ServerLiveRequest()).code() == CODE.UNAUTHENTICATED
        wrong = [("authorization", "Bearer other")]
        assert refusal(stub.ModelInfer, asked(), metadata=wrong).code() == CODE.UNAUTHENTICATED
        right = [("authorization", f"Bearer {key}")]
        assert stub.ModelInfer(asked(), metadata=right).model_version == "1"
        assert stub.ModelInfer(asked(), metadata=[("x-api-key", key)]).model_version == "1"

        many = asked()
        rows = 20_000  # takes long enough for others to come meanwhile
        for tensor, field in zip(many.inputs, ("int64_contents", "fp64_contents", "bytes_contents"), strict=True):
            tensor.shape[:] = [rows]
            values = getattr(tensor.contents, field)
            values.extend([values[0]] * (rows - 1))
        with ThreadPoolExecutor(12) as threads:
            calls = [threads.submit(stub.ModelInfer, many, metadata=right) for _ in range(24)]
            errors = [error for call in calls if (error := call.exception()) is not None]
        assert 0 < len(errors) < 24
        assert {error.code() for error in errors} == {CODE.RESOURCE_EXHAUSTED}
        assert dict(errors[0].trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
        assert f"model_requests_turned_away_total {len(errors)}.0" in httpx.get(f"{address}/metrics").text


def test_two_workers_share_the_port_and_the_metrics(churn):
    port = free_port()
    with serving(churn.settings, "--workers", "2", "--grpc-port", str(port)) as address:
        end = time.monotonic() + 30
        answered = 0
        while time.monotonic() < end and answered < 40:
            # A connection goes to one worker, whichever the kernel picks; each of these is a new one.
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
                stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
                stub.ModelInfer(asked(), wait_for_ready=True, timeout=10)
                answered += 1
        text = httpx.get(f"{address}/metrics").text
    assert 'model_predictions_total{model="churn",variant="champion",version="1"} 40.0' in text


def test_a_port_that_is_taken_is_said_so(live, churn):
    port = live.grpc.partition(":")[2]
    command = [sys.executable, "-m", "serving", "--port", str(free_port()), "--grpc-port", port]
    environ = {"EVERGREEN_HOME": str(churn.settings.home), "PATH": "/usr/bin"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert f"cannot listen for gRPC on 127.0.0.1:{port}" in done.stderr


def test_without_the_door_grpc_is_not_loaded():
    code = (
        "import sys, serving.app; print([name for name in ('grpc', 'google.protobuf', 'flask') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
