"""Realised performance: what came true in a window of predictions, against what was measured at registration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.core.gate_rules import DeclaredSlice
from pipeline.core.maturity import MaturityCurve, standing_for
from pipeline.core.metric_names import higher_is_better
from pipeline.core.metrics import over_resamples
from pipeline.core.paired import Judged, mean_and_error
from pipeline.core.slices import Harm, Slice, declared_slice, find_slices
from pipeline.core.verdict import Interval

Array = np.ndarray
Status = Literal["mature", "immature", "insufficient"]


@dataclass(frozen=True)
class RealisedRules:
    """How a window is measured."""

    primary: str
    margin: float = 0.0
    """A drop of the primary metric up to this, in its own unit, does not matter."""
    confidence: float = 0.95
    resamples: int = 300
    min_rows: int = 100
    """Independent labelled rows below which nothing is said."""
    mature_share: float = 0.95
    """Expected share of known labels from which a window is mature."""


@dataclass(frozen=True)
class Drop:
    """How much worse a metric is than at registration: positive is worse, in the metric's own unit."""

    metric: str
    registered: Interval
    realised: Interval
    value: float
    low: float
    high: float
    p_worse: float
    """Chance to see this drop or more if the truth had not dropped by more than the margin; one-sided.

    Of this one look. Whoever looks every day spends a yearly budget over the looks, as for any other alarm.
    """


@dataclass(frozen=True)
class Realised:
    """A window of predictions, as far as its labels have come."""

    status: Status
    metrics: dict[str, Interval]
    """With bootstrap intervals, whole entities drawn; corrected for labels yet to come. Empty where insufficient."""
    rows: int
    labelled: int
    """Rows with a label that stand in the metrics."""
    share_known: float
    """Expected share of the window's labels that are known by now, of those that come at all."""
    drop: Drop | None
    """Of the primary metric; None where insufficient or where registration did not measure it."""
    told: str

    @property
    def mature(self) -> bool:
        """Whether the labels are all but complete, so that the metrics need no correction to be believed."""
        return self.status == "mature"


def realise(
    judged: Judged,
    scores: Array,
    known: Array,
    ages_days: Array,
    curve: MaturityCurve,
    registered: Mapping[str, Interval],
    rules: RealisedRules,
    rng: np.random.Generator,
) -> Realised:
    """Measure a window, of which `known`, mask of shape (n,), says whose label has come.

    `judged.actual` is read only where known. `scores` as `metrics.evaluate` takes them. `ages_days`, shape (n,):
    days since the prediction. `registered`: the metrics of the model at registration.

    Each label counts as one over its class's chance to have come by its age (`maturity.standing_for`), in a mature
    window as in a young one, where it matters; rows too young for that are left out. Right as long as labels come
    as they used to; a window with clearly fewer labels than that is immature whatever its age.
    """
    classes = None if judged.task == "regression" else np.where(known, judged.actual, -1).astype(int)
    weight = np.where(known, standing_for(curve, ages_days, classes), 0.0)
    counted = weight > 0
    labelled, rows = int(counted.sum()), len(known)
    share = float(curve.share_known(ages_days).mean()) if rows else 0.0
    part = judged.only(counted) if labelled else judged
    entities = part.entities if labelled else 0
    if entities < rules.min_rows or (judged.task == "binary" and len(np.unique(part.actual)) < 2):
        told = f"insufficient: {entities} labelled of {rows} rows, or all of one class; {rules.min_rows} are needed"
        return Realised("insufficient", {}, rows, labelled, share, None, told)
    metrics = _intervals(part, scores[counted], weight[counted], rules, rng)
    expected = curve.share_ever * share
    too_few = float(known.mean()) < expected - 3 * math.sqrt(max(expected * (1 - expected), 1 / rows) / rows)
    status: Status = "mature" if share >= rules.mature_share and not too_few else "immature"
    drop = None
    told = f"{labelled:,} of {rows:,} rows labelled"
    if status == "immature":
        late = f", fewer than the {expected:.0%} that had come by this age before" if too_few else ""
        told = f"immature, corrected: {told}{late}"
    if rules.primary in metrics and rules.primary in registered:
        drop = drop_of(rules.primary, registered[rules.primary], metrics[rules.primary], rules, entities)
        told = (
            f"{rules.primary} {drop.realised.value:.4f} against {drop.registered.value:.4f} at registration, "
            f"{'worse' if drop.value > 0 else 'better'} by {abs(drop.value):.4f} "
            f"(drop of {drop.low:+.4f} to {drop.high:+.4f}); {told}"
        )
    return Realised(status, metrics, rows, labelled, share, drop, told)


