"""How much single columns give away of the target: alone, beyond all others, and added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pipeline.core.estimators import Task
from pipeline.core.profile import Column

SAMPLE_ROWS = 20_000
"""Rows that are looked at: an own share then moves by about .02 from one draw to the next."""
MIN_ROWS = 200
"""Below this many labelled rows chance alone looks like knowledge."""
GROUPS = 64
EXACT = 1e-3
"""A sum is exact where what it leaves open is this share of the target's spread: enough for sums of rounded parts."""
LARGEST_SUM = 4
MOST_TRIED = 40
"""Columns that are taken away one by one; a sum of more is no accident of a few columns."""
SAMPLE_CELLS = 1_000_000
"""Fewer rows are looked at where columns are many, so that an answer takes seconds."""
CANDIDATES = 5
"""Columns whose own share is measured: the strongest ones alone. One that knows most is among them."""


@dataclass(frozen=True)
class Goal:
    """The target of a sample of labelled rows, and which of them teach and which judge."""

    task: Task
    learn: np.ndarray
    """Rows of the table, shape (n / 2,)."""
    judge: np.ndarray
    target: np.ndarray
    """Of every row of the table: class number, -1 unlabelled; regression: the number, NaN unlabelled."""

    @property
    def rows(self) -> np.ndarray:
        """Both halves."""
        return np.concatenate([self.learn, self.judge])


def sample_goal(target: Column, task: Task, rng: np.random.Generator) -> Goal:
    """At most SAMPLE_ROWS labelled rows, drawn by `rng`, in two halves."""
    values = target.numbers if task == "regression" else target.codes
    labelled = np.flatnonzero(~np.isnan(values) if task == "regression" else values >= 0)
    drawn = rng.permutation(labelled)[:SAMPLE_ROWS]
    half = len(drawn) // 2
    return Goal(task, drawn[:half], drawn[half:], values)


def power_alone(column: Column, goal: Goal) -> float:
    """How well this column alone tells the target of rows that it was not fitted on.

    Rows are grouped by value, or by 64 quantiles of it; the mean target of a group on one half is the guess on
    the other. Classification: ROC AUC, the mean over classes of one against the rest; .5 tells nothing.
    Regression: R squared of the target or of its ranks, whichever is larger, so that a monotone transform of
    the target is found too; 0 tells nothing.
    """
    groups = _groups(column, goal.learn)
    learned, judged = goal.target[goal.learn], goal.target[goal.judge]
    if goal.task != "regression":
        classes = [c for c in np.unique(judged) if (learned == c).sum() >= 5 and 5 <= (judged == c).sum() < len(judged)]
        scores = [_auc(judged == c, _group_means(groups, goal, learned == c)) for c in classes]
        return float(np.mean(scores[: 1 if len(classes) == 2 else None])) if scores else 0.5
    found = [_r2(judged, _group_means(groups, goal, learned))]
    every = pd.Series(np.concatenate([learned, judged]))
    if every.value_counts(normalize=True).iloc[0] < 0.5:  # ranks of a mostly constant target are one step
        ranks = every.rank().to_numpy()
        found.append(_r2(ranks[len(learned) :], _group_means(groups, goal, ranks[: len(learned)])))
    return max(0.0, *found)


