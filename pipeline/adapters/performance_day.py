"""How good a champion is on a day: as labels tell, as can be told without them, and what a drop comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from pipeline.adapters.champion_reference import ChampionReference
from pipeline.adapters.drift_day import DRIFT_SHARE, alarm_rules
from pipeline.adapters.judging import gate_rules
from pipeline.adapters.met_rows import MetRows
from pipeline.adapters.observed import ONE_DAY, day_start
from pipeline.config import ModelConfig
from pipeline.core.alarm_grades import Grade, grade
from pipeline.core.alarms import Alarm, AlarmState, Signal, Step, step
from pipeline.core.causes import Explanation, explain
from pipeline.core.column_facts import facts_of
from pipeline.core.estimation import Estimate, Estimator
from pipeline.core.impact import error_of
from pipeline.core.loss_test import ConceptTest, concept_test
from pipeline.core.maturity import MaturityCurve, fixed_maturity, maturity_curve, standing_for
from pipeline.core.metric_names import higher_is_better
from pipeline.core.paired import Judged, row_losses
from pipeline.core.realised import Drop, Realised, RealisedRules, Sample, realise, worse_slices
from pipeline.core.reweighting import reweight
from pipeline.core.signals import performance_signals
from pipeline.core.situation import Drop as DropShare
from pipeline.core.slices import Harm

CHECKS_A_YEAR = 365
LEAST_WINDOW_DAYS = 7
"""A day alone has too few labels to tell a metric by."""
RESAMPLES = 200
ESTIMATED_ROWS = 5_000
"""Rows of a window that its estimate is made from."""


@dataclass(frozen=True)
class Window:
    """One window of events."""

    days: int
    first: date
    last: date
    realised: Realised
    estimates: dict[str, Estimate]


@dataclass(frozen=True)
class GradedAlarm:
    """A past alarm, and what labels made of it."""

    episode: str
    grade: Grade
    told: str


@dataclass(frozen=True)
class DayPerformance:
    """Everything that was measured on a day."""

    newest: tuple[Window, ...]
    """Windows that end with the day; mostly without all of their labels."""
    mature: tuple[Window, ...]
    """The newest windows whose labels are known; the same ones where labels come at once."""
    labelled_rows: int
    """Labelled rows that the champion has never seen; of a sample, about so many."""
    share: float
    """Of the rows that was looked at."""
    labelled_until: datetime | None
    lag_days: tuple[float, float] | None
    """Age at which half and nine tenths of the labels have come."""
    concept: ConceptTest | None
    worse: tuple[Harm, ...]
    """Slices that became worse than at registration, beyond doubt."""
    explanation: Explanation | None
    graded: tuple[GradedAlarm, ...]
    """Past alarms about drift of which labels now tell whether they were right."""
    step: Step


def measure_day(
    day: date, rows: MetRows, history: MetRows, champion: ChampionReference, model: ModelConfig, state: AlarmState,
    ungraded: Sequence[Alarm],
) -> DayPerformance:  # fmt: skip
    """Measure the windows that end with `day`, and take the performance alarms one day further.

    `rows`: labelled or not, none of which the champion has seen. `history`: rows by which it is known how late labels
    come, the champion's own among them. `state`: the alarms as they stood on an earlier day. `ungraded`: past alarms
    about drift of this champion.
    """
    rng = np.random.default_rng([model.training.seed, day.toordinal()])
    curve = _curve(history, model)
    lag = curve.lag_days(model.monitoring.labels_known_share)
    end = day_start(day + ONE_DAY)
    estimator = champion.estimator
    newest, mature = [], []
    for days in _lengths(model):
        newest.append(_window(rows, days, end, curve, champion, model, estimator, rng))
        if math.isfinite(lag):
            ripe = end - timedelta(days=math.ceil(lag))
            mature.append(_window(rows, days, ripe, curve, champion, model, estimator, rng) if lag > 0 else newest[-1])
    longest = mature[-1] if mature else None
    ripe_rows = _ripe(rows, longest)
    concept = _concept(ripe_rows, champion, estimator, curve, rng)
    signals = _signals(mature, concept, champion, model)
    taken = step(state, day + ONE_DAY, signals, alarm_rules(model))
    suspicious = any(signal.changed for signal in signals)
    explained = _explain(ripe_rows, longest, concept, champion) if suspicious and longest else None
    labelled = rows.event[rows.known]
    return DayPerformance(
        newest=tuple(newest),
        mature=tuple(mature),
        labelled_rows=round(int(rows.known.sum()) / rows.share),
        share=rows.share,
        labelled_until=_instant(labelled.max()) if len(labelled) else None,
        lag_days=(curve.lag_days(0.5), curve.lag_days(0.9)) if math.isfinite(lag) else None,
        concept=concept,
        worse=_worse(ripe_rows, longest, champion, model),
        explanation=explained,
        graded=tuple(_grades(ungraded, rows, lag, end, curve, champion, model, rng)),
        step=taken,
    )


def _grades(
    alarms: Sequence[Alarm], rows: MetRows, lag: float, end: datetime, curve: MaturityCurve,
    champion: ChampionReference, model: ModelConfig, rng: np.random.Generator,
) -> Iterator[GradedAlarm]:  # fmt: skip
    """The days since an alarm began, as far as their labels are known; what is not yet clear is not given."""
    rules = _rules(champion, model)
    error = error_of(rules.primary, champion.registered[rules.primary].value)
    for alarm in alarms:
        ripe = end - timedelta(days=math.ceil(lag)) if math.isfinite(lag) else end
        if ripe <= day_start(alarm.since) or error <= 0:
            continue
        part = rows.between(day_start(alarm.since), ripe)
        found = realise(part.judged(champion), part.scores, part.known, part.ages_days, curve, champion.registered,
                        rules, rng)  # fmt: skip
        drop = found.drop
        if drop is None:
            continue
        share = DropShare(drop.value / error, drop.low / error, drop.high / error, found.mature)
        verdict = grade(alarm, share, model.monitoring.min_impact)
        if verdict != "open":
            yield GradedAlarm(alarm.episode, verdict, found.told)


def _lengths(model: ModelConfig) -> list[int]:
    windows = model.monitoring.windows_days
    return [days for days in windows if days >= LEAST_WINDOW_DAYS] or [windows[-1]]


def _curve(history: MetRows, model: ModelConfig) -> MaturityCurve:
    """How labels come. What the model file states holds until there are labels enough to see it."""
    stated = model.target.known_after_days
    horizon = max(2 * stated, stated + 7)
    classes = None if model.task == "regression" else np.where(history.known, history.actual, -1)
    try:
        return maturity_curve(history.delays_days, history.ages_days, classes, horizon_days=horizon)
    except ValueError:
        return fixed_maturity(stated)


def _rules(champion: ChampionReference, model: ModelConfig) -> RealisedRules:
    primary = champion.register.evaluate.primary
    error = error_of(primary, champion.registered[primary].value)
    return RealisedRules(primary, model.monitoring.min_impact * error, model.gate.confidence, RESAMPLES,
                         model.monitoring.min_rows, model.monitoring.labels_known_share)  # fmt: skip


def _window(
    rows: MetRows, days: int, end: datetime, curve: MaturityCurve, champion: ChampionReference, model: ModelConfig,
    estimator: Estimator, rng: np.random.Generator,
) -> Window:  # fmt: skip
    part = rows.between(end - timedelta(days=days), end)
    found = realise(part.judged(champion), part.scores, part.known, part.ages_days, curve, champion.registered,
                    _rules(champion, model), rng)  # fmt: skip
    estimates = {}
    if len(part.table) >= model.monitoring.min_rows:
        few = part
        if len(part.table) > ESTIMATED_ROWS:
            few = part.only(
                np.isin(np.arange(len(part.table)), rng.choice(len(part.table), ESTIMATED_ROWS, replace=False))
            )
        weights = reweight(champion.judged.frame, few.frame, rng)
        estimates = estimator.estimate(few.frame, few.scores, weights, rng)
    return Window(days, (end - timedelta(days=days)).date(), (end - ONE_DAY).date(), found, estimates)


def _ripe(rows: MetRows, window: Window | None) -> MetRows | None:
    """The labelled rows of the longest mature window."""
    if window is None or not window.realised.mature:
        return None
    part = rows.between(day_start(window.first), day_start(window.last + ONE_DAY))
    usable = part.known & (part.actual >= 0 if part.actual.dtype.kind == "i" else np.isfinite(part.actual))
    return part.only(usable) if usable.any() else None


def _concept(
    rows: MetRows | None, champion: ChampionReference, estimator: Estimator, curve: MaturityCurve,
    rng: np.random.Generator,
) -> ConceptTest | None:  # fmt: skip
    if rows is None:
        return None
    classes = rows.actual if rows.actual.dtype.kind == "i" else None
    stand = standing_for(curve, rows.ages_days, classes)
    weights = reweight(champion.judged.frame, rows.frame, rng)
    return concept_test(estimator, rows.frame, rows.actual, rows.scores, weights, rows.clusters, stand)


def _signals(
    mature: Sequence[Window], concept: ConceptTest | None, champion: ChampionReference, model: ModelConfig
) -> list[Signal]:
    """Only of windows whose labels are known. Their share of the yearly budget is parted evenly over all looks."""
    looks = CHECKS_A_YEAR * (len(_lengths(model)) + 1)
    level = (1 - DRIFT_SHARE) * model.monitoring.false_alarms_per_year / looks
    primary = champion.register.evaluate.primary
    error = error_of(primary, champion.registered[primary].value) or 1.0
    usual = float(np.mean(row_losses(_judged_then(champion), champion.judged_scores, primary)))
    return list(performance_signals([(w.days, w.realised) for w in mature], concept, usual, error, level))


def _judged_then(champion: ChampionReference) -> Judged:
    return Judged(champion.model.task, champion.judged.target, None)


def _explain(
    rows: MetRows | None, window: Window, concept: ConceptTest | None, champion: ChampionReference
) -> Explanation | None:
    drop = window.realised.drop
    if rows is None or drop is None:
        return None
    facts = facts_of(champion.judged.frame, rows.frame, champion.lost_when_shuffled)
    return explain(facts, drop, _estimated(window, drop), concept)


def _estimated(window: Window, drop: Drop) -> float | None:
    """The drop that the rows alone would make, in the metric's unit."""
    if drop.metric not in window.estimates:
        return None
    lost = drop.registered.value - window.estimates[drop.metric].value
    return lost if higher_is_better(drop.metric) else -lost


