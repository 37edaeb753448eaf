"""The candidate as what would serve: its model package, made before it is judged."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.adapters.packages import write_package
from pipeline.config import ModelConfig
from pipeline.core.package import Feature, Signature
from pipeline.core.schema import Schema
from pipeline.settings import Settings

PACKAGE_ROWS = 2_000
"""Rows on which the fast form must give scikit-learn's answers; golden rows are drawn from them."""


def package_candidate(
    model_file: bytes,
    model: ModelConfig,
    schema: Schema,
    classes: tuple[str, ...],
    trained_on: pd.DataFrame,
    judged_on: pd.DataFrame,
    settings: Settings,
) -> tuple[Path, str, str]:
    """Folder, digest and form of the package. Frames have shape (n, features)."""
    folder, manifest, digest = write_package(
        settings.packages / model.name,
        model_file=model_file,
        model_name=model.name,
        signature=_signature(schema, model, classes, trained_on),
        frame_sample=judged_on.head(PACKAGE_ROWS),
        seed=model.training.seed,
        threshold=model.threshold,
        unseen=model.features.unseen_categories,
    )
    return folder, digest, manifest.form


def _signature(schema: Schema, model: ModelConfig, classes: tuple[str, ...], frame: pd.DataFrame) -> Signature:
    """What a server may be asked: features with the values seen in training, and the labels it answers with."""
    features = []
    for name, kind in schema.features.items():
        values = frame[name].dropna()
        if kind == "number":
            features.append(Feature(name, kind, None, float(values.min()), float(values.max())))
        else:
            features.append(Feature(name, kind, tuple(sorted(values.unique())), None, None))
    labels = _labels(classes)
    positive = labels[-1] if model.task == "binary" else None
    return Signature(features=tuple(features), task=model.task, classes=labels, positive=positive)


def _labels(classes: tuple[str, ...]) -> tuple[str, ...] | tuple[int, ...]:
    """Classes as answers give them: whole numbers where all of them are.

    >>> _labels(("0", "1")), _labels(("No", "Yes"))
    ((0, 1), ('No', 'Yes'))
    """
    try:
        return tuple(int(value) for value in classes)
    except ValueError:
        return classes
