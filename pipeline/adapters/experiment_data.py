"""What champion and challenger did since a step began: the prediction log, joined with the labels that came back.

A label is what `POST /feedback` was told of a prediction, whatever `monitoring.data` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import log_rows
from pipeline.adapters.observed import labels_known
from pipeline.config import ModelConfig
from pipeline.core.buckets import bucket
from pipeline.core.decision import Payoff
from pipeline.core.experiment import Arm, Arms
from pipeline.core.experiment_rows import metric_values, residuals, sample_of
from pipeline.core.labels import class_index
from pipeline.core.package import MANIFEST, Manifest
from pipeline.core.paired import Judged
from pipeline.core.sampling import thin
from pipeline.prediction_rows import answered_parts
from pipeline.rollout import Plan, Variant
from pipeline.settings import Settings

SETTLE_SECONDS = 5.0
"""After a step began: servers look every fifth of a second, and the first answers may still go the old way."""
COLUMNS = ["prediction_id", "time", "user_id", "version", "prediction", "scores", "latency_seconds", "shadow_of"]
MOST_ANSWERS = 1_000_000
"""Of a step with more, so many of a sample of its units are looked at, so that memory stays bounded."""
FAILED = "null"
"""A prediction of an answer that failed, as JSON."""


def began(plan: Plan) -> datetime:
    """From when on this step's answers count."""
    return datetime.fromtimestamp(plan.began + SETTLE_SECONDS, UTC)


def arms_of(model: ModelConfig, plan: Plan, until: datetime, settings: Settings) -> Arms:
    """Both variants, from the beginning of the step until an instant.

    Raises OutsideFailure where the store of the log, or the database, does not answer.
    """
    answers, share = _answers(model.name, plan, until, settings)
    asked = pd.Index(answers["shadow_of"].fillna(answers["prediction_id"]).unique().astype(object))
    labels = labels_known(
        _by_feedback(model), began(plan), until, settings, lambda ids: np.asarray(asked.get_indexer(ids)) >= 0
    )
    challenger = plan.challenger
    assert challenger is not None
    ours, theirs = (_Side(model, variant, settings) for variant in (challenger, plan.variants[0]))
    if plan.strategy == "shadow":
        arms = _shadowed(answers, labels["label"], ours, theirs)
    else:
        arms = _shared(answers, labels["label"], ours, theirs, plan)
    return replace(arms, looked_at=share)


def _by_feedback(model: ModelConfig) -> ModelConfig:
    return model.model_copy(update={"monitoring": model.monitoring.model_copy(update={"data": "predictions"})})


def _answers(model: str, plan: Plan, until: datetime, settings: Settings) -> tuple[pd.DataFrame, float]:
    """The answers of both versions in the order of time, with the unit of each; and the share of the units."""
    kept, share = thin(_parts(model, plan, until, settings), _units, MOST_ANSWERS)
    whole = pa.concat_tables([pa.schema([log_rows.COLUMNS.field(name) for name in COLUMNS]).empty_table(), *kept])
    found: pd.DataFrame = whole.append_column("unit", pa.array(_units(whole), pa.string())).to_pandas()
    found["failed"] = found["prediction"] == FAILED
    found = found.drop_duplicates("prediction_id").sort_values(["time", "prediction_id"], kind="stable")
    return found.reset_index(drop=True), share


def _parts(model: str, plan: Plan, until: datetime, settings: Settings) -> Iterator[pa.Table]:
    """The answers of both versions since the step began, an answer perhaps twice."""
    since, versions = began(plan), pa.array([variant.version for variant in plan.variants])
    for number in range((until.date() - since.date()).days + 1):
        day = since.date() + timedelta(days=number)
        for rows in answered_parts(model, day, settings.log, COLUMNS, shadows=True):
            inside = pc.and_(pc.greater_equal(rows["time"], since), pc.less_equal(rows["time"], until))
            yield rows.filter(pc.and_(inside, pc.is_in(rows["version"], versions)))


def _units(rows: pa.Table) -> np.ndarray:
    """The unit of each answer: its user, or the request of nobody. A user and a request of one name are two."""
    user = pc.fill_null(rows["user_id"], "")
    asked = pc.coalesce(rows["shadow_of"], rows["prediction_id"])
    unit = pc.if_else(pc.equal(user, ""), pc.binary_join_element_wise("p", asked, ""),
                      pc.binary_join_element_wise("u", user, ""))  # fmt: skip
    return np.asarray(unit.to_numpy())


