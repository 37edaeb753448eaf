"""Ingest and validate of large tables: rows a second and peak memory, beside plain pandas doing the same checks.

Run with `python -m benchmarks.large_tables [--rows 5000000 20000000]`. Each measurement is a process of its own;
memory is the peak resident set that the kernel accounts for it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MODEL = """
task: binary
source: {{path: {path}}}
entity: id
time: {{event: happened}}
target: {{column: label, positive: 1}}
features:
  columns: {{{features}}}
validation:
  expectations:
    - {{expect: expect_column_values_to_be_between, column: n0, min_value: -100, max_value: 100}}
    - {{expect: expect_column_values_to_not_be_null, column: n1}}
    - {{expect: expect_table_row_count_to_be_between, min_value: 1000}}
training: {{estimator: sklearn.linear_model.LogisticRegression}}
"""
OURS = """
import sys, time, logging
from pipeline.config import load_model; from pipeline.context import RunContext, parse_instant
from pipeline.settings import load_settings; from pipeline.stages import run_stage
s = load_settings(); m = load_model("large", s.models_dir)
c = RunContext("large", parse_instant("2026-01-01"), "bench")
t = time.perf_counter(); record = run_stage("ingest", m, c, s); a = time.perf_counter()
record = run_stage("validate", m, c, s, record); b = time.perf_counter()
print(a - t, b - a, record.rows)
"""
PANDAS = """
import sys, time
t = time.perf_counter()
import numpy as np, pandas as pd, great_expectations as gx, great_expectations.expectations as gxe
frame = pd.read_parquet(sys.argv[1]).sort_values(["happened", "id"]).drop_duplicates(["id", "happened"])
frame.to_parquet(sys.argv[2]); a = time.perf_counter()
context = gx.get_context(mode="ephemeral"); context.variables.progress_bars = {"globally": False}
suite = gx.ExpectationSuite("s", expectations=[
    gxe.ExpectColumnValuesToBeBetween(column="n0", min_value=-100, max_value=100),
    gxe.ExpectColumnValuesToNotBeNull(column="n1"), gxe.ExpectColumnValuesToNotBeNull(column="id"),
    *[gxe.ExpectColumnValuesToBeBetween(column=c, min_value=-1e308, max_value=1e308) for c in frame if c[0] == "n"]])
batch = context.data_sources.add_pandas("p").add_dataframe_asset("p").add_batch_definition_whole_dataframe("p")
batch = batch.get_batch({"dataframe": frame.reset_index(drop=True)})
batch.validate(suite, result_format={"result_format": "COMPLETE"})
frame.to_parquet(sys.argv[2]); print(a - t, time.perf_counter() - a, len(frame))
"""


def write_table(folder: Path, rows: int) -> None:
    """20 columns: an identifier, an instant, a label, 13 numbers and 4 categories; in files of a million rows."""
    words = np.array([f"value {i}" for i in range(50)])
    for part in range(0, rows, 1_000_000):
        rng = np.random.default_rng(part)
        n = min(1_000_000, rows - part)
        columns: dict[str, object] = {
            "id": np.arange(part, part + n),
            "happened": pa.array(
                (np.sort(rng.integers(0, 86_400_000, n)) + part * 1000) * 1000, pa.timestamp("us", tz="UTC")
            ),
            "label": rng.integers(0, 2, n),
        }
        columns |= {f"n{i}": rng.normal(size=n) for i in range(13)}
        columns |= {f"c{i}": pa.array(words[rng.integers(0, 50, n)]) for i in range(4)}
        pq.write_table(pa.table(columns), folder / f"part-{part:012d}.parquet")


def measure(code: str, arguments: list[str], environment: dict[str, str]) -> tuple[list[str], int]:
    """Printed words and peak memory in MiB of a process of its own."""
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    assert child.stdout
    printed = child.stdout.read().split()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        return ["failed"], usage.ru_maxrss // 1024
    return printed, usage.ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[5_000_000, 20_000_000])
    parser.add_argument("--peer-up-to", type=int, default=5_000_000, help="plain pandas is not run on larger tables")
    parsed = parser.parse_args()
    print(f"{'':<10}{'rows':>12}{'ingest s':>10}{'validate s':>12}{'rows/s':>12}{'peak MiB':>10}")
    for rows in parsed.rows:
        with tempfile.TemporaryDirectory() as scratch:
            table, models = Path(scratch, "table"), Path(scratch, "models")
            table.mkdir()
            models.mkdir()
            write_table(table, rows)
            features = ", ".join([f"n{i}: number" for i in range(13)] + [f"c{i}: category" for i in range(4)])
            (models / "large.yaml").write_text(MODEL.format(path=json.dumps(str(table)), features=features))
            place = {"EVERGREEN_HOME": f"{scratch}/home", "EVERGREEN_MODELS": str(models)}
            show("evergreen", rows, *measure(OURS, [], place))
            if rows <= parsed.peer_up_to:
                show("pandas", rows, *measure(PANDAS, [str(table), f"{scratch}/out.parquet"], {}))


def show(name: str, rows: int, printed: list[str], peak: int) -> None:
    if len(printed) < 3:
        print(f"{name:<10}{rows:>12,}{'failed':>10}{'':>24}{peak:>10,}")
        return
    ingest, validate = float(printed[-3]), float(printed[-2])
    print(
        f"{name:<10}{rows:>12,}{ingest:>10.1f}{validate:>12.1f}{rows / (ingest + validate):>12,.0f}{peak:>10,}",
        flush=True,
    )


if __name__ == "__main__":
    main()
