"""One measurement in a process of its own: seconds of each repeat, and how far memory rose above the loaded data.

Run as `python peers.py PEER REFERENCE.parquet CURRENT.parquet REPEATS`; imports nothing of this project but for
`evergreen`, so that peers can have environments of their own.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd


def ks(reference: pd.DataFrame) -> Callable[[pd.DataFrame], Any]:
    """Scipy's two-sample test for each numeric column, as most people write it."""
    from scipy.stats import ks_2samp

    names = [name for name in reference.columns if reference[name].dtype == "float64"]
    return lambda current: [ks_2samp(reference[name], current[name]) for name in names]


def evidently(reference: pd.DataFrame) -> Callable[[pd.DataFrame], Any]:
    """The preset that its documentation begins with."""
    from evidently import Dataset, DataDefinition, Report  # type: ignore[import-not-found,unused-ignore]  # isort: skip
    from evidently.presets import DataDriftPreset  # type: ignore[import-not-found,unused-ignore]

    numbers = [name for name in reference.columns if reference[name].dtype == "float64"]
    names = [name for name in reference.columns if name not in numbers]
    columns = DataDefinition(numerical_columns=numbers, categorical_columns=names)

    def run(current: pd.DataFrame) -> Any:
        first, second = (Dataset.from_pandas(frame, data_definition=columns) for frame in (reference, current))
        return Report([DataDriftPreset()]).run(second, first).dict()

    return run


def evergreen(reference: pd.DataFrame) -> Callable[[pd.DataFrame], Any]:
    """The reference is already a sketch, as it is in the loop; the current rows are counted and compared."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    import pyarrow as pa

    from pipeline.core.drift_bins import Kind, make_bins
    from pipeline.core.drift_budget import window_level
    from pipeline.core.drift_count import sketch_frame
    from pipeline.core.drift_test import compare

    kinds: dict[str, Kind] = {
        name: "number" if reference[name].dtype == "float64" else "category" for name in reference.columns
    }
    bins = make_bins(pa.Table.from_pandas(reference, preserve_index=False), kinds)
    known, level = sketch_frame(bins, reference), window_level(0.01, len(kinds))
    return lambda current: compare(known, sketch_frame(bins, current), days=1, level=level)


def main() -> None:
    """Print the measurement as JSON."""
    warnings.simplefilter("ignore")
    peer, first, second, repeats = sys.argv[1:]
    reference, current = (pd.read_parquet(path) for path in (first, second))
    run = {"ks": ks, "evidently": evidently, "evergreen": evergreen}[peer](reference)
    before = _resident()
    seconds = []
    for _ in range(int(repeats)):
        start = time.perf_counter()
        run(current)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "loaded_bytes": before, "peak_bytes": peak}))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
