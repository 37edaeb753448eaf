"""Serving against peers. `python -m benchmarks.serving [--quick] [--parts ...]`; needs wrk, a Debian package.

All in one run: every server's answers are checked against scikit-learn on 200 rows first, figures are medians of
rounds, in each of which every server is started and asked in its turn. Run nothing beside it: servers and load share
the same processors.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import joblib

from benchmarks.serving import peers, servers, single, tables
from benchmarks.serving.peers import Peer
from benchmarks.serving.worlds import World, boosting, forest
from benchmarks.serving.wrk import installed

PARTS = ("single", "named", "tables", "swaps")


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short run instead of five")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="only these (default all)")
    parsed = parser.parse_args()
    if not installed():
        print("error: wrk is not installed (Debian package wrk)", file=sys.stderr)
        return 2
    repeats, seconds = (1, 2.0) if parsed.quick else (5, 3.0)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        print(f"load before: {os.getloadavg()[0]:.2f}; medians of {repeats} runs of {seconds:g} s, and their range")
        if "single" in parsed.parts:
            world = forest(home / "forest")
            print(f"\nForest, 100 trees, depth 10, 20 features, one row a request; form {world.form}")
            single.compare(world, everybody(world, home), repeats, seconds)
        if "named" in parsed.parts:
            world = boosting(home / "boosting")
            print(f"\nGradient boosting, {len(world.frame.columns)} numbers and texts by name; form {world.form}")
            constant = peers.uvicorn("constant answer, 2 workers", peers.CONSTANT, home, servers.ports(), 2)
            single.compare(world, [constant, servers.ours(world, servers.ports(), 2)], repeats, seconds)
        if "tables" in parsed.parts:
            tables.batches(forest(home / "tables"), repeats, seconds)
        if "swaps" in parsed.parts:
            tables.swaps(home / "swaps", 10 if parsed.quick else 60)
    return 0


def everybody(world: World, home: Path) -> list[Peer]:
    """The limit, us, and the peers."""
    model = home / "forest.joblib"
    joblib.dump(world.model.named_steps["model"], model)
    tutorial = f"MODEL = {str(model)!r}\n{peers.TUTORIAL}"
    found: list[Peer | None] = [
        *(peers.uvicorn(f"constant answer, {n} workers", peers.CONSTANT, home, servers.ports(), n) for n in (1, 2)),
        servers.ours(world, servers.ports(), 1), servers.ours(world, servers.ports(), 2),
        servers.ours(world, servers.ports(), 2, EVERGREEN_LOG_MODE="strict"),
        peers.uvicorn("FastAPI tutorial, 2 workers", tutorial, home, servers.ports(), 2),
        peers.mlserver(home, model, servers.ports()), peers.bentoml(home, model, servers.ports()),
    ]  # fmt: skip
    return [one for one in found if one is not None]


if __name__ == "__main__":
    raise SystemExit(main())
