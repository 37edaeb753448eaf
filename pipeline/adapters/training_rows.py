"""The prepared parts as the frames and arrays that a model learns from and is judged on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from pipeline.config import ModelConfig
from pipeline.core.schema import Schema
from pipeline.errors import BadConfiguration


@dataclass(frozen=True)
class Rows:
    """Features of shape (n, k), and the target of shape (n,): class index, or a float."""

    frame: pd.DataFrame
    target: np.ndarray


def read_rows(path: Path, schema: Schema, model: ModelConfig, classes: tuple[str, ...]) -> Rows:
    """Numbers as float64, categories as objects; a class that is not among `classes` has index -1."""
    table = pq.read_table(path, columns=[*schema.features, model.target.column]).to_pandas()
    frame = table[list(schema.features)]
    categories = [name for name, kind in schema.features.items() if kind == "category"]
    frame = frame.astype(dict.fromkeys(categories, object))
    target = table[model.target.column]
    if model.task == "regression":
        return Rows(frame, target.to_numpy(dtype=np.float64))
    index = pd.Index(classes, dtype=object)
    return Rows(frame, index.get_indexer(target.astype(object)))


def find_classes(path: Path, model: ModelConfig) -> tuple[str, ...]:
    """The classes of the training rows in the order of their probabilities; none for regression.

    Raises BadConfiguration where target.positive is not among them.
    """
    if model.task == "regression":
        return ()
    column = pq.read_table(path, columns=[model.target.column]).column(0)
    found = sorted(value for value in column.unique().to_pylist() if value is not None)
    if model.task == "binary" and model.target.positive is not None:
        positive = str(model.target.positive)
        if positive not in found:
            raise BadConfiguration(
                f"target.positive is {model.target.positive!r}, but {model.target.column!r} holds "
                f"{', '.join(map(repr, found))}; "
                "write it as the table does, quoted where YAML would read Yes or No as a truth value"
            )
        found = [value for value in found if value != positive] + [positive]
    return tuple(found)
