"""Model packages on disk, read by the stages and by the servers alike. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core import fast_form
from pipeline.core.package import (
    FAST,
    FORMAT_VERSION,
    GOLDEN,
    MANIFEST,
    MODEL,
    PREPARATION,
    Manifest,
    rows_to_columns,
)
from pipeline.core.predictor import FastScorer, Predictor, Scorer, SklearnScorer, verify_golden
from pipeline.core.preparation import FittedPreparation
from pipeline.errors import PackageInvalid

TRUSTED_TYPES = (
    "numpy.dtype",
    "sklearn._loss.link.HalfLogitLink",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogLink",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn._loss.loss.HalfPoissonLoss",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
)
"""The only types beside skops' own defaults that a model file may hold."""
MAX_FILE_BYTES = 2 << 30


@dataclass(frozen=True)
class LoadedPackage:
    """A package whose files are whole and whose golden rows came out the same."""

    manifest: Manifest
    digest: str
    predictor: Predictor


def dump_model(pipeline: Any) -> bytes:
    """A fitted pipeline as a skops file: the same pipeline gives the same bytes in every process."""
    import skops.io

    return canonical_skops(skops.io.dumps(pipeline))


def load_model(content: bytes) -> Any:
    """The inverse of `dump_model`. Raises PackageInvalid naming a type that is not on the list."""
    import skops.io

    foreign = sorted(set(skops.io.get_untrusted_types(data=content)) - set(TRUSTED_TYPES))
    if foreign:
        raise PackageInvalid(
            f"the model file holds {foreign[0]}, which may not be loaded; it was not written by Evergreen"
        )
    return skops.io.loads(content, trusted=list(TRUSTED_TYPES))


def canonical_skops(content: bytes) -> bytes:
    """Number objects in order of appearance instead of by memory address, and leave times out.

    skops names objects and their array files by `id()`, which differs in every process.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(files.pop("schema.json"))
    numbers: dict[int, int] = {}
    names: dict[str, str] = {}

    def renumber(node: Any) -> None:
        if isinstance(node, dict):
            if "__id__" in node:
                node["__id__"] = numbers.setdefault(node["__id__"], len(numbers) + 1)
            if isinstance(node.get("file"), str):
                stem, dot, ending = node["file"].partition(".")
                node["file"] = names.setdefault(node["file"], f"{len(names) + 1:08d}{dot}{ending}")
                del stem
            for value in node.values():
                renumber(value)
        elif isinstance(node, list):
            for value in node:
                renumber(value)

    renumber(schema)
    ordered = {"schema.json": json.dumps(schema, separators=(",", ":")).encode()}
    ordered |= {names.get(name, name): data for name, data in files.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(ordered):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), ordered[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def golden_json(rows: list[dict[str, Any]], scores: np.ndarray) -> bytes:
    """Golden rows with their scores; floats keep every bit."""
    return json.dumps({"rows": rows, "scores": scores.tolist()}, allow_nan=False).encode()


def read_golden(folder: Path) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Golden rows of a package and their registered scores."""
    content = json.loads((folder / GOLDEN).read_bytes())
    return content["rows"], np.array(content["scores"], dtype=np.float64)


def read_package(folder: Path) -> LoadedPackage:
    """Load a package: every file whole, the golden rows reproduced.

    Raises PackageInvalid saying which file or row is wrong.
    """
    try:
        manifest = Manifest.from_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackageInvalid(f"{folder} is no model package: {error}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise PackageInvalid(f"{folder} has format {manifest.format_version}, this version reads {FORMAT_VERSION}")
    if manifest.digest != folder.name:
        raise PackageInvalid(f"{folder / MANIFEST} was changed: its digest is {manifest.digest}")
    contents = {name: _whole(folder / name, digest) for name, digest in manifest.files.items()}
    scorer: Scorer
    if manifest.form == "skops":
        names = tuple(feature.name for feature in manifest.signature.features)
        scorer = SklearnScorer(load_model(contents[MODEL]), names)
    else:
        scorer = FastScorer(
            FittedPreparation.from_json(contents[PREPARATION].decode()), fast_form.load(manifest.form, contents[FAST])
        )
    predictor = Predictor(manifest.signature, scorer, manifest.threshold, manifest.unseen)
    rows, expected = read_golden(folder)
    verify_golden(predictor, rows_to_columns(rows, manifest.signature), expected, manifest.golden_tolerance)
    return LoadedPackage(manifest, manifest.digest, predictor)


def _whole(path: Path, digest: str) -> bytes:
    if not path.is_file():
        raise PackageInvalid(f"{path} is missing from the model package")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise PackageInvalid(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise PackageInvalid(f"{path} was changed after registration; its digest is not the one in the manifest")
    return content
