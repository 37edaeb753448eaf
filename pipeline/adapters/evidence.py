"""The figures and pictures of a judgement on the candidate's MLflow run."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np

from pipeline.adapters.judging import predict
from pipeline.adapters.plots import draw
from pipeline.adapters.store import Output
from pipeline.adapters.tracking import open_run
from pipeline.adapters.training_rows import Rows
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.importance import permutation_importance
from pipeline.core.metric_names import higher_is_better
from pipeline.core.paired import Judged
from pipeline.core.predictor import Predictor
from pipeline.records import EvaluateRecord
from pipeline.settings import Settings

IMPORTANCE_ROWS = 1_000
"""Rows that importance is measured on: enough to rank features, few enough for a second of work."""


def show(
    record: EvaluateRecord, model: ModelConfig, context: RunContext, settings: Settings, rows: Rows, judged: Judged,
    scores: np.ndarray, predictor: Predictor, classes: tuple[str, ...], out: Output,
) -> None:  # fmt: skip
    """Metrics with intervals, the verdict with its evidence, and the pictures."""
    few = slice(0, IMPORTANCE_ROWS)
    sample = judged.only(np.arange(len(rows.target)) < IMPORTANCE_ROWS)
    ones = np.ones((1, len(sample.actual)))
    sign = 1 if higher_is_better(model.primary_metric) else -1
    importance = permutation_importance(
        lambda frame: predict(predictor, frame), rows.frame[few],
        lambda found: sign * float(sample.metrics(found, ones)[model.primary_metric][0]),
        np.random.default_rng(model.training.seed),
    )  # fmt: skip
    plots = out.path("plots")
    plots.mkdir()
    draw(model.task, rows.target, scores, list(classes), importance, model.threshold, plots)
    out.path("importance.json").write_text(json.dumps(importance, indent=2), encoding="utf-8")
    evidence = {"verdict": asdict(record.verdict), "evidence": asdict(record.evidence),
                "difference": asdict(record.difference) if record.difference else None}  # fmt: skip
    with open_run(settings, record.train.mlflow_run) as run:
        values = {name: interval.value for name, interval in record.metrics.items()}
        bounds = {f"{n}_low": i.low for n, i in record.metrics.items()} | {
            f"{n}_high": i.high for n, i in record.metrics.items()
        }
        run.metrics(values | bounds, at_ms=int(context.cutoff.timestamp() * 1000))
        run.log({}, {
            "evergreen.verdict": record.verdict.decision,
            "evergreen.reasons": "; ".join(record.verdict.reasons),
            "evergreen.predictions_sha256": record.predictions_digest,
        })  # fmt: skip
        run.folder(plots, "plots")
        run.text(json.dumps(evidence, indent=2), "gate.json")
        run.text(
            (settings.home / record.train.prepare.validate.data_docs).read_text(encoding="utf-8"), "data_docs.html"
        )
