"""How long a window of a million rows takes, beside peers in the same run; and ten million streamed from Parquet."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.drift.worlds import NAMES
from pipeline.core.drift_bins import Kind, make_bins
from pipeline.core.drift_count import sketch

REFERENCE_ROWS = 100_000
KINDS: Mapping[str, Kind] = {f"n{i}" if i < 20 else f"c{i}": "number" if i < 20 else "category" for i in range(25)}
GROUP_ROWS = 250_000
EVIDENTLY = ("evidently==0.7.23", "pandas<3", "pyarrow")


@dataclass(frozen=True)
class Measured:
    """What a process measured of one peer."""

    seconds: float
    """The middle one of the repeats."""
    repeats: int
    loaded_bytes: int
    peak_bytes: int


def rows(seed: int, number: int) -> pa.Table:
    """20 numeric columns, half of them lognormal, and 5 categorical of 50 names."""
    rng = np.random.default_rng(seed)
    columns: dict[str, object] = {}
    for name, kind in KINDS.items():
        if kind == "number":
            columns[name] = rng.normal(size=number) if int(name[1:]) % 2 else rng.lognormal(size=number)
        else:
            columns[name] = pa.DictionaryArray.from_arrays(rng.integers(0, 50, number, dtype=np.int32), NAMES)
    return pa.table(columns)


def write(folder: Path, number: int) -> tuple[Path, Path]:
    """Reference and current rows as Parquet, names as plain strings; the current ones in row groups."""
    folder.mkdir(parents=True, exist_ok=True)
    first, second = folder / "reference.parquet", folder / f"current-{number}.parquet"
    pq.write_table(rows(1, REFERENCE_ROWS), first, store_schema=False)
    writer = None
    for group in range(-(-number // GROUP_ROWS)):
        part = rows(100 + group, min(GROUP_ROWS, number - group * GROUP_ROWS))
        writer = writer or pq.ParquetWriter(second, part.schema, store_schema=False)
        writer.write_table(part)
    if writer:
        writer.close()
    return first, second


def measure(python: Path, peer: str, files: tuple[Path, Path], repeats: int) -> Measured | None:
    """None where the peer does not run."""
    command = [str(python), str(Path(__file__).with_name("peers.py")), peer, *map(str, files), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"  {peer} did not run: {done.stderr.strip().splitlines()[-1:]}")
        return None
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return Measured(
        float(np.median(found["seconds"])), len(found["seconds"]), found["loaded_bytes"], found["peak_bytes"]
    )  # fmt: skip


def evidently_python(home: Path) -> Path | None:
    """An interpreter with evidently, which needs an older pandas; None where it cannot be installed."""
    python = home / "evidently" / "bin" / "python"
    if python.exists():
        return python
    uv = Path(sys.executable).with_name("uv")
    steps = (
        [str(uv), "venv", "--quiet", "--python", sys.executable, str(home / "evidently")],
        [str(uv), "pip", "install", "--quiet", "--python", str(python), *EVIDENTLY],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False) if uv.exists() else None
        if done is None or done.returncode:
            print(f"  evidently cannot be installed here: {done.stderr.strip().splitlines()[-1:] if done else uv}")
            return None
    return python


def stream(path: Path, reference: Path) -> None:
    """Count a Parquet file row group by row group; print seconds and peak memory of this process as JSON."""
    bins = make_bins(pq.read_table(reference), KINDS)
    start = time.perf_counter()
    with pq.ParquetFile(path, pre_buffer=False) as file:  # buffered, every row group read so far stays in memory
        found = sketch(bins, file.iter_batches(batch_size=65_536))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "rows": found.rows, "peak_bytes": peak}))


if __name__ == "__main__":
    stream(Path(sys.argv[1]), Path(sys.argv[2]))
