"""`python -m pipeline new`: a model file from a data file, with what was inferred and what is doubtful."""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import BadConfiguration, SourceUnreadable
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.config import Source
    from pipeline.core.doubts import Doubt
    from pipeline.core.profile import Column

ROWS_READ = 200_000
MAX_CATEGORIES = 1000
SMALL_TABLE = 2_000
"""Below this many rows a linear model is the safer start; above it boosting finds more."""


@dataclass(frozen=True)
class NewModel:
    """The file that was written, and what to know about it."""

    path: str
    inferred: tuple[str, ...]
    doubts: tuple[Doubt, ...]

    def to_json(self) -> str:
        """For programs."""
        return json.dumps(asdict(self), sort_keys=True)

    def to_text(self) -> str:
        """For people."""
        lines = [f"wrote {self.path}", "", "inferred:", *(f"  {fact}" for fact in self.inferred)]
        if self.doubts:
            lines += ["", "doubtful:"]
            lines += [f"  {d.column}{' (left out)' if d.excluded else ''}: {d.reason}" for d in self.doubts]
        name = Path(self.path).stem
        return "\n".join([*lines, "", f"next: read it, then python -m pipeline run --model {name}"])


def new(parsed: argparse.Namespace, settings: Settings) -> NewModel:
    """Look at the table and write models/NAME.yaml.

    Raises BadConfiguration (a name that cannot be, a file that is there), SourceUnreadable (the table).
    """
    from pipeline.config import parse_model
    from pipeline.core.doubts import find_doubts
    from pipeline.core.profile import guess_entity, guess_task

    path = settings.models_dir / f"{parsed.name}.yaml"
    if path.exists() and not parsed.force:
        raise BadConfiguration(f"{path} is there already; --force writes over it")
    source, columns = _read(parsed)
    by_name = {column.name: column for column in columns}
    _require([parsed.target, *parsed.entity, *filter(None, (parsed.event_time, parsed.arrival))], by_name)
    target = by_name[parsed.target]
    task = parsed.task or guess_task(target)
    entity = parsed.entity or [name for name in [guess_entity(columns, parsed.target)] if name]
    reserved = {parsed.target, *entity, parsed.event_time, parsed.arrival}
    if not entity and not parsed.event_time and not parsed.ordered_rows:
        raise BadConfiguration(
            f"no column of {parsed.data} names its rows; "
            "give --entity, --event-time, or --ordered-rows where the order is time"
        )
    doubts = find_doubts([c for c in columns if c.name not in reserved], target, task, MAX_CATEGORIES)
    doubts += _about_rows(columns, entity)
    out = [doubt.column for doubt in doubts if doubt.excluded]
    features = {c.name: c.type for c in columns if c.name not in reserved and c.name not in out}
    if not features:
        raise SourceUnreadable(
            f"{parsed.data}: no column is left as a feature; every one was doubtful: {', '.join(out)}"
        )
    content, inferred = _content(parsed, source, task, target, entity, features, out, len(target.values))
    text = _yaml(content, doubts)
    parse_model(text, parsed.name, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return NewModel(str(path), tuple(inferred), tuple(doubts))


def _read(parsed: argparse.Namespace) -> tuple[Source, list[Column]]:
    """The source as the model file will name it, and its first rows, column by column."""
    import pyarrow as pa

    from pipeline.adapters.sources import open_table
    from pipeline.config import Source
    from pipeline.core.profile import read_column

    source = Source(path=parsed.data, separator=parsed.separator or ",", encoding=parsed.encoding)
    try:
        table = open_table(source)
    except SourceUnreadable as error:
        found = str(error).rpartition("set source.separator to ")[2].strip("'")
        if parsed.separator or len(found) != 1:
            raise
        source = source.model_copy(update={"separator": found})
        table = open_table(source)
    batches, rows = [], 0
    for batch in table.batches():
        batches.append(batch)
        rows += batch.num_rows
        if rows >= ROWS_READ:
            break
    if rows == 0:
        raise SourceUnreadable(f"{parsed.data} has a header but no rows; check the source or its export")
    whole = pa.Table.from_batches(batches, schema=table.schema)
    return source, [read_column(name, whole.column(name).to_pandas()) for name in whole.column_names]


def _require(names: list[str], columns: dict[str, Column]) -> None:
    import difflib

    for name in names:
        if name not in columns:
            near = difflib.get_close_matches(name, columns, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(list(columns)[:20])}"
            raise BadConfiguration(f"the table has no column {name!r}; {hint}")


def _about_rows(columns: list[Column], entity: list[str]) -> list[Doubt]:
    """Rows that are alike in everything but their name."""
    import pandas as pd

    from pipeline.core.doubts import Doubt

    frame = pd.DataFrame({c.name: c.values for c in columns if c.name not in entity})
    twice = int(frame.duplicated().sum())
    if not twice:
        return []
    return [
        Doubt(
            "(rows)",
            "duplicates",
            f"{twice} rows equal another one in everything but {', '.join(entity) or 'nothing'}",
            False,
        )
    ]


def _content(
    parsed: argparse.Namespace, source: Source, task: str, target: Column, entity: list[str],
    features: Mapping[str, str], out: list[str], rows: int,
) -> tuple[dict[str, Any], list[str]]:  # fmt: skip
    from pipeline.core.profile import classes_of, guess_positive

    inferred = [f"task: {task} ({target.distinct} different values of {parsed.target})"]
    goal: dict[str, Any] = {"column": parsed.target}
    if task == "binary":
        positive, why = guess_positive(classes_of(target))
        goal["positive"] = positive
        share = (target.values.map(str).str.removesuffix(".0") == positive).sum() / max(1, target.filled)
        inferred.append(f"target.positive: {positive!r}, since {why} ({share:.1%} of the rows)")
    if parsed.known_after_days:
        goal["known_after_days"] = parsed.known_after_days
    content: dict[str, Any] = {"task": task, "source": {"path": parsed.data}}
    if source.separator != ",":
        content["source"]["separator"] = source.separator
        inferred.append(f"source.separator: {source.separator!r}")
    if parsed.encoding != "utf-8":
        content["source"]["encoding"] = parsed.encoding
    if entity:
        content["entity"] = entity[0] if len(entity) == 1 else entity
        inferred.append(f"entity: {', '.join(entity)}")
    if parsed.event_time:
        content["time"] = {"event": parsed.event_time} | ({"arrival": parsed.arrival} if parsed.arrival else {})
    elif parsed.ordered_rows:
        content["time"] = {"order": "rows"}
    else:
        inferred.append("no time: rows are split by a stable hash of the entity")
    estimator, parameters, why = _estimator(task, rows)
    inferred.append(f"estimator: {estimator.rsplit('.', 1)[-1]}, {why}")
    kinds = Counter(features.values())
    inferred.append(f"features: {kinds['number']} numbers, {kinds['category']} categories, {len(out)} columns left out")
    content |= {
        "target": goal,
        "features": {"columns": features} | ({"exclude": out} if out else {}),
        "training": {"estimator": estimator, "parameters": parameters},
    }
    return content, inferred


def _estimator(task: str, rows: int) -> tuple[str, dict[str, Any], str]:
    kind = "Regressor" if task == "regression" else "Classifier"
    if rows < SMALL_TABLE:
        path = "sklearn.linear_model.Ridge" if task == "regression" else "sklearn.linear_model.LogisticRegression"
        return path, {} if task == "regression" else {"max_iter": 1000}, f"safe for {rows} rows"
    parameters = {
        "learning_rate": 0.05,
        "max_iter": 150,
        "max_leaf_nodes": 8,
        "l2_regularization": 1.0,
        "early_stopping": False,
    }
    return f"sklearn.ensemble.HistGradientBoosting{kind}", parameters, f"strong for {rows} rows"


def _yaml(content: dict[str, Any], doubts: list[Doubt]) -> str:
    import yaml

    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    notes = [f"# {d.column}{' (left out)' if d.excluded else ''}: {d.reason}".replace("\n", " ") for d in doubts]
    head = "# Written by `python -m pipeline new`; docs/model-files.md lists every key.\n"
    return head + "".join(f"{note}\n" for note in notes) + text