def own_shares(columns: Sequence[Column], goal: Goal, power: dict[str, float]) -> dict[str, float]:
    """Of what all columns together tell about the target, the share that is lost without this one.

    Measured for the strongest columns, with small boosted trees on the half that judges. What is told is the
    share of the target's log loss, or of its variance, that the model explains. Empty where there are too few
    rows, fewer than three columns, or hardly anything is told.
    """
    if len(columns) < 3 or len(goal.rows) < 2 * MIN_ROWS:
        return {}
    matrix = np.column_stack([_as_number(column) for column in columns])
    half = max(MIN_ROWS, SAMPLE_CELLS // len(columns) // 2)
    goal = replace(goal, learn=goal.learn[:half], judge=goal.judge[:half])
    whole = _told(matrix, goal)
    if whole < 0.05:
        return {}
    names = [column.name for column in columns]
    strongest = sorted(names, key=lambda name: -power[name])[:CANDIDATES]
    return {n: (whole - _told(np.delete(matrix, names.index(n), axis=1), goal)) / whole for n in strongest}


def exact_sum(columns: Sequence[Column], target: Column) -> dict[str, float] | None:
    """The few numbers whose weighted sum is the target in every row, with their weights; None: there are none.

    Least squares over all number columns, then columns are taken away for as long as the sum stays exact.

    >>> from pipeline.core.profile import read_column
    >>> import pyarrow as pa
    >>> rng = np.random.default_rng(0)
    >>> a, b, c = rng.integers(0, 99, (3, 500))
    >>> table = {"a": a, "b": b, "c": c, "y": a + b}
    >>> *parts, y = [read_column(name, pa.array(values)) for name, values in table.items()]
    >>> exact_sum(parts, y)
    {'a': 1.0, 'b': 1.0}
    """
    wanted = target.numbers
    numbers = [c for c in columns if c.kind == "number" and c.profile.distinct > 1]
    numbers = [c for c in numbers if np.isnan(c.numbers).mean() <= 0.05]
    if not numbers:
        return None
    matrix = np.column_stack([c.numbers for c in numbers])
    complete = np.flatnonzero(np.isfinite(matrix).all(axis=1) & np.isfinite(wanted))
    few = complete[np.linspace(0, len(complete) - 1, min(len(complete), SAMPLE_ROWS)).astype(int)]
    if len(few) < 5 * len(numbers) + 20:
        return None
    scaled, spread = _standardised(matrix[few]), wanted[few].std()
    goal = (wanted[few] - wanted[few].mean()) / (spread or 1.0)
    if not spread or _left_open(scaled, goal) > EXACT:
        return None
    weights = np.abs(np.linalg.lstsq(scaled, goal, rcond=None)[0])
    kept = np.flatnonzero(weights > EXACT).tolist()
    if len(kept) > MOST_TRIED or _left_open(scaled[:, kept], goal) > EXACT:
        return None
    for column in sorted(kept, key=lambda k: weights[k]):
        without = [k for k in kept if k != column]
        if without and _left_open(scaled[:, without], goal) <= EXACT:
            kept = without
    if len(kept) > LARGEST_SUM:
        return None
    table = np.column_stack([matrix[few][:, kept], np.ones(len(few))])
    found = np.linalg.lstsq(table, wanted[few], rcond=None)[0]
    everywhere = np.column_stack([matrix[complete][:, kept], np.ones(len(complete))]) @ found
    if (wanted[complete] - everywhere).std() > EXACT * spread:
        return None
    return {numbers[k].name: round(float(weight), 6) for k, weight in zip(kept, found, strict=False)}


def _left_open(scaled: np.ndarray, goal: np.ndarray) -> float:
    """What least squares on the even rows leaves open on the odd ones, as a share of the spread."""
    weights = np.linalg.lstsq(scaled[::2], goal[::2], rcond=None)[0]
    return float(np.sqrt(np.mean((goal[1::2] - scaled[1::2] @ weights) ** 2)))


def _standardised(matrix: np.ndarray) -> np.ndarray:
    spread = matrix.std(axis=0)
    return np.asarray((matrix - matrix.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def _groups(column: Column, learn: np.ndarray) -> np.ndarray:
    """A group number for each row; blanks are a group of their own. Shape (n,)."""
    if column.kind != "number" or column.profile.distinct <= GROUPS:
        return column.codes.astype(np.int64) + 1
    numbers = column.numbers
    known = numbers[learn][~np.isnan(numbers[learn])]
    if not len(known):
        return np.zeros(len(numbers), dtype=np.int64)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, GROUPS + 1)[1:-1]))
    return np.where(np.isnan(numbers), 0, np.searchsorted(edges, numbers, side="right") + 1)


def _group_means(groups: np.ndarray, goal: Goal, learned: np.ndarray) -> np.ndarray:
    """Mean of `learned` in each row's group, drawn to the overall mean as by one more row: for the judging half."""
    size = int(groups.max()) + 1
    sums = np.bincount(groups[goal.learn], learned, minlength=size)
    counts = np.bincount(groups[goal.learn], minlength=size)
    return np.asarray(((sums + learned.mean()) / (counts + 1))[groups[goal.judge]])


def _auc(positive: np.ndarray, score: np.ndarray) -> float:
    """Mann-Whitney U as a share of all pairs, ties half."""
    ranks = pd.Series(score).rank().to_numpy()
    hits = int(positive.sum())
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * (len(positive) - hits)))


def _r2(wanted: np.ndarray, guess: np.ndarray) -> float:
    spread = float(((wanted - wanted.mean()) ** 2).sum())
    return 1.0 - float(((wanted - guess) ** 2).sum()) / spread if spread else 0.0


def _as_number(column: Column) -> np.ndarray:
    """Categories by how frequent they are, blanks as NaN: trees find their way from there."""
    if column.kind == "number":
        return column.numbers
    order = np.argsort(np.argsort(-column.counts, kind="stable"), kind="stable").astype(np.float64)
    return np.asarray(np.append(order, np.nan)[column.codes])


def _told(matrix: np.ndarray, goal: Goal) -> float:
    """The share of the target's log loss, or of its variance, that boosted trees explain on the judging half."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.metrics import log_loss
    from threadpoolctl import threadpool_limits

    kind = HistGradientBoostingRegressor if goal.task == "regression" else HistGradientBoostingClassifier
    model = kind(max_iter=50, max_leaf_nodes=15, early_stopping=False, random_state=0)
    learned, judge = goal.target[goal.learn], goal.judge
    if goal.task != "regression":  # a class that only judges cannot be told
        judge = judge[np.isin(goal.target[judge], learned)]
    judged = goal.target[judge]
    with threadpool_limits(limits=1):
        model.fit(matrix[goal.learn], learned)
        if goal.task == "regression":
            return _r2(judged, model.predict(matrix[judge]))
        classes, counts = np.unique(learned, return_counts=True)
        if len(classes) < 2:
            return 0.0
        blind = np.tile(counts / counts.sum(), (len(judged), 1))
        told = log_loss(judged, model.predict_proba(matrix[judge]), labels=classes)
    return float(1 - told / log_loss(judged, blind, labels=classes))
