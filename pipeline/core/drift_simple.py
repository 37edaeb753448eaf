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

from pipeline.core.drift import chi_square

FEWEST_EXPECTED = 5
"""A name with fewer expected rows is rare: below it the chi-square approximation is off (Cochran, 1954)."""
MOST_DEALS = 9_999
"""Random deals of the rows of rare names to both sides: with these the p-values of 100 columns can survive Holm."""
MOST_DRAWN = 20_000_000
"""Counts drawn for a column, which takes seconds: with very many rare names there are fewer deals, though
FEWEST_DEALS."""
FEWEST_DEALS = 999
DEALS_AT_ONCE = 250
DRAWN_AT_ONCE = 1_000_000
ENOUGH_FURTHER = 25
"""Deals that differ as much as what is seen, after which more of them would not change what the p-value says."""
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
    rng: np.random.Generator | None = None,
) -> tuple[ColumnResult, ...]:
    """Test every column of the reference: Kolmogorov-Smirnov for numbers and dates, chi-square for everything else.

    With `correction="holm"` (Scandinavian Journal of Statistics 6, 1979) the chance that any column of unchanged data
    is flagged is at most `threshold`; with "none" each column has that chance of its own, and of 20 columns one is
    flagged in most windows. Missing values count as the smallest number, and as a category. Where a column has rare
    names `rng` deals their rows anew; None deals the same way every time. Raises KeyError for a column that `current`
    does not have, ValueError where either has no rows.

    >>> frame = pd.DataFrame({"age": range(100), "plan": ["a", "b"] * 50})
    >>> [(one.column, one.test, one.drift) for one in detect_drift(frame, frame.assign(age=frame["age"] + 60))]
    [('age', 'ks', True), ('plan', 'chi-square', False)]
    """
    if len(reference) == 0 or len(current) == 0:
        raise ValueError(f"{len(reference)} rows in the reference and {len(current)} now: there is nothing to compare")
    rng = np.random.default_rng(0) if rng is None else rng
    tested = [(str(name), *_test(reference[name], current[name], rng)) for name in reference.columns]
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


def _test(
    reference: pd.Series, current: pd.Series, rng: np.random.Generator
) -> tuple[Literal["ks", "chi-square"], float, float]:
    one, other = _ordered(reference), _ordered(current)
    if one is not None and other is not None and _kind(reference) == _kind(current):
        first, second = (np.where(np.isnan(values), -np.inf, values) for values in (one, other))
        found = stats.ks_2samp(first, second, method="asymp" if max(len(first), len(second)) > 100 else "exact")
        return "ks", float(found.statistic), float(found.pvalue)
    counted = (_named(values).value_counts() for values in (reference, current))
    table = pd.concat(list(counted), axis=1).fillna(0).to_numpy(dtype=np.int64)
    statistic, p_value = _names_test(table[:, 0], table[:, 1], rng)
    return "chi-square", statistic, p_value


def _ordered(values: pd.Series) -> np.ndarray | None:
    """Numbers as they are, dates and durations as seconds, missing ones as NaN; None for names and truth values."""
    if pd.api.types.is_bool_dtype(values):
        return None
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    if _kind(values) == "date":
        values = pd.to_datetime(values, utc=True) - pd.Timestamp(0, unit="s", tz="UTC").as_unit("s")
    return values.dt.total_seconds().to_numpy() if pd.api.types.is_timedelta64_dtype(values) else None


def _kind(values: pd.Series) -> Literal["date", "duration", "other"]:
    if pd.api.types.is_timedelta64_dtype(values):
        return "duration"
    dates = pd.api.types.is_datetime64_any_dtype(values) or (
        values.dtype == object and pd.api.types.infer_dtype(values) in ("date", "datetime", "datetime64")
    )
    return "date" if dates else "other"


def _named(values: pd.Series) -> pd.Series:
    """Names of the values, in which 3.0 and 3 are one."""
    return values.astype(object).where(values.notna(), "(missing)").map(_name)


def _name(value: object) -> str:
    whole = isinstance(value, (float, np.floating)) and float(value).is_integer()
    return str(int(value)) if whole else str(value)  # type: ignore[call-overload]


def _names_test(reference: np.ndarray, current: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Pearson's statistic over all names, and a p-value that holds for rare ones too. Counts of shape (names,).

    Frequent names, and all rare ones as one more, have the chi-square test. Which rare names are on which side is
    asked apart, as no law of large numbers serves there: see `_rare_test`. Given the rows of the first question the
    second is independent of it; of two p-values the smaller counts, twice (Bonferroni).
    """
    pooled = reference + current
    smaller = min(reference.sum(), current.sum()) / pooled.sum()
    rare = pooled * smaller < FEWEST_EXPECTED
    table = np.stack([reference, current])
    cells, others = table[:, ~rare], table[:, rare]
    if others.sum() * smaller >= FEWEST_EXPECTED:
        cells = np.column_stack([cells, others.sum(axis=1)])
    elif others.size and cells.size:
        others = np.column_stack([others, cells.sum(axis=1)])
    p_values = []
    if cells.shape[1] > 1:
        p_values.append(float(stats.chi2_contingency(cells, correction=False).pvalue))
    if others.shape[1] > 1 and others.sum(axis=1).all():
        p_values.append(_rare_test(others, rng))
    return chi_square(reference, current)[0], min(1.0, len(p_values) * min(p_values)) if p_values else 1.0


def _rare_test(table: np.ndarray, rng: np.random.Generator) -> float:
    """Chance that rows dealt to the two sides at random differ as much by Pearson's statistic. Shape (2, names).

    Two names: Fisher's exact test. More: at most MOST_DEALS deals, fewer where many of them already differ as much
    (Besag & Clifford, Biometrika 78, 1991), so that the p-value is no smaller than 1 / (MOST_DEALS + 1). The rows of
    names that are there once count alike on either side, and are dealt together.
    """
    if table.shape[1] == 2:
        return float(stats.fisher_exact(table).pvalue)
    pooled, current = table.sum(axis=0), table[1]
    once = pooled == 1
    cells = np.append(pooled[~once], once.sum())
    weights = np.append(1.0 / pooled[~once], 0.0)
    share = current.sum() / pooled.sum()

    def distance(rows: np.ndarray) -> np.ndarray:
        return np.asarray(((rows - share * cells) ** 2) @ weights + rows[..., -1] * (1 - 2 * share))

    observed = float(distance(np.append(current[~once], current[once].sum()))) - 1e-9 * float(pooled.sum())
    most = int(np.clip(MOST_DRAWN // len(cells), FEWEST_DEALS, MOST_DEALS))
    at_once = int(np.clip(DRAWN_AT_ONCE // len(cells), 1, DEALS_AT_ONCE))
    method: Literal["count", "marginals"] = "count" if pooled.sum() < 20 * len(cells) else "marginals"  # the faster one
    deals = further = 0
    while deals < most and further < ENOUGH_FURTHER:
        size = min(at_once, most - deals)
        dealt = rng.multivariate_hypergeometric(cells, int(current.sum()), size=size, method=method)
        deals += len(dealt)
        further += int((distance(dealt) >= observed).sum())
    return (further + 1) / (deals + 1)


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
    names = _named(values)
    ranks = names.value_counts().reset_index()
    places = dict(zip(ranks.iloc[:, 0], range(len(ranks)), strict=True))
    return names.map(places).to_numpy(dtype=np.float64)
