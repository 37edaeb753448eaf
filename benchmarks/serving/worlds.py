"""The models that are served, and the rows that are asked, with what scikit-learn answers to them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import make_classification
from sklearn.pipeline import Pipeline

from demo.world import FEATURES, reviews
from demo.world import World as Demo
from pipeline.adapters.packages import write_package
from pipeline.core.package import Feature, Signature
from pipeline.core.recipe import build
from pipeline.core.schema import Kind
from pipeline.ledger import Event
from pipeline.package_files import dump_model
from pipeline.rollout import Plan, RolloutStore, Variant

ROWS = 1_000
"""Different rows that are asked, in turn."""


@dataclass(frozen=True)
class World:
    """One deployed model."""

    home: Path
    name: str
    model: Pipeline
    frame: pd.DataFrame
    """What is asked, shape (ROWS, features)."""
    rows: list[Any]
    """The same as a request holds them: lists, or objects by name."""
    expected: np.ndarray
    """scikit-learn's probability of the second class, shape (ROWS,)."""
    form: str

    @property
    def bodies(self) -> list[str]:
        """Requests of our own protocol."""
        return [json.dumps({"features": row}) for row in self.rows]


def forest(home: Path, seed: int = 0) -> World:
    """100 trees of depth 10 on 20 numbers, asked by position."""
    x, y = make_classification(6_000, 20, n_informative=10, random_state=seed)
    frame = pd.DataFrame(x, columns=[f"f{place}" for place in range(20)])
    parameters = {"n_estimators": 100, "max_depth": 10, "n_jobs": 1}
    model = _fitted("sklearn.ensemble.RandomForestClassifier", parameters, frame[:5_000], y[:5_000])
    asked = frame[5_000:].reset_index(drop=True)
    return deploy(home, "forest", model, frame[:5_000], asked, asked.to_numpy().tolist())


def boosting(home: Path) -> World:
    """Gradient boosting on customers of a telecom, numbers and texts, asked by name.

    IBM's Telco table, 19 features, where EVERGREEN_REAL_DATA holds it; else the demo's customers, 13 features.
    """
    table = Path(os.environ.get("EVERGREEN_REAL_DATA", "/nowhere")) / "telco_churn.csv"
    if table.is_file():
        frame = pd.read_csv(table, dtype={"SeniorCitizen": float}).sample(frac=1, random_state=0)
        target = (frame.pop("Churn") == "Yes").to_numpy()
        frame = frame.drop(columns="customerID")
        frame["TotalCharges"] = pd.to_numeric(frame["TotalCharges"], errors="coerce")
    else:
        frame = pd.concat([reviews(Demo(), day) for day in range(1, 80)])
        target = frame["churned"].to_numpy()
        frame = frame[list(FEATURES)].assign(autopay=frame["autopay"].astype(float))
    frame = frame.reset_index(drop=True)
    model = _fitted("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 100}, frame[ROWS:], target[ROWS:])
    asked = frame[:ROWS]
    rows = [{str(k): None if pd.isna(v) else v for k, v in row.items()} for row in asked.to_dict("records")]
    return deploy(home, "boosting", model, frame[ROWS:], asked, rows)


def _fitted(path: str, parameters: dict[str, Any], frame: pd.DataFrame, target: np.ndarray) -> Pipeline:
    return build(path, parameters, 7, _kinds(frame), frame, 50).fit(frame, target)


def _kinds(frame: pd.DataFrame) -> dict[str, Kind]:
    return {str(n): "number" if pd.api.types.is_numeric_dtype(frame[n]) else "category" for n in frame.columns}


def deploy(
    home: Path, name: str, model: Pipeline, frame: pd.DataFrame, asked: pd.DataFrame, rows: list[Any], version: int = 1
) -> World:
    """Package the model and make it the one that answers."""
    features = tuple(
        Feature(n, "number", None, float(frame[n].min()), float(frame[n].max())) if kind == "number"
        else Feature(n, "category", tuple(sorted(frame[n].dropna().unique())), None, None)
        for n, kind in _kinds(frame).items()
    )  # fmt: skip
    folder, manifest, digest = write_package(
        home / "packages" / name, model_file=dump_model(model), model_name=name,
        signature=Signature(features, "binary", (0, 1), 1), frame_sample=frame.head(500), seed=0,
    )  # fmt: skip
    package = folder.relative_to(home).as_posix()
    variant = Variant("champion", version, package, digest, "", f"2026-01-01T00:00:{version:02d}+00:00", None)
    with RolloutStore(f"sqlite:///{home / 'evergreen.db'}") as store:
        staged = store.stage(name, Plan("direct", (variant,)), store.get(name).generation)
        store.activate(name, staged.generation, Event(name, "promoted", version, {}), datetime.now(UTC))
    return World(home, name, model, asked, rows, model.predict_proba(asked)[:, 1], manifest.form)
