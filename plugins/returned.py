"""What a task returned, read inside the API server."""

from __future__ import annotations

import json
from typing import Any


def returned(dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any] | None:
    """The record that the task returned; None before it has ended.

    Read as the server's own row: the SDK's XCom has no supervisor to ask in the API server
    (Airflow 3.3.2, apache/airflow#59093).
    """
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    query = XComModel.get_many(
        key="return_value", run_id=run_id, dag_ids=dag_id, task_ids=task_id, map_indexes=map_index, limit=1
    )
    with create_session() as session:
        row = session.scalars(query).first()
        if row is None:
            return None
        value = XComModel.deserialize_value(row)
        record: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
        return record
