"""Columns that know the future: what tells the label almost by itself was filled in after it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from pipeline.adapters.duck import database, quoted, text
from pipeline.config import ModelConfig
from pipeline.core.doubts import DETERMINES
from pipeline.core.leakage import MIN_ROWS, SAMPLE_ROWS, power_alone, sample_goal
from pipeline.core.profile import read_column
from pipeline.core.schema import Schema
from pipeline.errors import DataRefused


def refuse_leaks(train: Path, rows: int, schema: Schema, model: ModelConfig, threads: int) -> None:
    """Raise DataRefused naming every feature that alone tells the label of rows it was not looked at on.

    A sample of the training rows is looked at, one row in so many. Too few rows tell nothing.
    """
    names = [name for name in schema.features if name not in model.features.trusted]
    if rows < 2 * MIN_ROWS or not names:
        return
    step = math.ceil(rows / SAMPLE_ROWS)
    columns = ", ".join(quoted(name) for name in [*names, model.target.column])
    with database(train.parent, threads) as db:
        table = db.sql(
            f"SELECT {columns} FROM read_parquet({text(str(train))}, file_row_number=true) "
            f"WHERE file_row_number % {step} = 0 ORDER BY file_row_number"
        ).to_arrow_table()
    target = read_column(model.target.column, table.column(model.target.column))
    goal = sample_goal(target, model.task, np.random.default_rng(model.training.seed))
    power = {name: power_alone(read_column(name, table.column(name)), goal) for name in names}
    unit = "R squared" if model.task == "regression" else "ROC AUC"
    leaks = [f"{name!r} ({unit} {value:.3f})" for name, value in power.items() if value >= DETERMINES]
    if leaks:
        raise DataRefused(
            f"{model.name}: {', '.join(leaks)} alone {'tells' if len(leaks) == 1 else 'tell'} {target.name}, so "
            "probably filled in after the event: list it under features.exclude, or under features.trusted "
            "if it is known when the prediction is made"
        )
