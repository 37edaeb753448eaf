"""Evaluate: candidate and champion on the same later rows, and what the gate says."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pipeline.adapters.environment import code_digest, library_versions
from pipeline.adapters.store import Output, once
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.digest import digest_of
from pipeline.core.schema import Schema
from pipeline.errors import NotEnoughData
from pipeline.records import EvaluateRecord, TrainRecord
from pipeline.settings import Settings

if TYPE_CHECKING:
    import numpy as np

    from pipeline.adapters.training_rows import Rows
    from pipeline.core.gate import GateRules

IMPORTANCE_ROWS = 1_000
"""Rows that importance is measured on: enough to rank features, few enough for a second of work."""


def evaluate(train: TrainRecord, model: ModelConfig, context: RunContext, settings: Settings) -> EvaluateRecord:
    """Score the rows that judge, compare with the champion on the very same rows, and decide.

    Raises NotEnoughData where those rows hold one class only, PackageInvalid where the champion's package
    is damaged, OutsideFailure (MLflow).
    """
    from pipeline.adapters.champions import judged_against

    champion = judged_against(model.name, train.digest, settings)
    sections = model.model_dump(mode="json", include={"name", "task", "metrics", "gate"})
    key = digest_of("evaluate", train.key, train.digest, champion, sections,
                    code_digest(), library_versions())  # fmt: skip
    return once(settings, "evaluate", key, EvaluateRecord,
                lambda out: _judge(train, model, context, settings, champion, key, out))  # fmt: skip


def _judge(
    train: TrainRecord,
    model: ModelConfig,
    context: RunContext,
    settings: Settings,
    champion: str | None,
    key: str,
    out: Output,
) -> EvaluateRecord:
    import numpy as np

    from pipeline.adapters.training_rows import read_rows
    from pipeline.core.gate import GateRules, compare, judge
    from pipeline.package_files import load_model

    folder = settings.home / train.model
    schema = Schema.from_json((settings.home / train.prepare.validate.schema).read_text(encoding="utf-8"))
    classes = tuple(json.loads(folder.with_name("classes.json").read_text(encoding="utf-8")))
    rows = read_rows(settings.home / train.prepare.test, schema, model, classes)
    _require_both_classes(rows, model)
    fitted = load_model(folder.read_bytes())

    def predict(frame: Any) -> np.ndarray:
        found = fitted.predict(frame) if model.task == "regression" else fitted.predict_proba(frame)
        return np.asarray(found, dtype=np.float64)

    rules = GateRules(model.primary_metric, model.metrics.floors, model.gate.margin, model.gate.confidence,
                      model.gate.resamples, model.training.seed)  # fmt: skip
    scores = predict(rows.frame)
    rival = _champion_scores(champion, rows, classes, model, settings) if champion else None
    compared = compare(model.task, rows.target, scores, rival, rules)
    verdict = judge(compared, rules)
    np.save(out.path("predictions.npy"), scores, allow_pickle=False)
    record = EvaluateRecord(
        key=key,
        metrics=compared.candidate,
        champion=champion.rsplit("/", 1)[-1] if champion else None,
        champion_metrics=compared.champion,
        difference=compared.difference,
        verdict=verdict,
        predictions=out.named("predictions.npy"),
        predictions_digest=hashlib.sha256(np.ascontiguousarray(scores).tobytes()).hexdigest(),
        train=train,
    )
    _show(record, model, context, settings, rows, scores, predict, classes, rules, out)
    return record


def _require_both_classes(rows: Rows, model: ModelConfig) -> None:
    if model.task == "binary" and len(set(rows.target.tolist())) < 2:
        raise NotEnoughData(
            f"{model.name}: the {len(rows.target)} rows that judge hold one class only; "
            "widen split.test_days or split.test_share"
        )


def _champion_scores(
    package: str, rows: Rows, classes: tuple[str, ...], model: ModelConfig, settings: Settings
) -> np.ndarray:
    """The champion's scores of the same rows, its classes in the candidate's order."""
    import numpy as np

    from pipeline.package_files import read_package

    predictor = read_package(settings.home / package).predictor
    names = {feature.name for feature in predictor.signature.features}
    missing = names - set(rows.frame.columns)
    if missing:
        raise NotEnoughData(
            f"{model.name}: the champion needs the column {sorted(missing)[0]!r}, which the candidate's rows lack; "
            "keep it among the features until a champion without it answers"
        )
    scores = predictor.scores({name: rows.frame[name].to_numpy() for name in names})
    if model.task == "regression":
        return np.asarray(scores)
    own = [str(c) for c in predictor.signature.classes]
    aligned = np.zeros((len(scores), len(classes)))
    for column, name in enumerate(classes):
        if name in own:
            aligned[:, column] = scores[:, own.index(name)]
    return aligned


def _show(
    record: EvaluateRecord, model: ModelConfig, context: RunContext, settings: Settings, rows: Rows,
    scores: np.ndarray, predict: Any, classes: tuple[str, ...], rules: GateRules, out: Output,
) -> None:  # fmt: skip
    """Metrics with intervals, the verdict and the pictures, on the MLflow run of the candidate."""
    import numpy as np

    from pipeline.adapters.plots import draw
    from pipeline.adapters.tracking import open_run
    from pipeline.core.importance import permutation_importance

    few = slice(0, IMPORTANCE_ROWS)
    importance = permutation_importance(
        predict, rows.frame[few], rows.target[few], model.task, rules.primary, np.random.default_rng(rules.seed)
    )
    plots = out.path("plots")
    plots.mkdir()
    draw(model.task, rows.target, scores, list(classes), importance, plots)
    out.path("importance.json").write_text(json.dumps(importance, indent=2), encoding="utf-8")
    with open_run(settings, record.train.mlflow_run) as run:
        values = {name: interval.value for name, interval in record.metrics.items()}
        bounds = {f"{n}_low": i.low for n, i in record.metrics.items()} | {
            f"{n}_high": i.high for n, i in record.metrics.items()
        }
        run.metrics(values | bounds, at_ms=int(context.cutoff.timestamp() * 1000))
        tags = {
            "evergreen.verdict": record.verdict.decision,
            "evergreen.reasons": "; ".join(record.verdict.reasons),
            "evergreen.predictions_sha256": record.predictions_digest,
        }
        run.log({}, tags)
        run.folder(plots, "plots")
        run.text(
            (settings.home / record.train.prepare.validate.data_docs).read_text(encoding="utf-8"), "data_docs.html"
        )
