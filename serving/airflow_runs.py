"""Starting DAG runs through Airflow's REST API, version 2: the little that the receiver needs of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import requests

from pipeline.errors import OutsideFailure

TIMEOUT_SECONDS = (3.05, 10.0)
"""To connect, and to answer. Alertmanager waits for as long as its group interval."""
REFUSALS = (400, 404, 422)
"""The same again would be refused again."""


@dataclass(frozen=True)
class Started:
    """What became of a request for a run."""

    result: Literal["started", "already", "refused", "ignored"]
    detail: str


class AirflowRuns:
    """One Airflow. A token is fetched when it is first needed, and thrown away at the end."""

    def __init__(self, address: str, user: str | None, password: str | None) -> None:
        """Without a user the token is asked for as an Airflow gives it that makes everybody an admin."""
        self._address, self._user, self._password = address, user, password
        self._session = requests.Session()
        self._session.trust_env = False  # neither a proxy nor a .netrc stands between the receiver and its Airflow

    def start(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> Started:
        """Start a run of this id; one that is there already stays the only one.

        Raises OutsideFailure where Airflow does not answer, or does not let us in.
        """
        if "Authorization" not in self._session.headers:
            self._session.headers["Authorization"] = f"Bearer {self._token()}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        answer = self._post(f"/api/v2/dags/{dag_id}/dagRuns", body)
        if answer.status_code == 409:
            return Started("already", f"{dag_id} has the run {run_id}")
        if answer.status_code in REFUSALS:
            return Started("refused", f"Airflow answered {answer.status_code} for {dag_id}: {_detail(answer)}")
        if not answer.ok:
            raise OutsideFailure(f"Airflow answered {answer.status_code} for {dag_id}: {_detail(answer)}")
        return Started("started", f"{dag_id} runs as {run_id}")

    def _token(self) -> str:
        if self._user is None:
            answer = self._asked("GET", "/auth/token", None)
        else:
            answer = self._post("/auth/token", {"username": self._user, "password": self._password})
        try:
            return str(answer.json()["access_token"])
        except (ValueError, KeyError, TypeError):
            raise OutsideFailure(
                f"Airflow gave no token, it answered {answer.status_code}; see EVERGREEN_AIRFLOW_USER and _PASSWORD"
            ) from None

    def _post(self, path: str, body: dict[str, Any]) -> requests.Response:
        return self._asked("POST", path, body)

    def _asked(self, method: str, path: str, body: dict[str, Any] | None) -> requests.Response:
        try:
            return self._session.request(
                method, self._address + path, json=body, timeout=TIMEOUT_SECONDS, allow_redirects=False
            )
        except requests.RequestException as error:
            raise OutsideFailure(f"Airflow at {self._address} does not answer: {type(error).__name__}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()


def _detail(answer: requests.Response) -> str:
    try:
        return str(answer.json()["detail"])[:500]
    except (ValueError, KeyError, TypeError):
        return answer.text[:500]