@dataclass(frozen=True)
class _Side:
    """One variant, and how its answers are weighed."""

    model: ModelConfig
    variant: Variant
    settings: Settings

    @cached_property
    def manifest(self) -> Manifest:
        path = self.settings.home / self.variant.package / MANIFEST
        return Manifest.from_json(path.read_text(encoding="utf-8"))

    def weighed(self, answers: pd.DataFrame, labels: pd.Series[str]) -> pd.DataFrame:
        """Answers with a label: `value` in the metric, `residual` of their probability; others are left out."""
        label = labels.reindex(answers["asked"]).to_numpy(dtype=object)
        known = np.array([one is not None and one == one for one in label], dtype=bool) & ~answers["failed"].to_numpy()
        actual = self._actual(label[known])
        finite = np.isfinite(actual)
        rows = answers[known][finite]
        if not len(rows):
            return pd.DataFrame({"asked": [], "unit": [], "value": [], "residual": []})
        actual, task = actual[finite], self.model.task
        scores = np.stack(rows["scores"].to_list()).astype(np.float64)
        scores = scores[:, 0] if task == "regression" else scores
        actual = actual if task == "regression" else actual.astype(np.int64)
        payoff = Payoff(**self.model.payoff.model_dump()) if self.model.payoff else None
        judged = Judged(task, actual, None, payoff, self.manifest.threshold)
        off = residuals(task, actual, scores)
        return pd.DataFrame({
            "asked": rows["asked"].to_numpy(), "unit": rows["unit"].to_numpy(),
            "value": metric_values(judged, self.model.rollout_metric, scores),
            "residual": np.zeros(len(rows)) if off is None else off,
        })  # fmt: skip

    def _actual(self, label: np.ndarray) -> np.ndarray:
        """Class index, -1 for a class that the model does not know; or the number, NaN where it is none."""
        if self.model.task == "regression":
            return pd.to_numeric(pd.Series(label), errors="coerce").to_numpy(dtype=np.float64)
        return class_index(label, [str(c) for c in self.manifest.signature.classes]).astype(np.float64)

    def arm(self, answers: pd.DataFrame, weighed: pd.DataFrame, units: int, slow_from: float) -> Arm:
        """What this variant did."""
        slow = answers["latency_seconds"] > slow_from
        units_of = weighed["unit"].to_numpy()
        return Arm(
            units=units,
            answers=len(answers),
            failed=answers.loc[answers["failed"], "unit"].nunique(),
            slow=answers.loc[slow, "unit"].nunique(),
            metric=sample_of(weighed["value"].to_numpy(), units_of),
            calibration=None if self.model.task == "regression"
            else sample_of(weighed["residual"].to_numpy(), units_of),
        )  # fmt: skip


def _shared(answers: pd.DataFrame, labels: pd.Series[str], ours: _Side, theirs: _Side, plan: Plan) -> Arms:
    """Canary and A/B: every unit is somebody's, by whom answered it first."""
    answers = answers[answers["shadow_of"].isna()].assign(asked=lambda frame: frame["prediction_id"])
    answers["ours"] = answers["version"] == ours.variant.version
    by_unit = answers.groupby("unit", sort=False)["ours"]
    first, both = by_unit.first(), by_unit.nunique() > 1
    displaced = pd.Series(list(_displaced(first, plan)), index=first.index, dtype=bool)
    slow_from = float(answers.loc[~answers["ours"], "latency_seconds"].quantile(0.99)) if len(answers) else np.inf
    fair = answers["unit"].map(~both & ~displaced).to_numpy(dtype=bool)
    arms = []
    for side, mine in ((theirs, ~answers["ours"].to_numpy(dtype=bool)), (ours, answers["ours"].to_numpy(dtype=bool))):
        units = int((first == (side is ours)).sum())
        arms.append(side.arm(answers[mine], side.weighed(answers[mine & fair], labels), units, slow_from))
    return Arms(arms[0], arms[1], None, int(both.sum()), int(displaced.sum()))


def _displaced(first: pd.Series[bool], plan: Plan) -> Iterator[bool]:
    """Whether a user was answered by another variant than their bucket says."""
    for unit, ours in first.items():
        name = str(unit)
        yield name[0] == "u" and (bucket(name[1:], plan.salt) < plan.share) != bool(ours)


def _shadowed(answers: pd.DataFrame, labels: pd.Series[str], ours: _Side, theirs: _Side) -> Arms:
    """Shadow: what both said of the same rows."""
    is_shadow = answers["shadow_of"].notna()
    said = answers[is_shadow & (answers["version"] == ours.variant.version)]
    said = said.assign(asked=said["shadow_of"]).drop_duplicates("asked")
    told = answers[~is_shadow & (answers["version"] == theirs.variant.version)]
    told = told.assign(asked=told["prediction_id"])
    told = told[told["asked"].isin(said["asked"])]
    mine, other = ours.weighed(said, labels), theirs.weighed(told, labels)
    pairs = mine.merge(other, on="asked", suffixes=("", "_champion"))
    paired = sample_of((pairs["value"] - pairs["value_champion"]).to_numpy(), pairs["unit"].to_numpy())
    mine, other = mine[mine["asked"].isin(pairs["asked"])], other[other["asked"].isin(pairs["asked"])]
    return Arms(
        theirs.arm(told, other, told["unit"].nunique(), np.inf),
        ours.arm(said, mine, said["unit"].nunique(), np.inf), paired,
    )  # fmt: skip
