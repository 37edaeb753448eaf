"""As much of Airflow's REST API as the receiver meets, over real HTTP, with the faults that a real one rarely shows."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FakeAirflow:
    users: dict[str, str] | None
    """None: everybody is an admin."""
    dags: set[str]
    broken: bool = False
    address: str = ""
    asked: int = 0
    requested: int = 0
    """Requests for a run, repeats too."""
    runs: dict[tuple[str, str], dict] = field(default_factory=dict)

    def answer(self, method: str, path: str, token: str | None, content: dict) -> tuple[int, dict]:
        self.asked += 1
        found = re.fullmatch(r"/api/v2/dags/([^/]+)/dagRuns", path)
        if self.broken:
            return 503, {"detail": "no database"}
        if path == "/auth/token":
            return self.token(method, content)
        if method != "POST" or found is None:
            return 404, {"detail": "Not Found"}
        if token != "Bearer token":
            return 401, {"detail": "Not authenticated"}
        return self.start(found[1], content)

    def token(self, method: str, content: dict) -> tuple[int, dict]:
        if self.users is None and method == "GET":
            return 201, {"access_token": "token"}
        if self.users and self.users.get(content.get("username", "")) == content.get("password"):
            return 201, {"access_token": "token"}
        return 401, {"detail": "Invalid credentials"}

    def start(self, dag: str, content: dict) -> tuple[int, dict]:
        self.requested += 1
        if dag not in self.dags:
            return 404, {"detail": f"DAG with dag_id: '{dag}' not found"}
        if (dag, content["dag_run_id"]) in self.runs:
            return 409, {"detail": "the run is there"}
        assert content["logical_date"] is None
        self.runs[dag, content["dag_run_id"]] = content["conf"]
        return 200, {"dag_run_id": content["dag_run_id"]}


@contextmanager
def running(airflow: FakeAirflow) -> Iterator[FakeAirflow]:
    """On a free port, whose address it then knows."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            content = json.loads(self.rfile.read(length) or b"{}")
            status, said = airflow.answer(self.command, self.path, self.headers["Authorization"], content)
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    airflow.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield airflow
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
