"""Random bytes on every door and on the sockets below them: no error of ours, no hang, no growth."""

from __future__ import annotations

import io
import json
import random
import socket
from collections import Counter

import grpc
import httpx
import psutil
import pyarrow as pa
import pytest
from tritonclient.grpc import service_pb2

from serving.doors.grpc_messages import SERVICE
from tests.serving.live_service import free_port, serving, wait_until

SEED = 20250101
ROUNDS = 250
"""Requests to each door, half of them before memory is measured the first time."""
CONNECTION = 13
"""Requests over one connection."""
SOCKETS = 300
GROWTH_BYTES = 8 << 20
"""Of two workers together, from after the first half to the end. One worker alone grew by 1.4 MiB over 38,000 such
requests; the rest is for what one of the two meets for the first time only in the second half."""
ARROW, BINARY = "application/vnd.apache.arrow.stream", "application/octet-stream"
ODD = [b"\x00", b"\xff\xfe", b"NaN", b"1e999", b"-0", b"[" * 2000, b'{"a":' * 500, b"9" * 5000, b'"\\ud800"', b"null",
       b"\r\n", b",,,", b'""', b"\xf0\x9f\x90\x91", b"2147483648", b"[[]]", b"{}", b"true"]  # fmt: skip


def stream() -> bytes:
    """A sound Arrow stream of one row."""
    table = pa.table({"tenure": [3], "charge": [70.5], "plan": ["plus"]})
    sent = io.BytesIO()
    with pa.ipc.new_stream(sent, table.schema) as writer:
        writer.write_table(table)
    return sent.getvalue()


def doors() -> list[tuple[str, str, bytes]]:
    """Path, content type and a sound body of every door that takes one."""
    row = {"tenure": 3, "charge": 70.5, "plan": "plus"}
    tensor = {"name": "tenure", "shape": [1], "datatype": "INT64", "parameters": {"binary_data_size": 8}}
    others = [{"name": "charge", "shape": [1], "datatype": "FP64", "data": [1.5]},
              {"name": "plan", "shape": [1], "datatype": "BYTES", "data": ["plus"]}]  # fmt: skip
    as_json = {
        "/predict": {"features": row, "user_id": "u"},
        "/models/churn/predict": {"features": list(row.values())},
        "/feedback": {"prediction_id": "0" * 32, "actual": 1},
        "/v1/models/churn:predict": {"instances": [row, list(row.values())]},
        "/v1/models/churn/versions/1:predict": {"inputs": {name: [value] for name, value in row.items()}},
        "/v2/models/churn/infer": {"inputs": [{**tensor, "parameters": {}, "data": [3]}, *others]},
        "/invocations": {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}},
    }
    return [
        *((path, "application/json", json.dumps(body).encode()) for path, body in as_json.items()),
        ("/v2/models/churn/infer", BINARY, json.dumps({"inputs": [tensor, *others]}).encode() + bytes(8)),
        ("/invocations", "text/csv", b"tenure,charge,plan\n3,70.5,plus\n"),
        ("/arrow", ARROW, stream()),
    ]


