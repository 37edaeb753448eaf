"""The plain form of drift detection that people know: two frames in, a statistic and p-value for each column out.

It keeps no budget over days, and with many rows it flags shifts too small to matter; what watches a model is
`drift_test`. For a look at two frames in a notebook this is enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

FEWEST_EXPECTED = 5
"""Cells with fewer expected rows are put together: below it the chi-square approximation is off (Cochran, 1954)."""
MOST_ROWS = 20_000
"""Rows of either side that the domain classifier looks at."""


@dataclass(frozen=True)
class ColumnResult:
    """What the test of a column says."""

    column: str
    test: Literal["ks", "chi-square"]
    statistic: float
    p_value: float
    """Of this column on its own."""
    adjusted_p_value: float
    """Over all columns that were tested; equal to `p_value` without correction."""
    drift: bool
    """Whether the adjusted p-value is below the threshold."""


@dataclass(frozen=True)
class JointDrift:
    """How well a classifier tells the current rows from the reference ones."""

    auc: float
    """On rows it was not trained on; 0.5 where they are alike."""
    p_value: float
    """One-sided, for an AUC above 0.5."""


def detect_drift(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    threshold: float = 0.05,
    correction: Literal["holm", "none"] = "holm",
) -> tuple[ColumnResult, ...]:
    """Test every column of the reference: Kolmogorov-Smirnov for numbers, chi-square for everything else.

    With `correction="holm"` (Scandinavian Journal of Statistics 6, 1979) the chance that any column of unchanged data
    is flagged is at most `threshold`; with "none" each column has that chance of its own, and of 20 columns one is
    flagged in most windows. Missing values count as the smallest number, and as a category. Raises KeyError for a
    column that `current` does not have, ValueError where either has no rows.

    >>> frame = pd.DataFrame({"age": range(100), "plan": ["a", "b"] * 50})
    >>> [(one.column, one.test, one.drift) for one in detect_drift(frame, frame.assign(age=frame["age"] + 60))]
    [('age', 'ks', True), ('plan', 'chi-square', False)]
    """
    if len(reference) == 0 or len(current) == 0:
        raise ValueError(f"{len(reference)} rows in the reference and {len(current)} now: there is nothing to compare")
    tested = [(str(name), *_test(reference[name], current[name])) for name in reference.columns]
    p_values = np.array([p_value for *_, p_value in tested])
    adjusted = holm(p_values) if correction == "holm" else p_values
    return tuple(
        ColumnResult(name, test, statistic, p_value, float(own), bool(own < threshold))
        for (name, test, statistic, p_value), own in zip(tested, adjusted, strict=True)
    )


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values, shape (n,).

    >>> holm(np.array([0.01, 0.5, 0.02])).tolist()
    [0.03, 0.5, 0.04]
    """
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    found = np.empty_like(p_values)
    found[order] = np.minimum(stepped, 1.0)
    return found


def _test(reference: pd.Series, current: pd.Series) -> tuple[Literal["ks", "chi-square"], float, float]:
    numeric = pd.api.types.is_numeric_dtype(reference) and not pd.api.types.is_bool_dtype(reference)
    if numeric and pd.api.types.is_numeric_dtype(current):
        first, second = (
            values.astype("float64").fillna(-np.inf).to_numpy(dtype=np.float64) for values in (reference, current)
        )  # fmt: skip
        found = stats.ks_2samp(first, second, method="asymp" if max(len(first), len(second)) > 100 else "exact")
        return "ks", float(found.statistic), float(found.pvalue)
    table = pd.DataFrame(
        {
            side: values.astype(object).where(values.notna(), "(missing)").map(str).value_counts()
            for side, values in (("reference", reference), ("current", current))
        }
    ).fillna(0)
    pooled = table.sum(axis=1)
    rare = pooled * table.sum().min() / pooled.sum() < FEWEST_EXPECTED
    cells = np.vstack([table[~rare].to_numpy(), table[rare].sum().to_numpy()[None]])
    cells = cells[cells.sum(axis=1) > 0]
    if len(cells) < 2:
        return "chi-square", 0.0, 1.0
    found = stats.chi2_contingency(cells, correction=False)
    return "chi-square", float(found.statistic), float(found.pvalue)


def domain_classifier(reference: pd.DataFrame, current: pd.DataFrame, rng: np.random.Generator) -> JointDrift:
    """Joint drift of all columns together, on demand: how well a classifier tells from which frame a row is.

    Gradient boosted trees learn on half of the rows and are asked about the other half, so that the p-value of
    Mann and Whitney holds exactly (Lopez-Paz & Oquab, Revisiting classifier two-sample tests, ICLR 2017). At most
    MOST_ROWS rows of either are drawn by `rng`. Raises ValueError for fewer than 20 rows on a side.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    if min(len(reference), len(current)) < 20:
        raise ValueError(f"{len(reference)} and {len(current)} rows are too few to learn from; 20 are needed")
    parts = [frame.iloc[rng.permutation(len(frame))[:MOST_ROWS]] for frame in (reference, current)]
    rows = pd.concat([part[list(reference.columns)] for part in parts], ignore_index=True)
    features = np.column_stack([_numbers(rows[name]) for name in rows.columns])
    now = np.repeat([False, True], [len(part) for part in parts])
    learn = np.concatenate([np.arange(len(part)) % 2 == 0 for part in parts])
    with threadpool_limits(1):
        model = HistGradientBoostingClassifier(
            max_iter=100, max_leaf_nodes=8, learning_rate=0.1, random_state=int(rng.integers(2**31))
        ).fit(features[learn], now[learn])  # fmt: skip
        scores = model.predict_proba(features[~learn])[:, 1]
    asked = now[~learn]
    found = stats.mannwhitneyu(scores[asked], scores[~asked], alternative="greater")
    return JointDrift(float(found.statistic) / (asked.sum() * (~asked).sum()), float(found.pvalue))


def _numbers(values: pd.Series) -> np.ndarray:
    """Numbers as they are, categories by how frequent they are in both together."""
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    names = values.astype(object).where(values.notna(), "(missing)").map(str)
    ranks = names.value_counts().reset_index()
    places = dict(zip(ranks.iloc[:, 0], range(len(ranks)), strict=True))
    return names.map(places).to_numpy(dtype=np.float64)
