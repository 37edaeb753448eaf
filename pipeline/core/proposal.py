"""From what a table holds to what its model file should say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core.doubts import ROWS, Doubt, find_doubts, is_named_id, repeated_rows
from pipeline.core.estimators import Task
from pipeline.core.guesses import Asked, guess_entity, guess_positive, guess_task, guess_times, repeats
from pipeline.core.profile import Column
from pipeline.core.schema import Kind
from pipeline.errors import BadConfiguration, BadData, NotEnoughData

MAX_CATEGORIES = 1000
LINEAR_BELOW = 250
"""Labelled rows; four fifths of them train."""
FEW_ROWS = 625
"""Below this the usual fifth of the rows, which judges, is hardly more than split.min_rows."""


@dataclass(frozen=True)
class Proposal:
    """What a model file should say."""

    task: Task
    positive: str | None
    """As the table writes it; None unless binary."""
    positive_reason: str
    entity: tuple[str, ...]
    event: str | None
    arrival: str | None
    time_format: str | None
    ordered_rows: bool
    features: dict[str, Kind]
    estimator: str
    parameters: dict[str, Any]
    estimator_reason: str
    min_rows: int | None
    """Where the table is too small for the default."""
    doubts: tuple[Doubt, ...]

    @property
    def excluded(self) -> tuple[str, ...]:
        """Columns that are left out because of a doubt."""
        return tuple(dict.fromkeys(doubt.column for doubt in self.doubts if doubt.excluded))


def propose(columns: Sequence[Column], asked: Asked, rng: np.random.Generator, seen: Sequence[Doubt] = ()) -> Proposal:
    """Decide everything that the person did not.

    `seen` are doubts from before, about the file; `rng` draws the rows on which leaks are measured.
    Raises BadConfiguration where the table cannot be split (no entity, no time) or a flag does not fit it,
    BadData and NotEnoughData where the target cannot be learned.
    """
    by_name = {column.name: column for column in columns}
    target = by_name[asked.target]
    task = asked.task or guess_task(target)
    _check_target(target, task)
    event, arrival, form, found = guess_times(columns, asked)
    doubts = [*seen, *found]
    others = [c for c in columns if c.name not in (asked.target, event, arrival)]
    when = [by_name[name] for name in (event, arrival) if name]
    entity = asked.entity or guess_entity(others, when)
    if not (entity or event or asked.ordered_rows):
        raise BadConfiguration(
            "no column names the rows and none says when they happened, so they cannot be split into those that train "
            "and those that judge; give --entity, --event-time, or --ordered-rows where the order of rows is time"
        )
    doubts += _about_entity([by_name[name] for name in entity], when)
    doubts += _about_target(target, task, asked)
    doubts += repeated_rows(columns, entity)
    candidates = [c for c in others if c.name not in entity]
    doubts += find_doubts(
        candidates, target, task, max_categories=MAX_CATEGORIES, is_ordered=asked.ordered_rows, rng=rng
    )
    out = {doubt.column for doubt in doubts if doubt.excluded}
    features: dict[str, Kind] = {c.name: _feature_kind(c) for c in candidates if c.name not in out}
    if not features:
        why = "; ".join(f"{d.column}: {d.reason}" for d in doubts if d.excluded)
        raise BadData(
            f"no column is left as a feature ({why}); give a table with columns that tell about {target.name}"
        )
    labelled = target.profile.filled
    estimator, parameters, reason = choose_estimator(task, labelled)
    positive, positive_reason = guess_positive(target) if task == "binary" else (None, "")
    if labelled < FEW_ROWS:
        doubts.append(
            Doubt(ROWS, "few rows", f"only {labelled} rows have a label: figures on a fifth of them are vague")
        )
    return Proposal(
        task=task,
        positive=positive,
        positive_reason=positive_reason,
        entity=entity,
        event=event,
        arrival=arrival,
        time_format=form,
        ordered_rows=asked.ordered_rows,
        features=features,
        estimator=estimator,
        parameters=parameters,
        estimator_reason=reason,
        min_rows=max(2, labelled // 10) if labelled < FEW_ROWS else None,
        doubts=tuple(doubts),
    )


def choose_estimator(task: Task, rows: int) -> tuple[str, dict[str, Any], str]:
    """Boosted trees as large as the rows can feed; a linear classifier where these are few.

    Measured on five public tables cut to 80 and more training rows: up to 200 a linear classifier was ahead on three
    of four, from 400 on small trees were ahead on average; for regression trees always were. Larger trees gained
    nothing in classification below 10,000 rows, and a lot in regression.
    """
    if task != "regression" and rows < LINEAR_BELOW:
        return "sklearn.linear_model.LogisticRegression", {"max_iter": 1000}, f"a linear model, as {rows} rows are few"
    kind = "Regressor" if task == "regression" else "Classifier"
    leaves, rate = (8, 0.05) if rows < 10_000 else (15, 0.06)
    iterations = 150
    if task == "regression":
        leaves, rate, iterations = (15, 0.06, 150) if rows < 5_000 else (31, 0.06, 300)
    parameters = {"learning_rate": rate, "max_iter": iterations, "max_leaf_nodes": leaves,
                  "l2_regularization": 1.0, "early_stopping": False}  # fmt: skip
    return f"sklearn.ensemble.HistGradientBoosting{kind}", parameters, f"boosted trees of a size for {rows:,} rows"


def _check_target(target: Column, task: Task) -> None:
    profile, values = target.profile, ", ".join(map(repr, target.values[:4]))
    if len(target.values) < 2 or profile.distinct < 2:
        raise NotEnoughData(
            f"the target {target.name!r} has {'one value, ' + values if len(target.values) else 'no value'} "
            f"in all {profile.rows:,} rows; there is nothing to learn from"
        )
    if task == "binary" and len(target.values) > 2:
        raise BadData(f"the target {target.name!r} has {len(target.values)} values ({values}), a binary one has two; "
                      "mend the source or use --task multiclass")  # fmt: skip
    if task != "regression" and target.kind == "number" and profile.distinct < len(target.values):
        raise BadData(f"the target {target.name!r} writes one class in several ways, or has values that are no "
                      f"class ({values}); mend the source")  # fmt: skip
    if task == "regression" and target.kind != "number":
        raise BadConfiguration(
            f"the target {target.name!r} holds texts such as {values}: no regression; leave --task out"
        )


def _about_target(target: Column, task: Task, asked: Asked) -> list[Doubt]:
    profile, found = target.profile, []
    if profile.blanks:
        found.append(
            Doubt(target.name, "no label", f"{profile.blanks:,} rows have no label; they are not learned from")
        )
    if task == "multiclass" and target.kind == "number" and not asked.task:
        text = f"its {profile.distinct} whole numbers are taken for classes; if they count something, --task regression"
        found.append(Doubt(target.name, "classes or counts", text))
    if task == "regression" and profile.unreadable:
        text = f"{profile.unreadable:,} values are no numbers; their rows go to quarantine"
        found.append(Doubt(target.name, "no number", text))
    rarest = int(target.counts.min())
    if task != "regression" and rarest < 50:
        text = f"only {rarest} rows are {target.values[int(target.counts.argmin())]!r}: too few to judge on"
        found.append(Doubt(target.name, "rare class", text))
    return found


def _about_entity(entity: Sequence[Column], when: Sequence[Column]) -> list[Doubt]:
    twice = repeats([*entity, *when]) if entity else 0
    if not twice:
        return []
    names, where = ", ".join(column.name for column in entity), " at one instant" if when else ""
    text = f"{twice:,} rows have the {names} of an earlier row{where}; a run keeps one of each"
    return [Doubt(ROWS, "repeated entity", text)]


def _feature_kind(column: Column) -> Kind:
    """Numbers are numbers, unless their name says that they only name something."""
    return "number" if column.kind == "number" and not is_named_id(column.name) else "category"


def describe(proposal: Proposal, asked: Asked, columns: Mapping[str, Column]) -> tuple[str, ...]:
    """What was inferred, a line each."""
    target = columns[asked.target]
    facts = [f"task: {proposal.task}, {target.profile.distinct:,} different values of {asked.target}"]
    if proposal.positive is not None:
        share = target.counts[list(target.values).index(proposal.positive)] / target.profile.filled
        facts.append(f"target.positive: {proposal.positive!r}, as {proposal.positive_reason} ({share:.1%} of the rows)")
    if proposal.entity:
        facts.append(f"entity: {', '.join(proposal.entity)}")
    if proposal.event:
        form = f", written as {proposal.time_format}" if proposal.time_format else ""
        known = f"; known at {proposal.arrival}" if proposal.arrival else ""
        facts.append(f"time: {proposal.event}{form}{known}; the later rows judge")
    else:
        order = "the order of rows; the last ones judge"
        facts.append(
            f"time: {order if asked.ordered_rows else 'none; a stable hash of the entity says which rows judge'}"
        )
    kinds = list(proposal.features.values())
    facts.append(
        f"features: {kinds.count('number')} numbers, {kinds.count('category')} categories; "
        f"{len(proposal.excluded)} columns left out"
    )
    facts.append(f"estimator: {proposal.estimator.rsplit('.', 1)[-1]}, {proposal.estimator_reason}")
    return tuple(facts)
