"""Runs in MLflow: the only place that writes to its tracking store."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.adapters.store import disk_guard, exclusive
from pipeline.errors import OutsideFailure
from pipeline.settings import Settings

KEY_TAG = "evergreen.key"
RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""A tracking server that is down is told within seconds, not after MLflow's own two minutes."""


class Run:
    """One MLflow run, written to through a client."""

    def __init__(self, client: Any, run_id: str) -> None:
        self.client, self.id = client, run_id

    def log(self, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Parameters and tags; values are cut at MLflow's limits."""
        from mlflow.entities import Param, RunTag

        self.client.log_batch(
            self.id,
            params=[Param(k, str(v)[:6000]) for k, v in parameters.items()],
            tags=[RunTag(k, str(v)[:8000]) for k, v in tags.items()],
        )

    def metrics(self, values: Mapping[str, float], *, at_ms: int, step: int = 0) -> None:
        """Metrics; the same ones again at the same instant and step are the same entries."""
        from mlflow.entities import Metric

        self.client.log_batch(self.id, metrics=[Metric(k, float(v), at_ms, step) for k, v in values.items()])

    def text(self, content: str, name: str) -> None:
        """A text as an artifact."""
        self.client.log_text(self.id, content, name)

    def folder(self, path: Path, name: str) -> None:
        """The files of a folder as artifacts."""
        self.client.log_artifacts(self.id, str(path), name)

    def model(self, fitted: Any, example: Any, output: Any, requirements: list[str]) -> str:
        """The fitted pipeline as an MLflow model (skops, never a pickle); returns its address."""
        import mlflow.sklearn
        from mlflow.models import infer_signature

        from pipeline.package_files import TRUSTED_TYPES

        with mlflow.start_run(run_id=self.id):
            info = mlflow.sklearn.log_model(
                fitted,
                name="model",
                signature=infer_signature(example, output),
                pip_requirements=requirements,
                serialization_format="skops",
                skops_trusted_types=list(TRUSTED_TYPES),
            )
        return str(info.model_uri)


@contextmanager
def guarded(settings: Settings) -> Iterator[Any]:
    """A client, with MLflow's failures as OutsideFailure."""
    for name, value in RETRIES.items():
        os.environ.setdefault(name, value)
    import mlflow
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    _make_database(settings)
    mlflow.set_tracking_uri(settings.mlflow_uri)
    try:
        yield mlflow.MlflowClient(settings.mlflow_uri)
    except MlflowException as error:
        raise OutsideFailure(
            f"MLflow at {settings.mlflow_uri} failed: {str(error).splitlines()[0]}; "
            "is it running? EVERGREEN_MLFLOW_URI says where it is looked for"
        ) from error


def _make_database(settings: Settings) -> None:
    """Make MLflow's SQLite file whole or not at all.

    MLflow makes its tables one by one, and a process killed meanwhile leaves a file that it can neither use
    nor mend ("table already exists").
    """
    if not settings.mlflow_uri.startswith("sqlite:///"):
        return
    path = Path(settings.mlflow_uri.removeprefix("sqlite:///"))
    if path.is_file():
        return
    with disk_guard(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(path.with_suffix(".lock")):
            if path.is_file():
                return
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            temporary = path.with_suffix(".part")
            temporary.unlink(missing_ok=True)
            SqlAlchemyStore(f"sqlite:///{temporary}", settings.mlflow_artifacts.as_uri()).engine.dispose()
            temporary.rename(path)


@contextmanager
def new_run(settings: Settings, experiment: str, name: str, key: str) -> Iterator[Run]:
    """A run that ends FINISHED or FAILED; earlier runs of the same key, cut off midway, are deleted first."""
    with guarded(settings) as client:
        experiment_id = _experiment(client, settings, experiment)
        for left in client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{key}'"):
            client.delete_run(left.info.run_id)
        run = client.create_run(experiment_id, run_name=name, tags={KEY_TAG: key})
        try:
            yield Run(client, run.info.run_id)
        except BaseException:
            client.set_terminated(run.info.run_id, "FAILED")
            raise
        client.set_terminated(run.info.run_id, "FINISHED")


@contextmanager
def open_run(settings: Settings, run_id: str) -> Iterator[Run]:
    """A run that exists, to write more to it."""
    with guarded(settings) as client:
        yield Run(client, run_id)


def _experiment(client: Any, settings: Settings, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        local = settings.mlflow_uri.startswith(("sqlite", "postgresql"))
        try:
            return str(client.create_experiment(
                name, artifact_location=settings.mlflow_artifacts.as_uri() if local else None
            ))  # fmt: skip
        except MlflowException:  # another process made it in between
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)
