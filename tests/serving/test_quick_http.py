"""Answers written without a task of their own are the answers that the usual way gives, whatever HTTP brings."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from pipeline.rollout import RolloutStore
from tests.serving.live_service import Deployed, deploy, serving, wait_until


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[tuple[Deployed, str]]:
    """A deployed model, and the service that answers for it."""
    from pipeline.settings import load_settings

    home = tmp_path_factory.mktemp("quick")
    deployed = deploy(load_settings({"EVERGREEN_HOME": str(home)}))
    with serving(deployed.settings) as address:
        yield deployed, address


def request(row: dict, *headers: str, path: str = "/predict", version: str = "1.1") -> bytes:
    body = json.dumps({"features": row}).encode()
    lines = [f"POST {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def connect(address: str) -> socket.socket:
    url = httpx.URL(address)
    return socket.create_connection((url.host, url.port), timeout=20)


def answers(link: socket.socket, count: int) -> list[tuple[int, dict[str, str], dict]]:
    """Status, headers and content of the next answers on a connection."""
    stream, found = link.makefile("rb"), []
    with stream:
        for _ in range(count):
            status = int(stream.readline().split()[1])
            headers = {}
            while (line := stream.readline().strip()) != b"":
                name, _, value = line.decode().partition(": ")
                headers[name] = value
            found.append((status, headers, json.loads(stream.read(int(headers["content-length"])))))
    return found


def test_requests_that_come_in_one_piece_are_answered_in_their_order(world):
    deployed, address = world
    bad = {"tenure": "long", "charge": 1, "plan": "plus"}
    rows = [*deployed.rows, bad, *deployed.rows]
    with connect(address) as link:
        link.sendall(b"".join(request(row, f"X-Request-Id: {place}") for place, row in enumerate(rows)))
        found = answers(link, len(rows))
    assert [headers["x-request-id"] for _, headers, _ in found] == [str(place) for place in range(len(rows))]
    labels = [*deployed.labels, None, *deployed.labels]
    assert [content.get("prediction") for _, _, content in found] == labels
    assert [status for status, _, _ in found] == [200 if label is not None else 422 for label in labels]


def test_a_thousand_refused_requests_that_waited_behind_one_are_each_refused_and_the_next_is_answered(world):
    deployed, address = world
    with connect(address) as link:
        link.sendall(request(deployed.rows[0]) + request({"x": 1}) * 1000 + request(deployed.rows[0]))
        found = answers(link, 1002)
    assert [status for status, _, _ in found] == [200] + [422] * 1000 + [200]


def test_quick_and_other_requests_take_turns_on_one_connection(world):
    deployed, address = world
    row = deployed.rows[0]
    other = json.dumps({"instances": [row]}).encode()
    slow = b"POST /v1/models/churn:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(other), other)
    with connect(address) as link:
        link.sendall((request(row) + slow) * 3)
        found = answers(link, 6)
    assert [sorted(content) == ["predictions"] for _, _, content in found] == [False, True] * 3


def test_a_body_in_pieces_one_announced_and_a_large_one_are_read_to_their_end(world):
    deployed, address = world
    whole = request(deployed.rows[0])
    with connect(address) as link:
        for place in range(0, len(whole), 40):
            link.sendall(whole[place : place + 40])
            time.sleep(0.005)
        assert answers(link, 1)[0][0] == 200
        head, _, body = request(deployed.rows[0], "Expect: 100-continue").partition(b"\r\n\r\n")
        link.sendall(head + b"\r\n\r\n")
        assert link.recv(100).startswith(b"HTTP/1.1 100")
        link.sendall(body)
        assert answers(link, 1)[0][0] == 200
        link.sendall(request({**deployed.rows[0], "more": "x" * 300_000}))
        ((status, _, content),) = answers(link, 1)
        assert (status, content["error"]["feature"]) == (422, "more")
        link.sendall(whole)
        assert answers(link, 1)[0][0] == 200


def test_a_connection_that_is_to_end_ends_after_its_answer(world):
    deployed, address = world
    for asked in (request(deployed.rows[0], "Connection: close"), request(deployed.rows[0], version="1.0")):
        with connect(address) as link:
            link.sendall(asked)
            ((status, headers, _),) = answers(link, 1)
            assert (status, headers["connection"]) == (200, "close")
            assert link.recv(1) == b""


def test_a_caller_that_goes_before_its_answer_harms_nobody(world):
    deployed, address = world
    for _ in range(20):
        with connect(address) as link:
            link.sendall(request(deployed.rows[0]) * 50)
    assert httpx.post(f"{address}/predict", json={"features": deployed.rows[0]}).status_code == 200
    assert re.search(r"model_predictions_total\{.*\} \d+\.0", httpx.get(f"{address}/metrics").text)


def test_the_end_of_the_service_waits_for_what_it_was_asked(settings):
    deployed = deploy(settings, path="sklearn.neighbors.KNeighborsClassifier")
    with serving(settings) as address, RolloutStore(settings.database_url) as store:
        wait_until(lambda: len(store.servers("churn")) == 1)
        link = connect(address)
        link.sendall(request(deployed.rows[0]) * 5)
        time.sleep(0.05)
    with link:
        assert [status for status, _, _ in answers(link, 1)] == [200]
