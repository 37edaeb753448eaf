"""What Evergreen adds to the Airflow web UI: the "MLflow run" button on training tasks."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import BaseOperatorLink

log = logging.getLogger("evergreen.plugin")
DEFAULT_MLFLOW_UI = "http://127.0.0.1:5000"


class MLflowRunLink(BaseOperatorLink):  # type: ignore[misc]
    """Opens the MLflow run of a `train` task, from the task's Details tab."""

    name = "MLflow run"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Address of the run; empty for every other task, and before the task has ended."""
        if ti_key.task_id != "train" or not ti_key.dag_id.startswith("training_"):
            return ""
        try:
            record = _returned(ti_key)
        except Exception:  # a link that raises takes all buttons of the task with it (HTTP 500)
            log.exception("cannot read the record of %s", ti_key)
            return ""
        return f"{_mlflow_ui()}/#/runs/{record['mlflow_run']}" if record else ""


def _returned(ti_key: Any) -> dict[str, Any] | None:
    """The record that the task returned.

    Read as the server's own row: the SDK's XCom has no supervisor to ask in the API server
    (Airflow 3.3.2, apache/airflow#59093).
    """
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    query = XComModel.get_many(
        key="return_value", run_id=ti_key.run_id, dag_ids=ti_key.dag_id, task_ids=ti_key.task_id,
        map_indexes=ti_key.map_index, limit=1,
    )  # fmt: skip
    with create_session() as session:
        row = session.scalars(query).first()
        if row is None:
            return None
        value = XComModel.deserialize_value(row)
        record: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
        return record


def _mlflow_ui() -> str:
    return os.environ.get("EVERGREEN_MLFLOW_UI_URL", DEFAULT_MLFLOW_UI).rstrip("/")


class EvergreenPlugin(AirflowPlugin):  # type: ignore[misc]
    """Found by Airflow in its plugins folder."""

    name = "evergreen"
    global_operator_extra_links = (MLflowRunLink(),)
