"""The scikit-learn pipeline of a model: preparation inside the artifact, then the estimator."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from pipeline.core.estimators import keeps_missing, needs_scaling
from pipeline.core.schema import Kind
from pipeline.errors import BadConfiguration, NotEnoughData

MISSING = "(missing)"
"""The category that a missing one becomes."""


def build(
    path: str,
    parameters: Mapping[str, Any],
    seed: int,
    features: Mapping[str, Kind],
    frame: pd.DataFrame,
    max_onehot: int,
) -> Pipeline:
    """An unfitted pipeline for these features.

    Numbers: missing ones filled with the median and brought on one scale, where the estimator needs it.
    Categories: one column each up to `max_onehot` different values in `frame`, else one ordered column.
    `path` is from the allow-list; `frame` holds the training rows, shape (n, len(features)).

    Raises BadConfiguration for parameters that the estimator does not know or refuses,
    NotEnoughData for a feature without any value.
    """
    for name in features:
        if frame[name].isna().all():
            raise NotEnoughData(
                f"the feature {name!r} has no value in any of the {len(frame)} training rows; "
                "list it under features.exclude, or widen split.train_days"
            )
    numbers = [name for name, kind in features.items() if kind == "number"]
    categories = [name for name, kind in features.items() if kind == "category"]
    few = [name for name in categories if frame[name].nunique() <= max_onehot]
    many = [name for name in categories if name not in few]
    blocks: list[tuple[str, Any, list[str]]] = []
    if numbers:
        blocks.append(("number", _numbers(path), numbers))
    if few:
        onehot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        blocks.append(("category", Pipeline([("impute", _named_missing()), ("encode", onehot)]), few))
    if many:
        ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        blocks.append(("ordered", Pipeline([("impute", _named_missing()), ("encode", ordinal)]), many))
    prepare = ColumnTransformer(blocks, remainder="drop", sparse_threshold=0)
    return Pipeline([("prepare", prepare), ("model", estimator(path, parameters, seed))])


def estimator(path: str, parameters: Mapping[str, Any], seed: int) -> Any:
    """The estimator itself, with the seed where it takes one.

    >>> estimator("sklearn.linear_model.Ridge", {"alpha": 2.0}, seed=7)
    Ridge(alpha=2.0, random_state=7)
    """
    module, name = path.rsplit(".", 1)
    kind = getattr(importlib.import_module(module), name)
    made = kind()
    known = made.get_params()
    for parameter in parameters:
        if parameter not in known:
            raise BadConfiguration(
                f"training.parameters.{parameter}: {name} has no such parameter; it has {', '.join(sorted(known))}"
            )
    seeded = {"random_state": seed} if "random_state" in known and "random_state" not in parameters else {}
    return made.set_params(**parameters, **seeded)


def _numbers(path: str) -> Any:
    if keeps_missing(path):
        return "passthrough"
    steps: list[tuple[str, Any]] = [("impute", SimpleImputer(strategy="median"))]
    if needs_scaling(path):
        steps.append(("scale", StandardScaler()))
    return Pipeline(steps)


def _named_missing() -> SimpleImputer:
    return SimpleImputer(strategy="constant", fill_value=MISSING)
