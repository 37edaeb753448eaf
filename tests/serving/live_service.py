"""What tests of the service share: a real process on a real port, and models that are made in seconds."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd

from pipeline.adapters.packages import write_package
from pipeline.core.package import Feature, Signature
from pipeline.core.recipe import build
from pipeline.ledger import Event
from pipeline.package_files import dump_model
from pipeline.rollout import Plan, RolloutStore, Variant
from pipeline.settings import Settings
from tests.conftest import customers

FEATURES: dict[str, Any] = {"tenure": "number", "charge": "number", "plan": "category"}
GRADIENT_BOOSTING = "sklearn.ensemble.HistGradientBoostingClassifier"


@dataclass(frozen=True)
class Deployed:
    """A model that is deployed, beside the scikit-learn pipeline that it was made of."""

    name: str
    settings: Settings
    pipeline: Any
    rows: list[dict[str, Any]]
    """Rows to ask with: numbers and texts, some missing, some never seen in training."""
    folder: Path
    """The model package."""

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as scikit-learn takes them."""
        columns: dict[str, pd.Series] = {}
        for name in self.rows[0]:
            values = [np.nan if row[name] is None else row[name] for row in self.rows]
            columns[name] = pd.Series(values, dtype=float if FEATURES[name] == "number" else object)
        return pd.DataFrame(columns)

    @property
    def scores(self) -> np.ndarray:
        """What scikit-learn says: probabilities, shape (n, classes), or numbers, shape (n,)."""
        if hasattr(self.pipeline, "predict_proba"):
            return np.asarray(self.pipeline.predict_proba(self.frame))
        return np.asarray(self.pipeline.predict(self.frame))

    @property
    def labels(self) -> list[Any]:
        """Its answers."""
        return self.pipeline.predict(self.frame).tolist()


def deploy(
    settings: Settings, name: str = "churn", path: str = GRADIENT_BOOSTING, target: str = "churned",
    features: tuple[str, ...] = tuple(FEATURES),
) -> Deployed:  # fmt: skip
    """Fit a model on the customers and deploy its first version, without the stages of the pipeline.

    `target`: `churned` is 0 or 1, `plan_after` a text of three, `bill` a number.
    """
    frame = customers()
    frame["bill"] = frame["charge"] * 12 + frame["tenure"]
    frame["plan_after"] = np.where(frame["churned"] == 1, "left", frame["plan"].replace("basic", "family"))
    kinds = {one: FEATURES[one] for one in features}
    pipeline = build(path, {}, 7, kinds, frame, 20).fit(frame[list(features)], frame[target])
    signature = _signature(frame, pipeline, kinds)
    folder, _, digest = write_package(
        settings.home / "packages" / name, model_file=dump_model(pipeline), model_name=name, signature=signature,
        frame_sample=frame[list(features)].head(200), seed=7,
    )  # fmt: skip
    with RolloutStore(settings.database_url) as store:
        variant = Variant("champion", 1, str(folder.relative_to(settings.home)), digest, "", "2026-01-01", None)
        staged = store.stage(name, Plan("direct", (variant,)), store.get(name).generation)
        store.activate(name, staged.generation, Event(name, "promoted", 1, {}), datetime.now(UTC))
    rows = [{one: row[one] for one in features} for row in _rows(frame)]
    return Deployed(name, settings, pipeline, rows, folder)


def _signature(frame: pd.DataFrame, pipeline: Any, kinds: Mapping[str, Any]) -> Signature:
    features = tuple(
        Feature(name, "number", None, float(frame[name].min()), float(frame[name].max()))
        if kind == "number"
        else Feature(name, "category", tuple(sorted(frame[name].unique())), None, None)
        for name, kind in kinds.items()
    )
    if not hasattr(pipeline, "classes_"):
        return Signature(features, "regression", (), None)
    classes = tuple(pipeline.classes_.tolist())
    return Signature(features, "binary" if len(classes) == 2 else "multiclass", classes, classes[-1])


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows = [
        {"tenure": int(row.tenure), "charge": float(row.charge), "plan": str(row.plan)}
        for row in frame.head(20).itertuples()
    ]
    rows[3]["charge"], rows[4]["plan"], rows[5]["plan"] = None, None, "gold"
    return rows


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def serving(settings: Settings, *arguments: str, environ: Mapping[str, str] = {}) -> Iterator[str]:
    """The address of a server on a free port; stopped, with its workers, at the end."""
    port = free_port()
    command = [sys.executable, "-W", "error", "-m", "serving", "--port", str(port), *arguments]
    with running(command, {"EVERGREEN_HOME": str(settings.home), **environ}):
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: httpx.get(f"{address}/health").status_code == 200)
        yield address


@contextmanager
def running(command: list[str], environ: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process with its children; stopped gently, at last by force."""
    process = subprocess.Popen(command, env={**os.environ, **environ}, start_new_session=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def wait_until(what: Callable[[], object], seconds: float = 60) -> None:
    """Until it is true; whoever cannot be reached yet is asked again."""
    end = time.monotonic() + seconds
    while True:
        try:
            if what():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)
