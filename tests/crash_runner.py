"""Kills the chain with SIGKILL inside one stage, runs it again to its end, and prints what it came to.

A process of its own: the libraries are imported once, then each attempt is a fork of it.
`python -m tests.crash_runner HOME MODELS STAGE:SHARE ...`, SHARE of the stage's own seconds at which it dies.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import dvc.repo
import great_expectations
import matplotlib.backends.backend_agg
import mlflow.sklearn
import sklearn.ensemble
import skops.io

from pipeline.config import load_model
from pipeline.context import RunContext
from pipeline.rollout import RolloutStore
from pipeline.settings import load_settings
from pipeline.stages import STAGES, run_stage


def chain(home: str, models: str, marks: Path) -> None:
    """The whole chain; leaves a mark at the beginning of every stage, and its end in `done`."""
    settings = load_settings({"EVERGREEN_HOME": home, "EVERGREEN_MODELS": models})
    model = load_model("churn", settings.models_dir)
    context = RunContext("churn", datetime(2025, 10, 1, tzinfo=UTC), "crash")
    record = None
    for stage in STAGES:
        (marks / stage).write_text(str(time.time()))
        record = run_stage(stage, model, context, settings, record)
    (marks / "done").write_text(str(time.time()))


def attempt(home: str, models: str, marks: Path) -> int:
    """The chain in a fork; returns its pid."""
    marks.mkdir(parents=True)
    pid = os.fork()
    if pid == 0:
        try:
            chain(home, models, marks)
            os._exit(0)
        except BaseException:
            logging.exception("the chain failed")
            os._exit(1)
    return pid


def state(home: str, models: str) -> dict[str, object]:
    """What a run left behind, without the names that differ between installations."""
    settings = load_settings({"EVERGREEN_HOME": home, "EVERGREEN_MODELS": models})
    client = mlflow.MlflowClient(settings.mlflow_uri)
    experiment = client.get_experiment_by_name("churn")
    runs = client.search_runs([experiment.experiment_id])
    versions = client.search_model_versions("name = 'churn'")
    last = json.loads((settings.runs / "churn" / "20251001T000000Z" / "deploy.json").read_text())
    evaluate = last["register"]["evaluate"]
    prepare = evaluate["train"]["prepare"]
    return {
        "data": prepare["validate"]["ingest"]["digest"],
        "clean": prepare["validate"]["digest"],
        "model": evaluate["train"]["digest"],
        "predictions": evaluate["predictions_digest"],
        "package": last["register"]["digest"],
        "champion": int(client.get_model_version_by_alias("churn", "champion").version),
        "answers": RolloutStore(settings.database_url).get("churn").active.variants[0].version,  # type: ignore[union-attr]
        "runs": [run.info.status for run in runs],
        "metrics": {name: value for name, value in runs[0].data.metrics.items() if not name.startswith("system")},
        "versions": len(versions),
        "packages": sorted(path.name for path in (settings.packages / "churn").iterdir() if path.is_dir()),
        "half_written": sorted(str(path) for path in settings.home.rglob("*.part")),
    }


IMPORTED = (dvc.repo, great_expectations, matplotlib.backends.backend_agg, mlflow.sklearn, sklearn.ensemble, skops.io)


def main() -> None:
    """Take the stages' times from one whole run, then kill and go on as asked."""
    base, models, *kills = sys.argv[1:]
    whole = Path(base, "whole")
    _, status = os.waitpid(attempt(str(whole), models, Path(base, "marks")), 0)
    assert status == 0
    times = [float(Path(base, "marks", name).read_text()) for name in (*STAGES, "done")]
    print(json.dumps(["whole", state(str(whole), models)]), flush=True)
    for number, kill in enumerate(kills):
        stage, share = kill.split(":")
        place = STAGES.index(stage)
        home, marks = str(Path(base, f"home{number}")), Path(base, f"marks{number}")
        pid = attempt(home, models, marks)
        while not (marks / stage).is_file() and os.waitpid(pid, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        time.sleep(float(share) * (times[place + 1] - times[place]))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        _, status = os.waitpid(attempt(home, models, Path(base, f"again{number}")), 0)
        print(json.dumps([kill, state(home, models) if status == 0 else f"failed with {status}"]), flush=True)


if __name__ == "__main__":
    main()
