"""Writing model packages: the fast form where it gives scikit-learn's answers, else the pipeline itself."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.adapters.environment import library_versions
from pipeline.adapters.store import disk_guard, exclusive
from pipeline.core.fast_form import FastForm, export
from pipeline.core.package import FAST, GOLDEN, MANIFEST, MODEL, PREPARATION, Manifest, Signature, rows_to_columns
from pipeline.core.predictor import FastScorer, SklearnScorer
from pipeline.core.preparation import FittedPreparation, NotRepresentable
from pipeline.package_files import golden_json, load_model, read_package

GOLDEN_ROWS = 100
TOLERANCE = 1e-6
SERVING_LIBRARIES = ("numpy", "pandas", "python", "scikit-learn", "skops", "treelite")
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
) -> tuple[Path, Manifest, str]:
    """Write the package into a folder named by its digest; one that is there already is left as it is.

    `model_file` is what `dump_model` gives. `frame_sample`, shape (n, features): rows on which the fast form
    must agree with scikit-learn to 1e-6; golden rows are drawn from them, with missing and unseen values planted.
    `threshold`: binary, the probability from which the answer is the positive class.
    Raises PackageInvalid where the written package does not load, OutsideFailure for a full disk.
    """
    pipeline = load_model(model_file)
    rows = _golden_rows(frame_sample, signature, seed)
    columns = rows_to_columns(rows, signature)
    scikit = SklearnScorer(pipeline, tuple(f.name for f in signature.features))
    scores = scikit.scores(columns)
    fast = _fast(pipeline, scikit, frame_sample, columns, scores)
    contents = {MODEL: model_file, GOLDEN: golden_json(rows, scores)}
    if fast is not None:
        preparation, form = fast
        contents |= {PREPARATION: preparation.to_json().encode(), FAST: form.to_bytes()}
    versions = library_versions()
    manifest = Manifest(
        model=model_name,
        form=fast[1].kind if fast else "skops",
        signature=signature,
        files={name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())},
        libraries={name: versions[name] for name in SERVING_LIBRARIES},
        golden_tolerance=TOLERANCE,
        threshold=threshold,
    )
    folder = root / manifest.digest
    with disk_guard(root), exclusive(root / ".lock"):
        if not folder.is_dir():
            _write({**contents, MANIFEST: manifest.to_json().encode()}, folder)
    read_package(folder)
    return folder, manifest, manifest.digest


def _fast(
    pipeline: Any, scikit: SklearnScorer, sample: pd.DataFrame, golden: dict[str, np.ndarray], expected: np.ndarray
) -> tuple[FittedPreparation, FastForm] | None:
    """The fast form, if there is one and it gives the same answers on the sample and the golden rows."""
    try:
        preparation = FittedPreparation.from_sklearn(pipeline.named_steps["prepare"])
    except NotRepresentable:
        return None
    form = export(pipeline.named_steps["model"])
    if form is None:
        return None
    scorer = FastScorer(preparation, form)
    table = {str(name): sample[name].to_numpy() for name in sample.columns}
    for columns, wanted in ((table, scikit.scores(table)), (golden, expected)):
        if not np.allclose(scorer.scores(columns), wanted, rtol=0, atol=TOLERANCE):
            return None
    return preparation, form


def _golden_rows(sample: pd.DataFrame, signature: Signature, seed: int) -> list[dict[str, Any]]:
    """Rows of the sample, and for each feature one row where it is missing and one where it is unheard of."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(sample), min(GOLDEN_ROWS, len(sample)), replace=False))
    rows: list[dict[str, Any]] = [
        {str(k): None if pd.isna(v) else v for k, v in row.items()} for row in sample.iloc[chosen].to_dict("records")
    ]
    first = dict(rows[0])
    for feature in signature.features:
        odd = UNSEEN if feature.kind == "category" else 2 * abs(feature.maximum or 0.0) + 1
        rows += [{**first, feature.name: None}, {**first, feature.name: odd}]
    return rows


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
