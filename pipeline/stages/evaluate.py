"""Evaluate: candidate and champion, as they would serve, on the same later rows; and what the gate says."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pipeline.adapters.champions import champion_of
from pipeline.adapters.environment import code_digest, library_versions
from pipeline.adapters.store import Output, once
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.digest import digest_of
from pipeline.core.schema import Schema
from pipeline.core.verdict import Check, Wear
from pipeline.errors import NotEnoughData
from pipeline.ledger import Event, Ledger
from pipeline.records import EvaluateRecord, TrainRecord
from pipeline.settings import Settings

if TYPE_CHECKING:
    import numpy as np

    from pipeline.adapters.rivals import Rival
    from pipeline.adapters.training_rows import Rows

LEAST_TO_COMPARE = 30
"""Rows new to both models below which nothing is compared."""


@dataclass(frozen=True)
class Opponent:
    """Whom the candidate meets, decided before anything is computed."""

    rival: Rival | None
    stale: str | None
    """Why no comparison with the champion would be fair."""
    wear: Wear | None


def evaluate(train: TrainRecord, model: ModelConfig, context: RunContext, settings: Settings) -> EvaluateRecord:
    """Package the candidate, score the rows that judge, compare with the champion on the very same rows, and decide.

    Raises NotEnoughData where those rows hold one class only, PackageInvalid where a package is damaged,
    OutsideFailure (MLflow, database).
    """
    with Ledger(settings.database_url) as ledger:
        opponent = _opponent(train, model, context, ledger, settings)
        sections = model.model_dump(mode="json", include={"name", "task", "metrics", "gate", "behaviour", "payoff"})
        rival = opponent.rival
        key = digest_of(
            "evaluate", train.key, train.digest, rival.register.digest if rival else None, opponent.stale,
            opponent.wear.candidates if opponent.wear else None, sections, code_digest(), library_versions(),
        )  # fmt: skip
        record = once(settings, "evaluate", key, EvaluateRecord,
                      lambda out: _judge(train, model, context, settings, opponent, key, out))  # fmt: skip
        ledger.append(_event(record, context))
    return record


def _opponent(
    train: TrainRecord, model: ModelConfig, context: RunContext, ledger: Ledger, settings: Settings
) -> Opponent:
    from pipeline.adapters.rivals import rival_of, shares_judged
    from pipeline.core.wear import wear

    rival = rival_of(model.name, train.digest, champion_of(model.name, settings), ledger)
    if rival is None:
        return Opponent(None, None, None)
    if context.cutoff <= rival.cutoff:
        return Opponent(rival, (
            f"no comparison: the champion (version {rival.version}) knows all up to {rival.cutoff.isoformat()}, "
            f"which is not before this cut-off, {context.cutoff.isoformat()}"
        ), None)  # fmt: skip
    window = (train.prepare.test_from, train.prepare.test_until)
    return Opponent(rival, None, wear(shares_judged(model.name, train.digest, window, ledger), model.gate.confidence))


def _judge(
    train: TrainRecord,
    model: ModelConfig,
    context: RunContext,
    settings: Settings,
    opponent: Opponent,
    key: str,
    out: Output,
) -> EvaluateRecord:
    import numpy as np

    from pipeline.adapters import judging
    from pipeline.adapters.candidates import package_candidate
    from pipeline.adapters.evidence import show
    from pipeline.adapters.rivals import scores_of, unseen
    from pipeline.adapters.training_rows import read_rows
    from pipeline.core.gate import examine, judge, with_checks
    from pipeline.package_files import read_package

    path = settings.home / train.model
    schema = Schema.from_json((settings.home / train.prepare.validate.schema).read_text(encoding="utf-8"))
    classes = tuple(json.loads(path.with_name("classes.json").read_text(encoding="utf-8")))
    test = settings.home / train.prepare.test
    rows = read_rows(test, schema, model, classes)
    _require_both_classes(rows, model)
    seen = read_rows(settings.home / train.prepare.train, schema, model, classes)
    folder, digest, form = package_candidate(
        path.read_bytes(), model, schema, classes, seen.frame, rows.frame, settings
    )
    predictor = read_package(folder).predictor
    judged, table = judging.judged_rows(rows, test, model), judging.judged_table(rows, test, model)
    scores = judging.predict(predictor, rows.frame)
    rules = judging.gate_rules(model)
    rival_scores, mask = None, None
    more: list[Check] = []
    if opponent.stale:
        more.append(Check("law", "time", "fail", opponent.stale))
    elif opponent.rival is not None:
        mask = unseen(train.prepare, opponent.rival, model, settings)
        rival_scores, threshold = scores_of(opponent.rival, rows.frame, classes, settings)
        judged = judged.against(threshold)
        if _too_few(mask, rows, model):
            told = (
                f"only {int(mask.sum())} of {len(mask)} rows that judge are new to the champion "
                f"(version {opponent.rival.version}); wait for more labels, or, where entity or time has changed "
                f"in the model file, let a person `promote` it"
            )
            more.append(Check("law", "fresh rows", "unclear", told))
            rival_scores = None
    examined = examine(judged, table, scores, rival_scores, mask, rules, opponent.wear)
    fair, rates = judging.fairness_checks(judged, table, scores, model)
    fast, latency_ms = judging.latency_check(settings.relative(folder), digest, model, settings)
    more += [*judging.behaviour_checks(predictor, rows, model), *fair, *fast]
    verdict = judge(examined, rules, more)
    np.save(out.path("predictions.npy"), scores, allow_pickle=False)
    rival = opponent.rival
    record = EvaluateRecord(
        key=key,
        package=settings.relative(folder),
        package_digest=digest,
        form=form,
        primary=rules.primary,
        metrics=examined.candidate,
        champion=rival.register.digest if rival else None,
        champion_version=rival.version if rival else None,
        champion_metrics=examined.champion,
        difference=examined.difference,
        evidence=with_checks(examined.evidence, more),
        threshold=model.threshold,
        latency_ms=latency_ms,
        fairness=rates,
        verdict=verdict,
        predictions=out.named("predictions.npy"),
        predictions_digest=hashlib.sha256(np.ascontiguousarray(scores).tobytes()).hexdigest(),
        train=train,
    )
    show(record, model, context, settings, rows, judged, scores, predictor, classes, out)
    return record


def _too_few(mask: np.ndarray, rows: Rows, model: ModelConfig) -> bool:
    if int(mask.sum()) < LEAST_TO_COMPARE:
        return True
    return model.task == "binary" and len(set(rows.target[mask].tolist())) < 2


def _require_both_classes(rows: Rows, model: ModelConfig) -> None:
    if model.task == "binary" and len(set(rows.target.tolist())) < 2:
        raise NotEnoughData(
            f"{model.name}: the {len(rows.target)} rows that judge hold one class only; "
            "widen split.test_days or split.test_share"
        )


def _event(record: EvaluateRecord, context: RunContext) -> Event:
    """The verdict as a line of the ledger; the same judgement again is the same line."""
    prepare = record.train.prepare
    return Event(context.model, "verdict", None, {
        "candidate": record.train.digest, "package": record.package_digest, "compared_with": record.champion,
        "compared_version": record.champion_version, "window": [prepare.test_from, prepare.test_until],
        "rows": prepare.digest, "cutoff": context.cutoff.isoformat(), "run_id": context.run_id,
        "run_kind": context.kind, "verdict": asdict(record.verdict),
        "metrics": {name: asdict(interval) for name, interval in record.metrics.items()},
        "champion_metrics": {name: asdict(interval) for name, interval in record.champion_metrics.items()},
        "difference": asdict(record.difference) if record.difference else None,
        "wear": asdict(record.evidence.wear) if record.evidence.wear else None,
        "labels_needed": record.evidence.labels_needed, "key": record.key,
    }, once=record.key)  # fmt: skip