def _intervals(
    part: Judged, scores: Array, weight: Array, rules: RealisedRules, rng: np.random.Generator
) -> dict[str, Interval]:
    """Percentile bootstrap over entities; metrics that these labels do not define are left out."""

    def measure(weights: Array) -> dict[str, Array]:
        return part.metrics(scores, weights * weight)

    rows = len(weight)
    point = measure(np.ones((1, rows)))
    spread = over_resamples(rows, rules.resamples, rng, measure, part.clusters)
    found = {}
    for name, value in point.items():
        finite = spread[name][np.isfinite(spread[name])]
        if np.isfinite(value[0]) and len(finite) > 1:
            low, high = np.quantile(finite, [(1 - rules.confidence) / 2, (1 + rules.confidence) / 2])
            found[name] = Interval(float(value[0]), float(low), float(high))
    return found


def drop_of(metric: str, registered: Interval, realised: Interval, rules: RealisedRules, entities: int) -> Drop:
    """The drop between two independent samples, from their intervals.

    Standard errors are the widths of the bootstrap intervals over those of the normal (Efron & Tibshirani, An
    Introduction to the Bootstrap, 1993, chapter 13); their squares add up. Student's t with the window's entities.

    >>> rules = RealisedRules("roc_auc")
    >>> drop = drop_of("roc_auc", Interval(.80, .78, .82), Interval(.75, .73, .77), rules, 1000)
    >>> round(drop.value, 2), round(drop.low, 3), round(drop.p_worse, 4)
    (0.05, 0.022, 0.0003)
    """
    sign = 1 if higher_is_better(metric) else -1
    value = sign * (registered.value - realised.value)
    width = 2 * float(stats.norm.isf((1 - rules.confidence) / 2))
    error = math.hypot(registered.high - registered.low, realised.high - realised.low) / width
    degrees = max(1, entities - 1)
    reach = float(stats.t.isf((1 - rules.confidence) / 2, degrees)) * error
    beyond = value - rules.margin
    p_worse = float(stats.t.sf(beyond / error, degrees)) if error > 0 else float(beyond <= 0)
    return Drop(metric, registered, realised, value, value - reach, value + reach, p_worse)


@dataclass(frozen=True)
class Sample:
    """Labelled rows with a loss each."""

    frame: pd.DataFrame
    """What slices are made of, shape (n, columns)."""
    losses: Array
    """As `paired.row_losses` gives them, shape (n,)."""
    clusters: Array | None = None


def worse_slices(
    reference: Sample,
    current: Sample,
    declared: Sequence[DeclaredSlice],
    *,
    min_rows: int,
    margin: float,
    confidence: float,
) -> list[Harm]:
    """Parts of the rows on which the model has become worse than at registration, on its own losses; worst first.

    Slices declared by the model file and slices found, with at least `min_rows` rows on either side. In a `Harm`
    the candidate is now and the champion is then. Worse by more than `margin` of the loss then: Welch's t of two
    independent samples; Holm's correction over all slices, so that any false `broken` has a chance below
    1 - confidence. For mature windows: labels that come late are not weighted here.
    """
    both = pd.concat([reference.frame.astype(object), current.frame.astype(object)], ignore_index=True)
    both = both.infer_objects()
    then = np.arange(len(both)) < len(reference.frame)
    asked = [declared_slice(one.name, one.where, both) for one in declared]
    found = []
    for one in asked + find_slices(both, 2 * min_rows):
        old, new = one.rows[then], one.rows[~then]
        if min(old.sum(), new.sum()) >= min_rows:
            found.append(_worse(one, _part(reference, old), _part(current, new), margin))
    found.sort(key=lambda harm: harm.p_value)
    chance = 1 - confidence
    broken = list(itertools.takewhile(lambda i: found[i].p_value <= chance / (len(found) - i), range(len(found))))
    return [replace(harm, broken=i < len(broken)) for i, harm in enumerate(found)]


def _part(sample: Sample, rows: Array) -> tuple[float, float, int]:
    """Mean loss, its standard error, and how many entities it rests on."""
    own = None if sample.clusters is None else np.unique(sample.clusters[rows], return_inverse=True)[1]
    mean, error = mean_and_error(sample.losses[rows], own)
    return mean, error, int(rows.sum()) if own is None else int(own.max()) + 1


def _worse(one: Slice, then: tuple[float, float, int], now: tuple[float, float, int], margin: float) -> Harm:
    excess = now[0] - (1 + margin) * then[0]
    parts = ((1 + margin) * then[1]) ** 2, now[1] ** 2
    total = sum(parts)
    if not 0 < total < math.inf:
        return Harm(one, now[0], then[0], float(excess <= 0 or total > 0))
    degrees = total**2 / (parts[0] ** 2 / max(1, then[2] - 1) + parts[1] ** 2 / max(1, now[2] - 1))  # Satterthwaite
    return Harm(one, now[0], then[0], float(stats.t.sf(excess / math.sqrt(total), degrees)))