def spoilt(rng: random.Random, body: bytes) -> bytes:
    """Sound bytes with something wrong in them, or nothing but noise."""
    kind = rng.randrange(5)
    if kind == 0:
        return rng.randbytes(rng.randrange(2000))
    changed = bytearray(body)
    at = rng.randrange(len(changed))
    if kind == 1:
        for _ in range(rng.randrange(1, 8)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    elif kind == 2:
        del changed[at : at + rng.randrange(1, len(changed))]
    elif kind == 3:
        changed[at:at] = rng.choice(ODD)
    else:
        changed[at : at + rng.randrange(1, 6)] = rng.choice(ODD)
    return bytes(changed)


def ask(rng: random.Random, address: str, rounds: int) -> Counter:
    """Statuses by door. A new connection now and then, so that every worker meets everything."""
    statuses: Counter = Counter()
    for path, kind, body in doors():
        for start in range(0, rounds, CONNECTION):
            with httpx.Client(base_url=address, timeout=10, verify=False) as client:
                for _ in range(min(CONNECTION, rounds - start)):
                    reply = client.post(path, content=spoilt(rng, body), headers=headers(rng, kind, len(body)))
                    statuses[path, reply.status_code] += 1
    return statuses


def headers(rng: random.Random, kind: str, length: int) -> dict[str, str]:
    """Sound ones for the most part."""
    given = {"content-type": kind}
    if kind == BINARY:
        given["inference-header-content-length"] = str(rng.choice([length - 8, rng.randrange(10**6)]))
    if rng.random() < 0.1:
        given["x-user-id"] = rng.randbytes(20).hex()
        given["x-request-timeout-ms"] = rng.choice(["0", "-1", "nan", "10000", "9" * 30])
    return given


def ask_grpc(rng: random.Random, address: str, rounds: int) -> Counter:
    """Codes by method."""
    sound = service_pb2.ModelInferRequest(model_name="churn", raw_input_contents=[bytes(8), bytes(8), b"\x01\0\0\0a"])
    for name, kind in (("tenure", "INT64"), ("charge", "FP64"), ("plan", "BYTES")):
        sound.inputs.add(name=name, datatype=kind, shape=[1])
    codes: Counter = Counter()
    for _ in range(0, rounds, CONNECTION):
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            for method in ("ModelInfer", "ModelMetadata", "ModelReady"):
                call = channel.unary_unary(f"/{SERVICE}/{method}")
                for _ in range(CONNECTION):
                    try:
                        call(spoilt(rng, sound.SerializeToString()), timeout=10)
                        codes[method, grpc.StatusCode.OK] += 1
                    except grpc.RpcError as error:
                        codes[method, error.code()] += 1
    return codes


def throw(rng: random.Random, host: str, port: int, rounds: int) -> Counter:
    """Bytes that are no request, or only the beginning of one; the first bytes of what comes back."""
    sound = (
        b'POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"a": 1}\n'
    )
    begun: Counter = Counter()
    for _ in range(rounds):
        with socket.create_connection((host, port), timeout=10) as connection:
            connection.settimeout(0.02)
            try:
                connection.sendall(spoilt(rng, sound))
                begun[connection.recv(12)] += 1
            except TimeoutError:
                begun[b"waits"] += 1  # for the rest of it
            except ConnectionError:
                begun[b"closed"] += 1
    return begun


def memory(address: str, pids: list[psutil.Process]) -> int:
    """Bytes of the service that are not shared."""
    assert httpx.get(f"{address}/ready").status_code == 200
    return sum(process.memory_full_info().uss for process in pids)


@pytest.mark.timeout(120)
def test_random_bytes_on_every_door_leave_the_service_ready_and_its_memory_flat(churn):
    rng, port = random.Random(SEED), free_port()
    with serving(churn.settings, "--workers", "2", "--grpc-port", str(port)) as address:
        url = httpx.URL(address)
        wait_until(lambda: httpx.get(f"{address}/ready").status_code == 200)
        service = [p for p in psutil.Process().children(recursive=True) if p.is_running()]
        statuses, codes, begun, sizes = Counter(), Counter(), Counter(), []
        for _ in range(2):
            statuses += ask(rng, address, ROUNDS // 2)
            codes += ask_grpc(rng, f"127.0.0.1:{port}", ROUNDS // 2)
            begun += throw(rng, url.host, url.port, SOCKETS // 2)
            throw(rng, "127.0.0.1", port, SOCKETS // 20)
            sizes.append(memory(address, service))
        assert {p.pid for p in service} == {p.pid for p in service if p.is_running()}  # none was started anew
        answer = httpx.post(f"{address}/predict", json={"features": churn.rows[0]})
        assert answer.json()["prediction"] == churn.labels[0]
    assert [key for key in statuses if key[1] >= 500] == []
    good = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
    assert {code for _, code in codes} <= good
    assert not any(first.startswith(b"HTTP/1.1 5") for first in begun)
    assert sum(count for (_, status), count in statuses.items() if status == 200) > 0
    assert sizes[1] - sizes[0] < GROWTH_BYTES, sizes
