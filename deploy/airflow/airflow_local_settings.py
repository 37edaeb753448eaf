"""What Airflow reads at start where this folder is on its PYTHONPATH: two cures, both measured, both optional.

1. Backfills on SQLite. Creating one opens a savepoint; SQLite then begins a transaction that reads first and
   cannot be turned into a writing one after any other process has written: "database is locked", at once,
   whatever the timeout (Airflow 3.3.2, apache/airflow#66726). Beginning it as a writing one makes it wait its turn.
2. Imports. Each task is a fork, of the scheduler (LocalExecutor) or of a Celery worker, and would spend about ten
   seconds on importing the same libraries. Imported once before the fork they cost the tasks nothing, and their
   memory is shared. Our own code is not among them, so that a change to a stage counts from the next task on.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import Any

from airflow.configuration import conf
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

__all__: list[str] = []
"""Nothing here is to replace a name of Airflow's own settings, as every public name of this module otherwise would."""

log = logging.getLogger("evergreen.airflow")

LIBRARIES = (
    "pandas", "pyarrow.parquet", "duckdb", "dvc.repo", "scipy.stats", "sklearn.ensemble", "sklearn.linear_model",
    "sklearn.pipeline", "sklearn.compose", "great_expectations", "mlflow.sklearn", "skops.io", "treelite",
)  # fmt: skip
"""Imported once, in the scheduler. None of them starts a thread or opens a connection when imported."""


@event.listens_for(Engine, "savepoint")
def begin_as_writer(connection: Connection, _name: Any) -> None:
    """Take SQLite's write lock before a savepoint reads. Only for Airflow's own database."""
    if connection.dialect.name != "sqlite" or connection.dialect.is_async:
        return
    if not str(connection.engine.url.database or "").endswith("airflow.db"):
        return
    raw: Any = connection.connection.driver_connection
    if not raw.in_transaction:
        cursor = raw.cursor()
        cursor.execute("PRAGMA busy_timeout=60000")
        cursor.execute("BEGIN IMMEDIATE")
        cursor.close()


def import_before_fork() -> None:
    """Import the heavy libraries; a missing one is said and left to the task that needs it."""
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            log.warning("not imported before the tasks are forked: %s", error)


def forks_tasks() -> bool:
    """Whether tasks will be forks of this very process."""
    if "scheduler" in sys.argv:
        return "LocalExecutor" in conf.get("core", "executor")
    return "celery" in sys.argv and "worker" in sys.argv


if os.environ.get("EVERGREEN_IMPORT_BEFORE_FORK", "1") == "1" and forks_tasks():
    import_before_fork()
