"""The drift report of a run as a page of the Airflow web UI, for everybody who may read the results of its DAG.

What is shown is named by the record that the run left, never by the request.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse

from pipeline.settings import load_settings
from plugins.returned import returned

log = logging.getLogger("evergreen.plugin")
NO_SCRIPTS = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox allow-popups"
"""The page shares its address with Airflow, and its words come from data: nothing in it may run."""

app = FastAPI(title="Evergreen drift reports", docs_url=None, redoc_url=None, openapi_url=None)


@app.get(
    "/dags/{dag_id}/runs/{run_id}/drift-report",
    dependencies=[Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM))],
)
def drift_report(dag_id: str, run_id: str) -> FileResponse:
    """The report that the `detect_drift` task of this run wrote. 404 where there is none, or none any more."""
    path = _report(returned(dag_id, run_id, "detect_drift"))
    if path is None:
        raise HTTPException(404, f"the run {run_id} of {dag_id} has left no drift report here")
    headers = {"Content-Security-Policy": NO_SCRIPTS, "X-Content-Type-Options": "nosniff"}
    return FileResponse(path, media_type="text/html; charset=utf-8", headers=headers)


def _report(record: dict[str, Any] | None) -> Path | None:
    """The file that a record names, where it is one of the outputs that stages keep."""
    if record is None or not record.get("report"):
        return None
    settings = load_settings()
    path = (settings.home / str(record["report"])).resolve()
    if not path.is_relative_to(settings.store.resolve()) or path.suffix != ".html":
        log.warning("%s is no stored report", path)
        return None
    return path if path.is_file() else None
