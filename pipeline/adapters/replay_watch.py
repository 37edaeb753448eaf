"""A model of the past at a check: windows compared and weighed, labelled rows measured, as the live stages do it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa

from pipeline.adapters.champion_reference import Side, predictions_table
from pipeline.adapters.drift_day import DRIFT_SHARE, alarm_rules
from pipeline.adapters.replay_models import TrainedModel, fresh_rows, said
from pipeline.adapters.replay_past import Array, Past
from pipeline.adapters.replay_reference import REFERENCE_ROWS, Registered, Sides
from pipeline.core.alarms import AlarmState, Step, step
from pipeline.core.causes import explain
from pipeline.core.column_facts import facts_of
from pipeline.core.drift_budget import levels
from pipeline.core.drift_count import sketch
from pipeline.core.drift_test import WindowDrift, compare
from pipeline.core.faults import faults
from pipeline.core.impact import lost_share
from pipeline.core.loss_test import concept_test
from pipeline.core.maturity import MaturityCurve, fixed_maturity, maturity_curve
from pipeline.core.realised import Realised, RealisedRules, realise
from pipeline.core.replay_walk import Watched
from pipeline.core.reweighting import reweight
from pipeline.core.signals import feature_signals, performance_signals, prediction_signals
from pipeline.core.situation import Cause, Drop, Explained

DRAWS = 20
"""Of labels, for the band of an estimate, which decides nothing."""
RESAMPLES = 100
LEAST_WINDOW_DAYS = 7
"""A day alone has too few labels to tell a metric by."""


@dataclass(frozen=True)
class Look:
    """A check: its day, and how many there are in a year."""

    past: Past
    now: date
    every_days: int

    @property
    def checks_a_year(self) -> int:
        """Over which the budget of false alarms is spread."""
        return max(1, round(365 / self.every_days))

    def rng(self, model: TrainedModel) -> np.random.Generator:
        """Of this model at this check."""
        return np.random.default_rng([self.past.model.training.seed, model.cutoff.toordinal(), self.now.toordinal()])

    def met(self, days: int) -> slice:
        """Rows of the days before."""
        first = max((self.now - self.past.first).days - days, 0)
        return slice(int(self.past.starts[first]), self.past.row_of(self.now))


def look_for_drift(
    look: Look, model: TrainedModel, sides: Sides, registered: Registered, state: AlarmState
) -> tuple[Watched, AlarmState]:
    """Compare the windows that end before the check; `state`: the alarms at the check before."""
    watch = look.past.model.monitoring
    columns = len(sides.features.bins.columns) + len(sides.prediction.bins.columns)
    budget = min(DRIFT_SHARE * watch.false_alarms_per_year, look.checks_a_year)
    allowed = levels(budget, columns, watch.windows_days, look.checks_a_year)
    features, predictions = [], []
    for days in watch.windows_days:
        rows = look.met(days)
        features.append(_compared(look, model, sides.features, look.past.table[rows], days, allowed[days]))
        if features[-1].status != "insufficient":
            scores = said(look.past, model, np.arange(max(rows.start, model.fresh_from), rows.stop))
            table = predictions_table(scores, look.past.model.task)[0]
            predictions.append(_compared(look, model, sides.prediction, table, days, allowed[days]))
    changed = [w for w in (*features, *predictions) if any(c.psi >= watch.min_effect for c in w.changed)]
    drop, broken = None, set[str]()
    if changed:
        rows = look.met(max(w.days for w in changed))
        drop = _estimated(look, model, registered, np.arange(rows.start, rows.stop), look.rng(model))
        recent = look.past.frame.iloc[look.met(min(w.days for w in changed))]
        broken = {fault.column for fault in faults(facts_of(registered.frame, recent, registered.lost_when_shuffled))}
    cost = drop.value if drop else 0.0
    signals = [s for window in features for s in feature_signals(window, registered.importance, cost)]
    signals += [s for window in predictions for s in prediction_signals(window, cost)]
    taken = step(state, look.now, signals, alarm_rules(look.past.model))
    return _watched(taken, dict.fromkeys(broken, "data fault"), None, drop), taken.state


def measure(look: Look, model: TrainedModel, registered: Registered, state: AlarmState) -> tuple[Watched, AlarmState]:
    """Measure the newest windows whose labels are known; `state`: the alarms at the check before."""
    past, rng = look.past, look.rng(model)
    curve = label_curve(past, look.now)
    lag = curve.lag_days(past.model.monitoring.labels_known_share)
    lengths = [d for d in past.model.monitoring.windows_days if d >= LEAST_WINDOW_DAYS]
    lengths = lengths or [past.model.monitoring.windows_days[-1]]
    fresh = fresh_rows(past, [model], look.now)
    windows = []
    rows = fresh[:0]
    if math.isfinite(lag):
        for days in lengths:
            rows = _between(look, fresh, days, math.ceil(lag))
            windows.append((days, _realised(look, model, registered, rows, curve, rng)))
    level = (1 - DRIFT_SHARE) * past.model.monitoring.false_alarms_per_year / look.checks_a_year / (len(lengths) + 1)
    known = rows[past.labelled(rows, look.now)]
    concept = weights = None
    if windows and windows[-1][1].mature and len(known):
        some = known if len(known) <= REFERENCE_ROWS else np.sort(rng.choice(known, REFERENCE_ROWS, replace=False))
        frame, judged = past.frame.iloc[some].reset_index(drop=True), past.judged(some)
        weights = reweight(registered.frame, frame, rng)
        concept = concept_test(registered.estimator, frame, judged.actual, said(past, model, some), weights,
                               judged.clusters)  # fmt: skip
    signals = list(performance_signals(windows, concept, registered.usual_loss, registered.error or 1.0, level))
    taken = step(state, look.now, signals, alarm_rules(past.model))
    cause: Cause | None = None
    if windows and windows[-1][1].drop is not None and any(signal.changed for signal in signals):
        estimated = _estimated(look, model, registered, rows, rng)
        unit = estimated.value * registered.error if estimated else None
        facts = facts_of(registered.frame, past.frame.iloc[rows], registered.lost_when_shuffled)
        cause = explain(facts, windows[-1][1].drop, unit, concept, level).cause
    causes = {alarm.subject: cause for alarm in taken.state.alarms} if cause else {}
    return _watched(taken, causes, _longest(windows, registered), None), taken.state


def label_curve(past: Past, now: date) -> MaturityCurve:
    """How labels came, as far as could be seen at the start of a day; what the model file states, until it can."""
    stated = past.model.target.known_after_days
    if past.numbered:
        return fixed_maturity(stated)
    rows = np.arange(past.row_of(now))
    known, event = past.labelled(rows, now), past.event[rows]
    ages = _days(np.datetime64(now, "us") - event)
    delays = np.where(known, _days(past.label_at[rows] - event), np.nan)
    classes = None if past.model.task == "regression" else np.where(known, past.target[rows], -1)
    try:
        return maturity_curve(delays, ages, classes, horizon_days=max(2 * stated, stated + 7))
    except ValueError:
        return fixed_maturity(stated)


def _days(spans: Array) -> Array:
    return np.asarray(spans / np.timedelta64(1, "D"), dtype=np.float64)


def _compared(
    look: Look, model: TrainedModel, side: Side, table: pa.Table, days: int, level: float
) -> WindowDrift:  # fmt: skip
    """A window of days, insufficient where the model did not meet all of them."""
    least = look.past.model.monitoring.min_rows
    if (look.now - model.cutoff).days < days or table.num_rows < least:
        return WindowDrift(days, table.num_rows, side.sketch.rows, "insufficient", level, ())
    current = sketch(side.bins, table.to_batches(), 1)
    return compare(side.sketch, current, days=days, level=level, calibration=side.calibration, min_rows=least)


def _estimated(
    look: Look, model: TrainedModel, registered: Registered, rows: Array, rng: np.random.Generator
) -> Drop | None:
    """What the primary metric loses on these rows, as far as can be told without labels."""
    rows = rows[rows >= model.fresh_from]
    if len(rows) > REFERENCE_ROWS:
        rows = np.sort(rng.choice(rows, REFERENCE_ROWS, replace=False))
    frame = look.past.frame.iloc[rows].reset_index(drop=True)
    weights = reweight(registered.frame, frame, rng)
    scores = said(look.past, model, rows)
    found = registered.estimator.estimate(frame, scores, weights, rng, draws=DRAWS).get(registered.primary)
    if found is None:
        return None
    before = registered.metrics[registered.primary].value
    low, high = sorted(lost_share(registered.primary, before, end) for end in (found.low, found.high))
    return Drop(lost_share(registered.primary, before, found.value), low, high, source="estimated")


def _between(look: Look, rows: Array, days: int, ripe_days: int) -> Array:
    """Those whose event lies in the window of so many days that ended `ripe_days` ago."""
    end = np.datetime64(look.now, "us") - np.timedelta64(ripe_days, "D")
    event = look.past.event[rows]
    return np.asarray(rows[(event >= end - np.timedelta64(days, "D")) & (event < end)])


def _realised(
    look: Look, model: TrainedModel, registered: Registered, rows: Array, curve: MaturityCurve,
    rng: np.random.Generator,
) -> Realised:  # fmt: skip
    watch = look.past.model.monitoring
    rules = RealisedRules(registered.primary, watch.min_impact * registered.error, look.past.model.gate.confidence,
                          RESAMPLES, watch.min_rows, watch.labels_known_share)  # fmt: skip
    ages = _days(np.datetime64(look.now, "us") - look.past.event[rows])
    return realise(look.past.judged(rows), said(look.past, model, rows), look.past.labelled(rows, look.now),
                   ages, curve, registered.metrics, rules, rng)  # fmt: skip


def _longest(windows: Sequence[tuple[int, Realised]], registered: Registered) -> Drop | None:
    """The drop of the longest window that is mature, as a share of the error."""
    for _, realised in reversed(windows):
        if realised.mature and realised.drop is not None and registered.error > 0:
            drop, error = realised.drop, registered.error
            return Drop(drop.value / error, drop.low / error, drop.high / error)
    return None


def _watched(taken: Step, causes: Mapping[str, Cause], realised: Drop | None, estimated: Drop | None) -> Watched:
    alarms = [alarm for alarm in taken.state.alarms if alarm.level != "resolved"]
    explained = tuple(Explained(alarm, causes.get(alarm.subject)) for alarm in alarms)
    return Watched(explained, taken.findings, taken.confirmed, realised, estimated)
