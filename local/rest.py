"""Airflow's REST API, as far as it is needed here. A command line call of Airflow costs seconds, this none."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from urllib.parse import quote

import requests

from pipeline.errors import BadConfiguration, OutsideFailure

TIMEOUT_SECONDS = 60
ACTIVE = ("queued", "running")


class Airflow:
    """One Airflow that makes everybody an admin, as the local one does."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy stands between us and this machine

    def answers(self) -> bool:
        """Whether the API server is up; asking also makes it load what tasks will ask it for."""
        try:
            for path in ("/api/v2/version", "/execution/health"):
                if self._session.get(self.address + path, timeout=TIMEOUT_SECONDS).status_code != 200:
                    return False
        except requests.ConnectionError:
            return False
        return True

    def scheduler_beats(self) -> bool:
        """Whether a scheduler is at work."""
        return bool(self.call("GET", "monitor/health")["scheduler"]["status"] == "healthy")

    def dag(self, dag_id: str) -> dict[str, Any] | None:
        """The DAG, where Airflow has read its file and found it there."""
        found: list[dict[str, Any]] = self.call("GET", "dags", params={"dag_id_pattern": dag_id})["dags"]
        return next((dag for dag in found if dag["dag_id"] == dag_id), None)

    def read_again(self, file_token: str) -> None:
        """Have a DAG file read at once."""
        self.call("PUT", f"parseDagFile/{file_token}")

    def unpause(self, dag_id: str) -> None:
        """Let the DAG's runs begin."""
        self.call("PATCH", f"dags/{dag_id}", body={"is_paused": False})

    def trigger(self, dag_id: str, answers: dict[str, Any]) -> str:
        """Start a run; returns its id. Raises BadConfiguration where the form refuses an answer."""
        run = self.call("POST", f"dags/{dag_id}/dagRuns", body={"logical_date": None, "conf": answers})
        return str(run["dag_run_id"])

    def backfill(self, dag_id: str, begin: datetime, end: datetime, *, at_once: int = 4, **more: Any) -> int:
        """Create a backfill over an interval; returns its id."""
        body = {
            "dag_id": dag_id, "from_date": begin.isoformat(), "to_date": end.isoformat(), "max_active_runs": at_once,
            "dag_run_conf": {}, "reprocess_behavior": "none", **more,
        }  # fmt: skip
        return int(self.call("POST", "backfills", body=body)["id"])

    def runs(self, dag_id: str = "~", **filters: Any) -> list[dict[str, Any]]:
        """Runs of a DAG, or of all; the oldest first."""
        asked = {"limit": 1000, "order_by": "run_after", **filters}
        found: list[dict[str, Any]] = self.call("GET", f"dags/{dag_id}/dagRuns", params=asked)["dag_runs"]
        return found

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """One run."""
        return dict(self.call("GET", f"dags/{dag_id}/dagRuns/{_safe(run_id)}"))

    def tasks(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """The task instances of a run by task id."""
        found = self.call("GET", f"dags/{dag_id}/dagRuns/{_safe(run_id)}/taskInstances")["task_instances"]
        return {task["task_id"]: task for task in found}

    def returned(self, dag_id: str, run_id: str, task_id: str) -> str | None:
        """What a task returned: a record's JSON."""
        path = f"dags/{dag_id}/dagRuns/{_safe(run_id)}/taskInstances/{task_id}/xcomEntries"
        entries = self.call("GET", path)["xcom_entries"]
        if not any(entry["key"] == "return_value" for entry in entries):
            return None
        value = self.call("GET", f"{path}/return_value", params={"deserialize": True})["value"]
        return value if isinstance(value, str) else json.dumps(value)

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int) -> list[str]:
        """What a task said, line by line."""
        path = f"dags/{dag_id}/dagRuns/{_safe(run_id)}/taskInstances/{task_id}/logs/{attempt}"
        content = self.call("GET", path, params={"full_content": True})["content"]
        lines = [_line(entry) for entry in content]
        return [line for text in lines for line in text.splitlines()]

    def fail(self, dag_id: str, run_id: str) -> None:
        """End a run that nobody wants any more."""
        self.call("PATCH", f"dags/{dag_id}/dagRuns/{_safe(run_id)}", body={"state": "failed"})

    def call(self, method: str, path: str, *, params: dict[str, Any] | None = None, body: Any = None) -> Any:
        """One call. Raises BadConfiguration (refused, with its reason) or OutsideFailure (no or no good answer)."""
        if "Authorization" not in self._session.headers:
            token = self._answer("GET", f"{self.address}/auth/token").json()["access_token"]
            self._session.headers["Authorization"] = f"Bearer {token}"
        answer = self._answer(method, f"{self.address}/api/v2/{path}", params=params, json=body)
        return answer.json() if answer.content else None

    def _answer(self, method: str, url: str, **about: Any) -> requests.Response:
        try:
            answer = self._session.request(method, url, timeout=TIMEOUT_SECONDS, **about)
        except requests.RequestException as error:
            raise OutsideFailure(f"Airflow at {self.address} does not answer: {error}") from error
        if answer.status_code in (400, 404, 409, 422):
            raise BadConfiguration(f"Airflow refused {method} {url}: {_detail(answer)}")
        if not answer.ok:
            raise OutsideFailure(f"Airflow answered {answer.status_code} to {method} {url}: {_detail(answer)}")
        return answer


def _safe(run_id: str) -> str:
    return quote(run_id, safe="")


def _detail(answer: requests.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:500]


def _line(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    words = [str(entry[name]) for name in ("event", "reason") if entry.get(name)]
    for error in entry.get("error_detail") or []:
        words.append(f"{error.get('exc_type')}: {error.get('exc_value')}")
    return "\n".join(words)
