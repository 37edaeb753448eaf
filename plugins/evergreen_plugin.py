"""What Evergreen adds to the Airflow web UI: "MLflow run" on training tasks, "Drift report" on those that watch."""

from __future__ import annotations

import logging
import os
from typing import Any
from urllib.parse import quote

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import BaseOperatorLink

from plugins.returned import returned

log = logging.getLogger("evergreen.plugin")
DEFAULT_MLFLOW_UI = "http://127.0.0.1:5000"
PAGES = "/evergreen"
"""Where the pages of this plugin are, on Airflow's own address."""


class MLflowRunLink(BaseOperatorLink):  # type: ignore[misc]
    """Opens the MLflow run of a `train` task, from the task's Details tab."""

    name = "MLflow run"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Address of the run; empty for every other task, and before the task has ended."""
        record = _record_of("train", ("training_", "retraining_"), ti_key)
        return f"{_mlflow_ui()}/#/runs/{record['mlflow_run']}" if record else ""


class DriftReportLink(BaseOperatorLink):  # type: ignore[misc]
    """Opens what a `detect_drift` task found, as a page for people."""

    name = "Drift report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Address of the page; empty for every other task, and where there was nothing to report on."""
        record = _record_of("detect_drift", ("drift_detection_",), ti_key)
        if not record or not record["report"]:
            return ""
        return f"{PAGES}/dags/{quote(ti_key.dag_id, safe='')}/runs/{quote(ti_key.run_id, safe='')}/drift-report"


def _record_of(task_id: str, dags: tuple[str, ...], ti_key: Any) -> dict[str, Any] | None:
    """What the task returned, if it is this task of a DAG whose id begins so."""
    if ti_key.task_id != task_id or not ti_key.dag_id.startswith(dags):
        return None
    try:
        return returned(ti_key.dag_id, ti_key.run_id, ti_key.task_id, ti_key.map_index)
    except Exception:  # a link that raises takes all buttons of the task with it (HTTP 500)
        log.exception("cannot read the record of %s", ti_key)
        return None


def _mlflow_ui() -> str:
    return os.environ.get("EVERGREEN_MLFLOW_UI_URL", DEFAULT_MLFLOW_UI).rstrip("/")


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """The pages, imported when the first is asked for: plugins are loaded in every task, which shows none."""
    from plugins.drift_report import app

    await app(scope, receive, send)


class EvergreenPlugin(AirflowPlugin):  # type: ignore[misc]
    """Found by Airflow in its plugins folder."""

    name = "evergreen"
    global_operator_extra_links = (MLflowRunLink(), DriftReportLink())
    fastapi_apps = ({"app": pages, "url_prefix": PAGES, "name": "Evergreen pages"},)
