"""Train: fit the model file's estimator, and leave everything about it on an MLflow run."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from pipeline.adapters.environment import code_digest, code_version, installed_packages, library_versions
from pipeline.adapters.store import Output, once
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.digest import digest_of
from pipeline.core.schema import Schema
from pipeline.records import PrepareRecord, TrainRecord
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.adapters.tracking import Run
    from pipeline.adapters.training_rows import Rows

log = logging.getLogger("evergreen.train")
REQUIREMENTS = ("numpy", "pandas", "scikit-learn", "scipy", "skops")
PROGRESS_ROWS = 2_000
"""Rows on which the growing model is measured; enough to see it learn, few enough to cost nothing."""


def train(prepare: PrepareRecord, model: ModelConfig, context: RunContext, settings: Settings) -> TrainRecord:
    """Fit on the training rows alone.

    Raises BadConfiguration (parameters), NotEnoughData (a feature without values), OutsideFailure (MLflow).
    """
    sections = model.model_dump(mode="json", include={"name", "task", "training", "target", "metrics"})
    key = digest_of("train", prepare.digest, sections, settings.mlflow_uri, code_digest(), library_versions())
    return once(settings, "train", key, TrainRecord, lambda out: _fit(prepare, model, context, settings, key, out))


def _fit(
    prepare: PrepareRecord, model: ModelConfig, context: RunContext, settings: Settings, key: str, out: Output
) -> TrainRecord:
    from pipeline.adapters.tracking import new_run
    from pipeline.adapters.training_rows import find_classes, read_rows

    schema = Schema.from_json((settings.home / prepare.validate.schema).read_text(encoding="utf-8"))
    path = settings.home / prepare.train
    classes = find_classes(path, model)
    rows = read_rows(path, schema, model, classes)
    with new_run(settings, model.name, f"{model.name} {context.cutoff:%Y-%m-%d %H:%M}", key) as run:
        fitted, parameters = _learn(rows, schema, model, settings, context, run)
        digest = _save(fitted, classes, out)
        _describe(run, prepare, model, context, parameters, digest)
        address = _log_model(run, fitted, rows, model)
    return TrainRecord(
        key=key,
        model=out.named("model.skops"),
        digest=digest,
        mlflow_run=run.id,
        mlflow_model=address,
        parameters=parameters,
        prepare=prepare,
    )


def _learn(
    rows: Rows, schema: Schema, model: ModelConfig, settings: Settings, context: RunContext, run: Run
) -> tuple[Any, dict[str, Any]]:
    """The fitted pipeline and the parameters it was given; progress on the run and in the log."""
    import numpy as np

    from pipeline.core.fitting import fit
    from pipeline.core.metrics import evaluate
    from pipeline.core.recipe import build
    from pipeline.core.search import Folds, search

    wanted = model.training
    parameters = dict(wanted.parameters)
    at_ms = int(context.cutoff.timestamp() * 1000)

    def pipeline_for(chosen: dict[str, Any]) -> Any:
        return build(wanted.estimator, chosen, wanted.seed, schema.features, rows.frame, wanted.max_onehot)

    if wanted.search is not None:
        asked = wanted.search
        folds = Folds(rows.frame, rows.target, model.task, model.primary_metric, asked.folds, model.time is not None)
        tried = search(
            lambda chosen: pipeline_for({**parameters, **chosen}),
            asked.parameters, asked.candidates, folds, seed=wanted.seed, threads=settings.threads,
        )  # fmt: skip
        for place, trial in enumerate(tried):
            log.info(
                "search %d of %d: %s %.4f with %s",
                place + 1,
                len(tried),
                model.primary_metric,
                trial.value,
                trial.parameters,
            )
        run.text(
            json.dumps([{"parameters": t.parameters, model.primary_metric: t.value} for t in tried], indent=2),
            "search.json",
        )
        parameters |= tried[0].parameters
    few = slice(0, PROGRESS_ROWS)

    def report(so_far: int, total: int, growing: Any) -> None:
        scores = (
            growing.predict(rows.frame[few]) if model.task == "regression" else growing.predict_proba(rows.frame[few])
        )
        found = evaluate(model.task, rows.target[few], scores, np.ones((1, len(scores))))
        value = float(found[model.primary_metric][0])
        log.info("%d of %d trees or iterations: training %s %.4f", so_far, total, model.primary_metric, value)
        if np.isfinite(value):
            run.metrics({f"training_{model.primary_metric}": value}, at_ms=at_ms, step=so_far)

    return fit(pipeline_for(parameters), rows.frame, rows.target, settings.threads, report), parameters


def _save(fitted: Any, classes: tuple[str, ...], out: Output) -> str:
    import hashlib

    from pipeline.package_files import dump_model

    content = dump_model(fitted)
    out.path("model.skops").write_bytes(content)
    out.path("classes.json").write_text(json.dumps(classes), encoding="utf-8")
    return hashlib.sha256(content).hexdigest()


def _describe(
    run: Run, prepare: PrepareRecord, model: ModelConfig, context: RunContext, parameters: dict[str, Any], digest: str
) -> None:
    ingest = prepare.validate.ingest
    run.log(
        {"estimator": model.training.estimator, "seed": model.training.seed, **parameters},
        {
            "evergreen.model": model.name,
            "evergreen.cutoff": context.cutoff.isoformat(),
            "evergreen.run_kind": context.kind,
            "evergreen.run_id": context.run_id,
            "evergreen.data_md5": ingest.digest,
            "evergreen.clean_data_digest": prepare.validate.digest,
            "evergreen.model_sha256": digest,
            "evergreen.code_version": code_version(),
            "evergreen.train_rows": str(prepare.train_rows),
            "evergreen.test_rows": str(prepare.test_rows),
            "mlflow.source.git.commit": code_version().removesuffix("-dirty"),
        },
    )
    run.text("\n".join(installed_packages()) + "\n", "environment/packages.txt")
    run.text(json.dumps(library_versions(), indent=2), "environment/libraries.json")
    run.text(json.dumps(model.model_dump(mode="json"), indent=2), "model_file.json")


def _log_model(run: Run, fitted: Any, rows: Rows, model: ModelConfig) -> str:
    example = rows.frame.head(5)
    output = fitted.predict(example) if model.task == "regression" else fitted.predict_proba(example)
    versions = library_versions()
    return run.model(
        fitted, example, output, [f"{name}=={versions[name]}" for name in REQUIREMENTS if name in versions]
    )
