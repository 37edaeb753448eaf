"""The past, answering for every model and check: what one policy asked, all others have for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from functools import cache

import numpy as np

from pipeline.adapters.judging import gate_rules
from pipeline.adapters.replay_models import TrainedModel, fresh_rows, predict, said, train
from pipeline.adapters.replay_past import Array, Past, instant
from pipeline.adapters.replay_reference import Registered, Sides, registered_of, sides_of
from pipeline.adapters.replay_watch import Look, look_for_drift, measure
from pipeline.core.alarms import AlarmState
from pipeline.core.gate import examine, judge
from pipeline.core.paired import difference
from pipeline.core.replay_walk import Known, Walk, Watched
from pipeline.core.verdict import Difference
from pipeline.core.wear import wear
from pipeline.errors import NotEnoughData


class PastHistory:
    """See `replay_walk.History`. Models, references and checks are made when they are first asked for, and kept."""

    def __init__(self, past: Past, begin: date, every_days: int, *, gate: bool) -> None:
        self._past, self._every, self._gate = past, every_days, gate
        span = (past.last - begin).days
        self._checks = tuple(begin + timedelta(days=n) for n in range(0, span + 1, every_days))
        # Kept with the instance, unlike a decorator on the method.
        self.model = cache(self._model)
        self._registered = cache(self._registered_of)
        self._sides = cache(self._sides_of)
        self._drift = cache(self._drift_at)
        self._measured = cache(self._measured_at)
        self.gap = cache(self._gap)
        self.refused = cache(self._refused)

    @property
    def checks(self) -> Sequence[date]:
        """See History."""
        return self._checks

    @property
    def models(self) -> int:
        """How many were trained."""
        return self.model.cache_info().currsize

    def known(self, model: date, now: date) -> Known:
        """See History."""
        trained = self.model(model)
        fresh = fresh_rows(self._past, [trained], now)
        labelled = fresh[self._past.labelled(fresh, now)]
        newest = instant(self._past.event[labelled if len(labelled) else trained.judge].max())
        return Known(len(trained.train), len(labelled), newest - self._too_young(trained))

    def drift(self, model: date, now: date) -> Watched:
        """See History."""
        return [self._drift(model, check) for check in self._checks_of(model, now)][-1][0]

    def performance(self, model: date, now: date) -> Watched:
        """See History."""
        return [self._measured(model, check) for check in self._checks_of(model, now)][-1][0]

    def scores(self, walk: Walk) -> tuple[Array, Array]:
        """The rows that were met after the first check and have a label, and what the champion of their time said."""
        past = self._past
        rows, scores = [], []
        ends = [*(reign.since for reign in walk.reigns[1:]), past.last + timedelta(days=1)]
        for reign, end in zip(walk.reigns, ends, strict=True):
            mine = np.arange(past.row_of(reign.since), past.row_of(end))
            mine = mine[~np.isnat(past.label_at[mine])]
            if len(mine):
                rows.append(mine)
                scores.append(self._said(self.model(reign.model), mine))
        return np.concatenate(rows), np.concatenate(scores)

    def metric(self, rows: Array, scores: Array) -> float:
        """The primary metric of these rows; NaN where it is not defined."""
        found = self._past.judged(rows).metrics(scores, np.ones((1, len(rows))))
        return float(found[self._past.model.primary_metric][0])

    def months(self, rows: Array, scores: Array) -> tuple[tuple[str, float], ...]:
        """The same by month of the day on which a row was met; months in which it is not defined are left out."""
        place = np.searchsorted(self._past.starts, rows, "right") - 1
        month = (np.datetime64(self._past.first, "D") + place).astype("datetime64[M]")
        found = [(str(one), self.metric(rows[month == one], scores[month == one])) for one in np.unique(month)]
        return tuple((name, value) for name, value in found if np.isfinite(value))

    def _said(self, model: TrainedModel, rows: Array) -> Array:
        return said(self._past, model, rows)

    def _model(self, cutoff: date) -> TrainedModel:
        return train(self._past, cutoff)

    def _registered_of(self, cutoff: date) -> Registered:
        return registered_of(self._past, self.model(cutoff))

    def _sides_of(self, cutoff: date) -> Sides:
        return sides_of(self._past, self.model(cutoff))

    def _look(self, now: date) -> Look:
        return Look(self._past, now, self._every)

    def _too_young(self, model: TrainedModel) -> timedelta:
        """A change younger than this is not learned: newest rows judge, and the embargo lies before them.

        As long again must be left to learn from; see `situations`, which asks for no more where no instants are.
        """
        if self._past.numbered:
            return timedelta(0)
        judged = self._past.event[model.judge]
        return 2 * (instant(judged.max()) - instant(judged.min())) + timedelta(days=self._past.model.embargo_days)

    def _checks_of(self, model: date, now: date) -> list[date]:
        """Those at which this model was there to be watched."""
        return [check for check in self._checks if model < check <= now]

    def _drift_at(self, model: date, now: date) -> tuple[Watched, AlarmState]:
        before = self._checks_of(model, now)[:-1]
        state = self._drift(model, before[-1])[1] if before else AlarmState()
        return look_for_drift(self._look(now), self.model(model), self._sides(model), self._registered(model), state)

    def _measured_at(self, model: date, now: date) -> tuple[Watched, AlarmState]:
        before = self._checks_of(model, now)[:-1]
        state = self._measured(model, before[-1])[1] if before else AlarmState()
        return measure(self._look(now), self.model(model), self._registered(model), state)

    def _gap(self, previous: date, model: date, now: date) -> Difference | None:
        past, (one, other) = self._past, (self.model(previous), self.model(model))
        rows = fresh_rows(past, [one, other], now)
        rows = rows[past.labelled(rows, now)]
        judged = past.judged(rows)
        if len(rows) < past.model.monitoring.min_rows:
            return None
        if past.model.task == "binary" and len(np.unique(judged.actual)) < 2:
            return None
        return difference(
            judged, past.model.primary_metric, self._said(one, rows), self._said(other, rows),
            confidence=past.model.gate.confidence, resamples=past.model.gate.resamples,
            rng=np.random.default_rng(past.model.training.seed),
        )  # fmt: skip

    def _refused(self, candidate: date, champion: date) -> str | None:
        """Why a candidate does not replace the champion: it cannot be made, or the gate says no."""
        past = self._past
        try:
            new = self.model(candidate)
        except NotEnoughData as error:
            return str(error)
        if not self._gate:
            return None
        old = self.model(champion)
        unseen = past.event[new.judge] > past.event[old.judge].max()
        frame = past.frame.iloc[new.judge].reset_index(drop=True)
        rules, theirs = gate_rules(past.model), predict(old.pipeline, frame)
        fresh = past.target[new.judge][unseen]
        compared = len(fresh) >= 30 and (past.model.task != "binary" or len(np.unique(fresh)) > 1)
        if not compared:
            return f"only {len(fresh)} of the rows that judge are new to the champion"
        examined = examine(past.judged(new.judge), frame, new.judge_scores, theirs, unseen, rules,
                           wear([], rules.confidence))  # fmt: skip
        verdict = judge(examined, rules)
        return None if verdict.decision == "PROMOTE" else f"{verdict.decision}: {verdict.reasons[-1]}"