def _worse(
    rows: MetRows | None, window: Window | None, champion: ChampionReference, model: ModelConfig
) -> tuple[Harm, ...]:
    if rows is None or window is None or len(rows.table) < model.gate.slice_min_rows:
        return ()
    primary = champion.register.evaluate.primary
    table = _table_then(champion, rows)
    then = Sample(table, row_losses(_judged_then(champion), champion.judged_scores, primary))
    now = Sample(rows.table[list(table)], row_losses(rows.judged(champion), rows.scores, primary), rows.clusters)
    declared = [d for d in gate_rules(model).declared if set(d.where) <= set(table)]
    found = worse_slices(then, now, declared, min_rows=model.gate.slice_min_rows, margin=model.gate.slice_margin,
                         confidence=model.gate.confidence)  # fmt: skip
    return tuple(harm for harm in found if harm.broken)


def _table_then(champion: ChampionReference, rows: MetRows) -> pd.DataFrame:
    """The rows that judged it: features, and what else is known on either side of what slices are made of."""
    path = champion.settings.home / champion.register.evaluate.train.prepare.test
    kept = set(pq.read_schema(path).names)
    more = [c for c in rows.table if c not in rows.features and c in kept]
    if not more:
        return champion.judged.frame
    found: pd.DataFrame = pd.concat([champion.judged.frame, pq.read_table(path, columns=more).to_pandas()], axis=1)
    return found


def _instant(value: np.datetime64) -> datetime:
    return value.astype("datetime64[us]").item().replace(tzinfo=UTC)  # type: ignore[no-any-return]
