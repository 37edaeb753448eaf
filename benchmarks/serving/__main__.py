"""Serving against peers. `python -m benchmarks.serving [--quick] [--parts ...]`; needs wrk, a Debian package.

All in one run: every server's answers are checked against scikit-learn on 200 rows first, figures are medians of the
repeats. Run nothing beside it: servers and load share the same processors.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import joblib

from benchmarks.serving import peers, servers, tables
from benchmarks.serving.peers import Peer
from benchmarks.serving.servers import Running
from benchmarks.serving.worlds import World, boosting, forest
from benchmarks.serving.wrk import Load, installed, load

PARTS = ("single", "named", "tables", "swaps")
CONNECTIONS = (1, 64)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short repeat instead of five")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="only these (default all)")
    parsed = parser.parse_args()
    if not installed():
        print("error: wrk is not installed (Debian package wrk)", file=sys.stderr)
        return 2
    repeats, seconds = (1, 2.0) if parsed.quick else (5, 3.0)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        print(f"load before: {os.getloadavg()[0]:.2f}; medians of {repeats} runs of {seconds:g} s")
        if "single" in parsed.parts:
            world = forest(home / "forest")
            print(f"\nForest, 100 trees, depth 10, 20 features, one row a request; form {world.form}")
            compare(world, everybody(world, home), repeats, seconds)
        if "named" in parsed.parts:
            world = boosting(home / "boosting")
            print(f"\nGradient boosting, {len(world.frame.columns)} numbers and texts by name; form {world.form}")
            constant = peers.uvicorn("constant answer, 2 workers", peers.CONSTANT, home, servers.ports(), 2)
            compare(world, [constant, servers.ours(world, servers.ports(), 2)], repeats, seconds)
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


def compare(world: World, everyone: list[Peer], repeats: int, seconds: float) -> None:
    """A line a server."""
    heads = "".join(f"{f'{n} conn., 1/s':>15}{'p50 ms':>9}{'p99 ms':>9}" for n in CONNECTIONS)
    print(f"  {'':<34}{heads}{'start s':>9}{'MB each':>9}  largest difference")
    for peer in everyone:
        try:
            with servers.running(peer, world) as server:
                constant = peer.name.startswith("constant")
                worst = None if constant else servers.largest_difference(server.address, peer, world)
                found = [_median(peer, world, server, n, repeats, seconds) for n in CONNECTIONS]
                memory = server.memory_bytes()
        except RuntimeError as error:
            print(f"  {error}")
            continue
        cells = "".join(f"{one.per_second:>15,.0f}{one.p50_ms:>9.2f}{one.p99_ms:>9.2f}" for one in found)
        told = "" if worst is None else f"  {worst:.1e}"
        bad = sum(one.bad for one in found)
        print(
            f"  {peer.name:<34}{cells}{server.started_seconds:>9.1f}{max(memory, default=0) / 2**20:>9.0f}{told}"
            + (f"  {bad} BAD" if bad else ""),
            flush=True,
        )


def _median(peer: Peer, world: World, server: Running, connections: int, repeats: int, seconds: float) -> Load:
    bodies = servers.bodies_of(peer, world)
    load(server.address + peer.path, bodies, connections, 1)
    runs = [load(server.address + peer.path, bodies, connections, seconds) for _ in range(repeats)]
    return Load(
        statistics.median(one.per_second for one in runs), statistics.median(one.p50_ms for one in runs),
        statistics.median(one.p99_ms for one in runs), sum(one.bad for one in runs),
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
