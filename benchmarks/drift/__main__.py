"""Drift detection: false alarms, power, years, days to detect, speed. `python -m benchmarks.drift [--quick]`.

Everything is drawn from fixed seeds that chose no threshold. Peers are measured in the same run; evidently gets an
environment of its own under .evergreen/benchmarks, or is left out with a word.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.drift import alarms, speed, years
from benchmarks.drift.picture import draw
from pipeline.core.drift_budget import levels

HOME = Path(".evergreen/benchmarks")
BUDGETS = (0.01, 0.1, 0.5)
PARTS = ("speed", "alarms", "power", "years")


def main() -> None:
    """Print the tables; draw the picture where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the windows and years, no ten million rows")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="only these (default all)")
    parser.add_argument("--processes", type=int, default=2, help="default %(default)s")
    parser.add_argument("--picture", type=Path, help="also draw power and false alarms into this file")
    parsed = parser.parse_args()
    part = 10 if parsed.quick else 1
    if "speed" in parsed.parts:
        print_speed(parsed.quick)
    found = print_false_alarms(2000 // part, parsed.processes) if "alarms" in parsed.parts else {}
    if "power" in parsed.parts:
        print_power(4000 // part, parsed.processes)
    if "years" in parsed.parts:
        print_years(1000 // part, 100 // part, parsed.processes)
    if parsed.picture:
        draw(parsed.picture, found, 2000 // part // 5, parsed.processes)


def print_speed(quick: bool) -> None:
    """A million rows by 25 columns in memory, then ten million from Parquet."""
    with tempfile.TemporaryDirectory() as folder:
        number = 100_000 if quick else 1_000_000
        files = speed.write(Path(folder), number)
        print(f"\n{number:,} rows by 25 columns in pandas, against {speed.REFERENCE_ROWS:,} of reference")
        own, peer = Path(sys.executable), speed.evidently_python(HOME)
        runs = [("evergreen", own, 5), ("ks", own, 3)] + ([("evidently", peer, 1)] if peer else [])
        ours = None
        for name, python, repeats in runs:
            one = speed.measure(python, name, files, repeats)
            if one is None:
                continue
            ours = ours or one
            print(f"  {name:<10}{one.seconds:>9.3f} s (median of {one.repeats}){one.seconds / ours.seconds:>8.1f} x "
                  f"ours   memory {one.loaded_bytes / 2**20:,.0f} MiB loaded, peak {one.peak_bytes / 2**20:,.0f} MiB",
                  flush=True)  # fmt: skip
        if not quick:
            reference, current = speed.write(Path(folder), 10_000_000)
            command = [sys.executable, "-m", "benchmarks.drift.speed", str(current), str(reference)]
            done = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            print(f"  {done['rows']:,} rows streamed from Parquet: {done['seconds']:.2f} s, "
                  f"peak {done['peak_bytes'] / 2**20:,.0f} MiB", flush=True)  # fmt: skip


def print_false_alarms(windows: int, processes: int) -> dict[int, tuple[int, int]]:
    """No change, 25 columns: windows of which anything is called changed, at most 1 % of them."""
    print(f"\nNo change, 25 columns and 190 pairs: share of {windows:,} windows in which anything is called changed")
    sizes = [(alarms.REFERENCE, rows) for rows in (100, 500, 1_000, 10_000, 100_000)] + [(100_000, 100_000)]
    found: dict[int, tuple[int, int]] = {}
    for reference, rows, hits in alarms.false_alarms(sizes, windows, processes):
        low, high = alarms.interval(hits, windows)
        print(f"  reference {reference:>7,}  window {rows:>7,}  {hits / windows:.4f} (exact 95 % interval {low:.4f} to "
              f"{high:.4f}; allowed {alarms.SHARE})", flush=True)  # fmt: skip
        found.setdefault(rows, (hits, windows))
    return found


def print_power(windows: int, processes: int) -> None:
    """Beside KS or chi-square at the same share of false alarms, and the prototype where it has a figure."""
    print(f"\n10,000 rows against {alarms.REFERENCE:,}, {windows:,} windows: share in which one change is seen")
    print(f"  {'change':<58}{'ours':>7}{'KS, chi2':>10}{'distance > .1':>15}{'prototype':>11}")
    for change, ours, peer, usual in alarms.power(10_000, windows, processes):
        asked = "" if change.prototype is None else f"{change.prototype:.2f}"
        print(f"  {change.name:<58}{ours:>7.3f}{peer:>10.3f}{usual:>15.3f}{asked:>11}", flush=True)
    caught = sum(alarms.half_sigma(seed) for seed in range(min(windows, 500)))
    print(f"  half a sigma in 1 of 20 columns, 500 rows: {caught} of {min(windows, 500)}", flush=True)


def print_years(number: int, runs: int, processes: int) -> None:
    """Daily checks of 20 columns of 1,000 rows a day."""
    for reference in (30_000, 90_000):
        start = time.perf_counter()
        smallest = years.quiet_years(reference, number, processes)
        print(f"\n{number:,} years without change, {reference:,} rows of reference, windows of 1, 7 and 30 days daily")
        for budget in BUDGETS:
            hits = years.alarmed_share(smallest, budget)
            low, high = alarms.interval(hits, number)
            print(f"  budget {budget:<5} P(any false alarm in a year) {hits / number:.4f} ({low:.4f} to {high:.4f})")
        print(f"  ({time.perf_counter() - start:.0f} s)", flush=True)
    print(f"\nMedian days until a change of one column is seen, {runs} runs, for budgets {BUDGETS} a year")
    for reference in (30_000, 90_000):
        for name in years.SLOW:
            found = years.median_days(name, reference, BUDGETS, runs, processes)
            print(f"  reference {reference:,}  {name:<15}" + "".join(f"{days:>6.0f}" for days in found), flush=True)
    for budget in BUDGETS:
        told = ", ".join(f"{days} days {level:.1e}" for days, level in levels(budget, years.COLUMNS).items())
        print(f"  budget {budget:<5} asks of a column p <= {told}")


if __name__ == "__main__":
    main()
