"""One day held against a champion: windows compared, changes weighed, alarms taken one day further."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import dropwhile

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from pipeline.adapters.champion_reference import ChampionReference, Side
from pipeline.adapters.day_sketches import SketchedDay, score, together, typed_features
from pipeline.adapters.observed import ONE_DAY, day_start, newest_row
from pipeline.config import ModelConfig
from pipeline.core.alarms import AlarmRules, AlarmState, Step, step
from pipeline.core.column_facts import facts_of
from pipeline.core.drift_budget import levels
from pipeline.core.drift_test import WindowDrift, compare
from pipeline.core.estimation import Estimate
from pipeline.core.faults import Fault, faults
from pipeline.core.impact import lost_share
from pipeline.core.reweighting import reweight
from pipeline.core.schema_events import ColumnCounts, SchemaEvent, SchemaRules, TableCounts, schema_events
from pipeline.core.signals import feature_signals, prediction_signals
from pipeline.core.sketch import Sketch

DRIFT_SHARE = 0.8
"""Of the yearly budget of false alarms; the rest is the performance's."""
WEIGHED_ROWS = 5_000
"""Rows of a window from which its performance is estimated: more change the weighing no longer."""
DRAWS = 30
"""Of the labels to come, for the band of that estimate."""
SETTLED_DAYS = 28
"""Past days whose rows a day's volume is held against."""


@dataclass(frozen=True)
class DayDrift:
    """Everything that was seen on a day."""

    day: date
    windows: tuple[WindowDrift, ...]
    """Of the features, in the order of the model file."""
    predictions: tuple[WindowDrift, ...]
    estimated: Estimate | None
    """The primary metric on the longest window that changed, without labels; None where nothing changed."""
    faults: tuple[Fault, ...]
    """Columns that look broken, where something changed materially."""
    step: Step
    events: tuple[SchemaEvent, ...]


def alarm_rules(model: ModelConfig) -> AlarmRules:
    """The model file's rules."""
    watch = model.monitoring
    return AlarmRules(watch.min_effect, watch.min_impact, watch.confirm.seen, watch.confirm.of,
                      watch.resolve_after_days, watch.cool_down_days)  # fmt: skip


def check_day(
    day: date, days: Sequence[SketchedDay], past_rows: Sequence[int], champion: ChampionReference, model: ModelConfig,
    state: AlarmState,
) -> DayDrift:  # fmt: skip
    """Compare the windows that end with `day` with the champion's reference.

    `days`: from the first that the champion did not know to `day`, in order. `past_rows`: rows of the days before.
    `state`: the alarms as they stood on an earlier day.
    """
    watch = model.monitoring
    columns = len(champion.features.bins.columns) + len(champion.prediction.bins.columns)
    allowed = levels(DRIFT_SHARE * watch.false_alarms_per_year, columns, watch.windows_days)
    features, predictions = [], []
    for length in watch.windows_days:
        recent = days[-length:]
        least = watch.min_rows if len(recent) == length else None
        features.append(_compare(champion.features, [d.features for d in recent], length, allowed[length], least))
        predictions.append(
            _compare(champion.prediction, [d.prediction for d in recent], length, allowed[length], least)
        )
    changed = [w for w in (*features, *predictions) if any(c.psi >= watch.min_effect for c in w.changed)]
    estimated: Estimate | None = None
    broken: tuple[Fault, ...] = ()
    cost = 0.0
    if changed:
        longest, shortest = max(w.days for w in changed), min(w.days for w in changed)
        estimated = _estimate(days[-longest:], champion, model)
        broken = _broken(changed, days[-shortest:], champion, model)
    if estimated is not None:
        before = champion.registered[estimated.metric].value
        ends = (lost_share(estimated.metric, before, end) for end in (estimated.low, estimated.high))
        cost = max(0.0, min(ends))
    signals = [s for window in features for s in feature_signals(window, champion.importance, cost)]
    signals += [s for window in predictions for s in prediction_signals(window, cost)]
    taken = step(state, day + ONE_DAY, signals, alarm_rules(model))
    return DayDrift(day, tuple(features), tuple(predictions), estimated, broken, taken,
                    _events(days, past_rows, champion, model))  # fmt: skip


