"""Making a registered version again from what was recorded, and naming the first thing that differs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from pipeline.adapters.environment import code_digest, library_versions
from pipeline.adapters.registry import Registry, Version
from pipeline.config import ModelConfig, parse_model
from pipeline.context import RunContext
from pipeline.errors import BadData, EvergreenError, OutsideFailure
from pipeline.records import IngestRecord
from pipeline.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[1]
STAGES = ("validate", "prepare", "train", "evaluate")
DRIVER = """
import json, sys
from pipeline.config import load_model
from pipeline.context import RunContext, parse_instant
from pipeline.records import IngestRecord
from pipeline.settings import load_settings
from pipeline.stages import run_stage

name, cutoff, *stages = sys.argv[1:]
settings = load_settings()
model = load_model(name, settings.models_dir)
context = RunContext(name, parse_instant(cutoff), "reproduce", "manual")
record = IngestRecord.from_json((settings.home / "ingest.json").read_text())
for stage in stages:
    record = run_stage(stage, model, context, settings, record)
print(record.to_json())
"""
"""Run by the recorded code, so it asks of it only what every version has had."""


@dataclass(frozen=True)
class Part:
    """One input or output, then and now."""

    name: str
    equal: bool
    told: str


@dataclass(frozen=True)
class Reproduction:
    """What came out."""

    version: int
    inputs: tuple[Part, ...]
    outputs: tuple[Part, ...]

    @property
    def equal(self) -> bool:
        """All inputs are the recorded ones, and all outputs came out the same."""
        return all(part.equal for part in (*self.inputs, *self.outputs))

    @property
    def first_difference(self) -> Part | None:
        """The first input that differs; where none does, the first output."""
        return next((part for part in (*self.inputs, *self.outputs) if not part.equal), None)


def reproduce(model: str, which: int | str, settings: Settings, tell: Callable[[str], None]) -> Reproduction:
    """Run the stages again in an empty installation, from recorded data, parameters and code; compare digests.

    `tell` is given the progress. Raises BadConfiguration for a version that is not there.
    """
    version = Registry(model, settings).get(which)
    body = version.line.body
    tell(f"version {version.number} of {model}: cut-off {body['cutoff']}, code {body['code_version'][:12]}")
    with tempfile.TemporaryDirectory(prefix="evergreen-reproduce-") as folder:
        work = Path(folder)
        content = dict(body["model_file"])
        config = parse_model(yaml.safe_dump(content), model, "the recorded model file")
        tell("reading the source again, as known at that cut-off")
        inputs = [_snapshot(version, settings), _source(version, config, settings, work)]
        code, place = _code(version, work)
        inputs += [code, _environment(body["libraries"])]
        outputs: tuple[Part, ...] = ()
        if inputs[0].equal and place is not None:
            tell(f"running {', '.join(STAGES)} again")
            outputs = _outputs(version, _run(version, content, place, settings, work))
        return Reproduction(version.number, tuple(inputs), outputs)


def _ingest(version: Version) -> IngestRecord:
    return version.record.evaluate.train.prepare.validate.ingest


def _snapshot(version: Version, settings: Settings) -> Part:
    """The recorded snapshot, whole; fetched from the data remote where it is gone from here."""
    ingest = _ingest(version)
    path = settings.home / ingest.snapshot
    if not path.is_file():
        from pipeline.adapters.data_versions import fetch

        try:
            fetch(settings.store / "ingest", path, settings)
        except OutsideFailure as error:
            return Part("data", False, f"the snapshot {ingest.snapshot} is gone and cannot be fetched: {error}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found == ingest.digest:
        return Part("data", True, f"snapshot {found[:12]}, {ingest.rows:,} rows")
    return Part(
        "data", False, f"the stored snapshot {path} was changed: its MD5 is {found}, recorded is {ingest.digest}"
    )


def _source(version: Version, config: ModelConfig, settings: Settings, work: Path) -> Part:
    """Whether the source still gives that snapshot; where it does not, the first cell that differs."""
    from pipeline.adapters.snapshot_difference import first_difference
    from pipeline.stages import run_stage

    ingest = _ingest(version)
    again = replace(
        settings, home=work / "source", database_url=f"sqlite:///{work / 'source.db'}", data_remote_url=None
    )
    context = RunContext(version.model, datetime.fromisoformat(ingest.cutoff), "reproduce")
    try:
        found = run_stage("ingest", config, context, again)
    except (BadData, OutsideFailure) as error:
        return Part("data", False, f"the source cannot be read as it was: {error}")
    assert isinstance(found, IngestRecord)
    if found.digest == ingest.digest:
        return Part("data", True, "the source still gives that snapshot")
    told = first_difference(settings.home / ingest.snapshot, again.home / found.snapshot, config)
    return Part("data", False, f"the source has changed since: {told}")


def _code(version: Version, work: Path) -> tuple[Part, Path | None]:
    """Where the recorded code is: here, or taken out of the repository's history."""
    body = version.line.body
    commit = body["code_version"]
    if body["code_digest"] == code_digest():
        return Part("code", True, f"sources {code_digest()[:12]}"), REPOSITORY
    if commit.endswith("-dirty") or commit == "unknown":
        return Part("code", False, f"was made from sources that were never committed ({commit})"), REPOSITORY
    packed = subprocess.run(
        ["git", "-C", str(REPOSITORY), "archive", "--format=tar", commit, "pipeline"], capture_output=True, check=False
    )
    if packed.returncode != 0:
        return Part("code", False, f"the commit {commit} is not in this repository; fetch it"), REPOSITORY
    place = work / "code"
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(place, filter="data")
    return Part("code", True, f"taken from commit {commit[:12]}"), place


