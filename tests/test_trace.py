"""Back from a version to what made it, and back from a prediction to everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from pipeline.adapters.trace import why
from pipeline.config import override
from pipeline.errors import BadConfiguration
from pipeline.reproduce import reproduce
from serving.prediction_log import PredictionLog, new_prediction_id
from tests.conftest import LENIENT, customers, turn
from tests.predictions import write_entry


def quiet(text: str) -> None:
    """Progress is not looked at here."""


def test_three_versions_are_reproduced_and_a_changed_cell_is_named(write_model, settings, tmp_path):
    frame = customers()
    model = override(write_model(frame), LENIENT)
    forest = {"training.estimator": "sklearn.ensemble.RandomForestClassifier",
              "training.parameters": {"n_estimators": 20}}  # fmt: skip
    boosted = {"training.estimator": "sklearn.ensemble.HistGradientBoostingClassifier"}
    turn(model, settings, "2025-08-01")
    turn(override(model, forest), settings, "2025-09-01")
    turn(override(model, boosted), settings, "2025-10-01")
    for version in (1, 2, 3):
        found = reproduce("churn", version, settings, quiet)
        assert found.equal, found
        assert [part.name for part in found.outputs] == ["clean data", "schema", "model", "predictions"]
    frame.loc[5, "charge"] += 1
    frame.to_parquet(tmp_path / "table.parquet")
    found = reproduce("churn", 2, settings, quiet)
    assert not found.equal
    assert found.first_difference.name == "data"
    assert "1 row differs; first customer C00005: charge is" in found.first_difference.told
    assert all(part.equal for part in found.outputs)  # the recorded snapshot still makes that model


def test_a_stored_snapshot_that_was_tampered_with_is_named_and_nothing_is_computed_from_it(write_model, settings):
    record = turn(write_model(customers()), settings, "2025-08-01")
    ingest = record.register.evaluate.train.prepare.validate.ingest
    path = settings.home / ingest.snapshot
    path.chmod(0o644)
    frame = pd.read_parquet(path)
    frame.loc[3, "tenure"] += 1
    path.unlink()
    frame.to_parquet(path)
    found = reproduce("churn", 1, settings, quiet)
    assert found.first_difference.name == "data"
    assert "was changed: its MD5 is" in found.first_difference.told
    assert found.outputs == ()


def log_predictions(record, settings, count: int) -> list[str]:
    """As many answered requests as a server would have logged, over three days."""
    log = PredictionLog(settings.log, "server")
    log.start()
    rng = np.random.default_rng(0)
    start = time.time()
    ids = []
    for number in range(count):
        at = start + number * 250
        ids.append(new_prediction_id(at))
        write_entry(log, {
            "prediction_id": ids[-1], "time": at, "model": "churn", "user_id": f"u{number}", "variant": "champion",
            "version": record.register.version, "digest": record.register.digest, "features": {"tenure": 3.0},
            "prediction": 1, "confidence": float(rng.random()), "scores": [0.4, 0.6], "latency_seconds": 0.001,
        })  # fmt: skip
    log.stop()
    return ids


def test_each_of_a_thousand_predictions_is_traced_within_a_second(write_model, settings):
    record = turn(write_model(customers()), settings, "2025-08-01")
    ids = log_predictions(record, settings, 1000)
    slowest = 0.0
    for number, prediction in enumerate(ids):
        started = time.perf_counter()
        story = why(prediction, settings)
        slowest = max(slowest, time.perf_counter() - started)
        assert story["prediction"]["user_id"] == f"u{number}"
        assert story["version"] == 1
    assert slowest < 1
    evaluate = record.register.evaluate
    assert story["variant"] == "champion"
    assert story["package_sha256"] == record.register.digest
    assert story["run"]["mlflow_run"] == evaluate.train.mlflow_run
    assert story["data"]["snapshot_md5"] == evaluate.train.prepare.validate.ingest.digest
    assert len(story["code"]["commit"]) >= 7
    assert story["gate"]["decision"] == "PROMOTE"
    assert story["champion"]["how"] == "promoted"
    environ = {**os.environ, "EVERGREEN_HOME": str(settings.home), "EVERGREEN_MODELS": str(settings.models_dir)}
    command = [sys.executable, "-m", "pipeline", "why", ids[7], "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["prediction"]["id"] == ids[7]


def test_a_prediction_that_was_never_made_is_told_so(write_model, settings):
    with pytest.raises(BadConfiguration, match="no prediction"):
        why("0" * 32, settings)
    with pytest.raises(BadConfiguration, match="no prediction"):
        why("nonsense", settings)