def _compare(side: Side, sketches: Sequence[Sketch], days: int, level: float, least: int | None) -> WindowDrift:
    """A window of days; `least` None: there are not yet so many days."""
    current = together(side, sketches)
    enough = current.rows + 1 if least is None else least
    return compare(side.sketch, current, days=days, level=level, calibration=side.calibration, min_rows=enough)


def _broken(
    changed: Sequence[WindowDrift], days: Sequence[SketchedDay], champion: ChampionReference, model: ModelConfig
) -> tuple[Fault, ...]:
    """Those of the columns that changed materially that look broken, rather than different."""
    least = model.monitoring.min_effect
    moved = {column.column for window in changed for column in window.changed if column.psi >= least}
    names = [name for name in champion.schema.features if name in moved]
    if not names:
        return ()
    now = _frame(days, champion)[names]
    return faults(facts_of(champion.judged.frame[names], now, champion.lost_when_shuffled))


def _frame(days: Sequence[SketchedDay], champion: ChampionReference) -> pd.DataFrame:
    """The features of all rows of these days."""
    names = list(champion.schema.features)
    frames = [pq.read_table(day.observed.path, columns=names).to_pandas() for day in days]
    return typed_features(pd.concat(frames, ignore_index=True), champion.schema)


def _estimate(days: Sequence[SketchedDay], champion: ChampionReference, model: ModelConfig) -> Estimate | None:
    """The primary metric on these days, as far as can be told without labels."""
    rng = np.random.default_rng(model.training.seed)
    frame = _frame(days, champion)
    if len(frame) > WEIGHED_ROWS:
        frame = frame.iloc[np.sort(rng.choice(len(frame), WEIGHED_ROWS, replace=False))].reset_index(drop=True)
    weights = reweight(champion.judged.frame, frame, rng)
    found = champion.estimator.estimate(frame, score(champion.predictor, frame), weights, rng, draws=DRAWS)
    return found.get(champion.register.evaluate.primary)


def _events(
    days: Sequence[SketchedDay], past_rows: Sequence[int], champion: ChampionReference, model: ModelConfig
) -> tuple[SchemaEvent, ...]:
    watch, day = model.monitoring, days[-1]
    newest = newest_row([one.observed for one in days])
    age = None if newest is None else (day_start(day.observed.day + ONE_DAY) - newest).total_seconds() / 3600
    rules = SchemaRules(
        unseen_share=watch.max_bad_share, unparseable_share=watch.max_bad_share, range_share=watch.max_bad_share,
        volume_low=watch.volume.min_share, volume_high=watch.volume.max_share, max_age_hours=watch.max_silence_hours,
    )  # fmt: skip
    rows = day.observed.arrived
    columns = [_counts(name, day, champion, rows) for name in champion.schema.features]
    since_the_first = dropwhile(lambda count: count == 0, past_rows)  # a new service answered nobody before it began
    table = TableCounts(rows, tuple(since_the_first)[-SETTLED_DAYS:], age)
    return schema_events(columns, table, rules)


def _counts(name: str, day: SketchedDay, champion: ChampionReference, rows: int) -> ColumnCounts:
    before = champion.features.sketch.missing_share(name)
    unreadable = day.observed.unreadable.get(name, 0)
    if champion.schema.features[name] == "category":
        seen = day.features.categories[name]
        examples = tuple(value for value, _ in seen.unseen[:3])
        return ColumnCounts(name, "category", rows, seen.missing, before, unreadable, seen.unseen_rows,
                            examples=examples)  # fmt: skip
    found, known = day.features.numbers[name], champion.features.bins.numbers[name]
    return ColumnCounts(
        name, "number", rows, found.missing, before, unreadable, below=found.below, above=found.above,
        lowest=found.minimum, highest=found.maximum, reference_low=known.low, reference_high=known.high,
    )  # fmt: skip