def _environment(recorded: dict[str, str]) -> Part:
    now = library_versions()
    changed = [f"{name} {now.get(name, 'absent')}, was {was}" for name, was in recorded.items() if now.get(name) != was]
    if not changed:
        return Part("environment", True, f"{len(recorded)} libraries as recorded")
    return Part("environment", False, "; ".join(changed))


def _run(version: Version, content: dict[str, Any], place: Path, settings: Settings, work: Path) -> dict[str, Any]:
    """The record that the recorded code comes to, in an installation that holds nothing but the recorded data."""
    home, models = work / "home", work / "models"
    models.mkdir()
    (models / f"{version.model}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    ingest = _ingest(version)
    (home / ingest.snapshot).parent.mkdir(parents=True)
    shutil.copy(settings.home / ingest.snapshot, home / ingest.snapshot)
    shutil.copy(settings.home / ingest.rejected, home / ingest.rejected)
    (home / "ingest.json").write_text(ingest.to_json(), encoding="utf-8")
    schema = settings.home / version.record.evaluate.train.prepare.validate.schema
    (home / "schemas").mkdir()
    shutil.copy(schema, home / "schemas" / f"{version.model}.json")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EVERGREEN_")}
    environ = {**kept, "EVERGREEN_HOME": str(home), "EVERGREEN_MODELS": str(models), "PYTHONPATH": str(place),
               "EVERGREEN_THREADS": str(settings.threads)}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, version.model, ingest.cutoff, *STAGES],
        cwd=place, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise EvergreenError(f"the recorded code does not run here any more:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _outputs(version: Version, found: dict[str, Any]) -> tuple[Part, ...]:
    recorded = json.loads(version.record.evaluate.to_json())
    places = {
        "clean data": ("train", "prepare", "validate", "digest"),
        "schema": ("train", "prepare", "validate", "schema_digest"),
        "model": ("train", "digest"),
        "predictions": ("predictions_digest",),
    }
    parts = []
    for name, steps in places.items():
        was, now = (_at(record, steps) for record in (recorded, found))
        told = f"{now[:12]}" if was == now else f"{now[:12]}, was {was[:12]}"
        parts.append(Part(name, was == now, told))
    return tuple(parts)


def _at(record: dict[str, Any], steps: tuple[str, ...]) -> str:
    value: Any = record
    for step in steps:
        value = value[step]
    return str(value)
