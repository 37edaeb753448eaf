"""The whole chain on a table of 7,043 rows, in a cold process: where the time goes, beside a bare script.

Run with `python -m benchmarks.chain [--runs 3]`. Printed are medians over the runs, and their range. The imports are
those of the same libraries in a process that does nothing else, in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.stages import STAGES

ROWS = 7_043
IMPORTS = (
    "import duckdb, pyarrow.parquet, dvc.repo, pandas, great_expectations, sklearn.ensemble, sklearn.pipeline, "
    "sklearn.compose, sklearn.impute, sklearn.model_selection, skops.io, mlflow.sklearn, sqlalchemy, treelite.sklearn, "
    "matplotlib.backends.backend_agg"
)
BARE = """
import sys, pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
frame = pd.read_csv(sys.argv[1]); train, test = frame[: len(frame) * 4 // 5], frame[len(frame) * 4 // 5 :]
features = [c for c in frame if c not in ("customer", "churned")]
text = [c for c in features if frame[c].dtype.kind not in "if"]
onehot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
encode = make_column_transformer((onehot, text), remainder="passthrough")
model = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=150, max_leaf_nodes=8, early_stopping=False))
model.fit(train[features], train.churned)
roc_auc_score(test.churned, model.predict_proba(test[features])[:, 1])
"""
MODEL = """
task: binary
source: {{path: {path}}}
entity: customer
target: {{column: churned, positive: 1}}
training:
  estimator: sklearn.ensemble.HistGradientBoostingClassifier
  parameters: {{max_iter: 150, max_leaf_nodes: 8, early_stopping: false}}
"""
PARSE = "import time; s = time.perf_counter(); import dags.training; print(time.perf_counter() - s)"
PARSE_BASE = "import time; import airflow.sdk; from airflow.sdk import DAG, task, Param\n"


def write_table(path: Path) -> None:
    """Customers with 8 numbers and 11 categories, as wide as the tables that people start with."""
    rng = np.random.default_rng(0)
    columns: dict[str, object] = {"customer": [f"C{i}" for i in range(ROWS)]}
    columns |= {f"n{i}": rng.normal(size=ROWS).round(4) for i in range(8)}
    columns |= {f"c{i}": rng.choice(["yes", "no", "unknown"], ROWS) for i in range(11)}
    frame = pd.DataFrame(columns)
    logit = frame.n0 + 0.5 * frame.n1 + (frame.c0 == "yes") - 1.3
    frame["churned"] = (rng.random(ROWS) < 1 / (1 + np.exp(-logit))).astype(int)
    frame.to_csv(path, index=False)


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """Wall seconds of a process, and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, done.stdout


def measure(scratch: Path, number: int) -> dict[str, float]:
    """One of each, in seconds."""
    python = [sys.executable, "-W", "ignore"]
    place = {"EVERGREEN_HOME": str(scratch / f"home{number}"), "EVERGREEN_MODELS": str(scratch / "models")}
    run = [*python, "-m", "pipeline", "run", "--model", "bench", "--json"]
    found = {"bare script": timed([*python, "-c", BARE, str(scratch / "table.csv")], {})[0]}
    found["imports alone"] = timed([*python, "-c", IMPORTS], {})[0]
    found["chain, cold"], printed = timed(run, place)
    found |= {f"  {stage}": json.loads(printed)["seconds"][stage] for stage in STAGES}
    found["chain beyond imports"] = found["chain, cold"] - found["imports alone"]
    found["chain, unchanged"] = timed(run, place)[0]
    found["--help"] = timed([*python, "-m", "pipeline", "--help"], {})[0]
    twenty = {"EVERGREEN_MODELS": str(scratch / "twenty"), "AIRFLOW_HOME": str(scratch / "airflow")}
    found["20 DAG files beyond Airflow's import"] = float(
        timed([*python, "-c", PARSE_BASE + PARSE], twenty)[1].split()[-1]
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_table(scratch / "table.csv")
        for name, count in (("models", 1), ("twenty", 20)):
            (scratch / name).mkdir()
            for i in range(count):
                file = "bench" if count == 1 else f"bench{i}"
                (scratch / name / f"{file}.yaml").write_text(MODEL.format(path=scratch / "table.csv"))
        runs = [measure(scratch, number) for number in range(parsed.runs)]
    print(f"{'seconds, median of ' + str(parsed.runs):<40}{'median':>8}{'least':>8}{'most':>8}")
    for name in runs[0]:
        values = [run[name] for run in runs]
        print(f"{name:<40}{statistics.median(values):>8.2f}{min(values):>8.2f}{max(values):>8.2f}")


if __name__ == "__main__":
    main()
