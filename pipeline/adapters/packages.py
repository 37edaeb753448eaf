"""Writing model packages: the fast form where it gives scikit-learn's answers, else the pipeline itself."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from pipeline.adapters.environment import library_versions
from pipeline.adapters.form_trial import (
    TRIAL,
    Trial,
    largest_difference,
    limit_of,
    planted_values,
    try_forms,
)
from pipeline.adapters.store import disk_guard, exclusive
from pipeline.core.fast_form import FastForm
from pipeline.core.package import (
    FAST,
    GOLDEN,
    MANIFEST,
    MODEL,
    PREPARATION,
    Manifest,
    Signature,
    Unseen,
    rows_to_columns,
)
from pipeline.core.predictor import FastScorer, SklearnScorer, Table, frame_of
from pipeline.core.preparation import FittedPreparation, NotRepresentable, NumberColumn
from pipeline.package_files import golden_json, load_model, read_package

GOLDEN_ROWS = 100
GOLDEN_THRESHOLDS = 20
"""Comparisons of the model that golden rows are planted at, three rows each."""
SERVING_LIBRARIES = ("numpy", "onnxruntime", "pandas", "python", "scikit-learn", "skops", "treelite")
UNSEEN = "(never seen in training)"


def write_package(
    root: Path,
    *,
    model_file: bytes,
    model_name: str,
    signature: Signature,
    frame_sample: pd.DataFrame,
    seed: int,
    threshold: float = 0.5,
    unseen: Unseen = "unknown",
) -> tuple[Path, Manifest, str]:
    """Write the package into a folder named by its digest; one that is there already is left as it is.

    `model_file` is what `dump_model` gives. `frame_sample`, shape (n, features): rows on which the fast form
    must agree with scikit-learn to 1e-6; golden rows are drawn from them, with missing and unseen values planted,
    and numbers at thresholds of the model. `threshold`: binary, the probability from which the answer is the
    positive class. What the trial of the forms measured is left beside the package, see `form_trial.read_trial`.
    Raises PackageInvalid where the written package does not load, OutsideFailure for a full disk.
    """
    pipeline = load_model(model_file)
    preparation, why = _preparation(pipeline)
    planted = _at_thresholds(pipeline, preparation) if preparation is not None else []
    rows = _golden_rows(frame_sample, signature, seed, planted)
    columns = rows_to_columns(rows, signature)
    scikit = SklearnScorer(pipeline, tuple(f.name for f in signature.features))
    sample = {str(name): frame_sample[name].to_numpy() for name in frame_sample.columns}
    # One thread: on a busy machine threads wait longer for each other than they gain.
    with threadpool_limits(limits=1):
        trial = _tried(pipeline, scikit, preparation, why, [sample, columns])
        scores = scikit.scores(columns)
    contents = {MODEL: model_file, GOLDEN: golden_json(rows, scores)}
    if trial.form is not None and preparation is not None:
        contents |= {PREPARATION: preparation.to_json().encode(), FAST: trial.form.to_bytes()}
    versions = library_versions()
    manifest = Manifest(
        model=model_name,
        form=trial.form.kind if trial.form is not None else "skops",
        signature=signature,
        files={name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())},
        libraries={name: versions[name] for name in SERVING_LIBRARIES},
        golden_tolerance=limit_of(scores),
        threshold=threshold,
        unseen=unseen,
    )
    folder = root / manifest.digest
    with disk_guard(root), exclusive(root / ".lock"):
        if not folder.is_dir():
            _write({**contents, MANIFEST: manifest.to_json().encode(), TRIAL: trial.to_json().encode()}, folder)
    read_package(folder)
    return folder, manifest, manifest.digest


def _preparation(pipeline: Any) -> tuple[FittedPreparation | None, str]:
    """The preparation as plain data, or why it has no such form."""
    try:
        return FittedPreparation.from_sklearn(pipeline.named_steps["prepare"]), ""
    except NotRepresentable as reason:
        return None, str(reason)


def _tried(
    pipeline: Any, scikit: SklearnScorer, preparation: FittedPreparation | None, why: str, asked: list[Table]
) -> Trial:
    """The trial of the estimator's forms on the tables that may be asked; the first is the sample."""
    wanted = [scikit.scores(table) for table in asked]

    def same(form: FastForm) -> float:
        assert preparation is not None
        scorer = FastScorer(preparation, form)
        return max(largest_difference(scorer.scores(table), w) for table, w in zip(asked, wanted, strict=True))

    frame = frame_of(asked[0], scikit.names)
    matrix = np.asarray(pipeline.named_steps["prepare"].transform(frame), dtype=np.float64)
    return try_forms(pipeline.named_steps["model"], matrix, same, min(map(limit_of, wanted)), why)


def _golden_rows(
    sample: pd.DataFrame, signature: Signature, seed: int, planted: list[tuple[str, float]]
) -> list[dict[str, Any]]:
    """Rows of the sample; for each feature one where it is missing and one where it is unheard of; planted ones."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(sample), min(GOLDEN_ROWS, len(sample)), replace=False))
    rows: list[dict[str, Any]] = [
        {str(k): None if pd.isna(v) else v for k, v in row.items()} for row in sample.iloc[chosen].to_dict("records")
    ]
    first = dict(rows[0])
    for feature in signature.features:
        odd = UNSEEN if feature.kind == "category" else 2 * abs(feature.maximum or 0.0) + 1
        rows += [{**first, feature.name: None}, {**first, feature.name: odd}]
    hosts = len(rows)
    return rows + [{**rows[place % hosts], name: value} for place, (name, value) in enumerate(planted)]


def _at_thresholds(pipeline: Any, preparation: FittedPreparation) -> list[tuple[str, float]]:
    """Numbers of a request that the preparation brings to a threshold of the model, and one float64 beside."""
    places = np.cumsum([0, *(column.width for column in preparation.columns)])
    numbers = {int(at): c for at, c in zip(places, preparation.columns, strict=False) if isinstance(c, NumberColumn)}
    found = []
    for place, value in zip(*planted_values(pipeline.named_steps["model"], GOLDEN_THRESHOLDS), strict=True):
        column = numbers.get(int(place))
        if column is None:
            continue
        number = float(value) * (column.scale or 1.0) + (column.mean or 0.0)
        if np.isfinite(number):
            found.append((column.name, number))
    return found


def _write(contents: dict[str, bytes], folder: Path) -> None:
    """All files or none: a temporary folder, synced, then renamed."""
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for name, content in contents.items():
            with (temporary / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
