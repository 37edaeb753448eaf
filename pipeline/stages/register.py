"""Register: the candidate as a model package and a version in the registry. The same content once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipeline.adapters.environment import code_digest, library_versions
from pipeline.adapters.store import Output, once
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.digest import digest_of
from pipeline.core.package import Feature, Signature
from pipeline.core.schema import Schema
from pipeline.records import EvaluateRecord, RegisterRecord
from pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

PACKAGE_ROWS = 2_000
"""Rows on which the fast form must give scikit-learn's answers; golden rows are drawn from them."""


def register(evaluate: EvaluateRecord, model: ModelConfig, context: RunContext, settings: Settings) -> RegisterRecord:
    """Write the package and register it, whatever the verdict: the registry remembers refused ones too.

    Raises PackageInvalid (a type that may not travel), OutsideFailure (MLflow, disk).
    """
    train = evaluate.train
    key = digest_of(
        "register", model.name, train.digest, evaluate.key, settings.mlflow_uri, code_digest(), library_versions()
    )
    return once(
        settings, "register", key, RegisterRecord, lambda out: _register(evaluate, model, context, settings, key, out)
    )


def _register(
    evaluate: EvaluateRecord, model: ModelConfig, context: RunContext, settings: Settings, key: str, out: Output
) -> RegisterRecord:
    from pipeline.adapters.packages import write_package
    from pipeline.adapters.registry import register_version
    from pipeline.adapters.training_rows import read_rows

    train = evaluate.train
    path = settings.home / train.model
    schema = Schema.from_json((settings.home / train.prepare.validate.schema).read_text(encoding="utf-8"))
    classes = tuple(json.loads(path.with_name("classes.json").read_text(encoding="utf-8")))
    judged = read_rows(settings.home / train.prepare.test, schema, model, classes)
    seen = read_rows(settings.home / train.prepare.train, schema, model, classes)
    folder, manifest, digest = write_package(
        settings.packages / model.name,
        model_file=path.read_bytes(),
        model_name=model.name,
        signature=_signature(schema, model, classes, seen.frame),
        frame_sample=judged.frame.head(PACKAGE_ROWS),
        seed=model.training.seed,
    )
    version = register_version(
        evaluate, model, context, settings, package=settings.relative(folder), digest=digest, form=manifest.form
    )
    return RegisterRecord(
        key=key,
        version=version,
        package=settings.relative(folder),
        digest=digest,
        form=manifest.form,
        evaluate=evaluate,
    )


def _signature(schema: Schema, model: ModelConfig, classes: tuple[str, ...], frame: pd.DataFrame) -> Signature:
    """What a server may be asked: features with the values seen in training, and the labels it answers with."""
    features = []
    for name, kind in schema.features.items():
        values = frame[name].dropna()
        if kind == "number":
            features.append(Feature(name, kind, None, float(values.min()), float(values.max())))
        else:
            features.append(Feature(name, kind, tuple(sorted(values.unique())), None, None))
    labels = _labels(classes)
    positive = labels[-1] if model.task == "binary" else None
    return Signature(features=tuple(features), task=model.task, classes=labels, positive=positive)


def _labels(classes: tuple[str, ...]) -> tuple[str, ...] | tuple[int, ...]:
    """Classes as answers give them: whole numbers where all of them are.

    >>> _labels(("0", "1")), _labels(("No", "Yes"))
    ((0, 1), ('No', 'Yes'))
    """
    try:
        return tuple(int(value) for value in classes)
    except ValueError:
        return classes
