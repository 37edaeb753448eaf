"""One row a request: every server in turn, in rounds, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.serving import servers
from benchmarks.serving.peers import Peer
from benchmarks.serving.worlds import World
from benchmarks.serving.wrk import Load, load

FEW, MANY = 1, 64
"""Connections."""
SUSTAINED_SECONDS = 60.0


@dataclass
class Found:
    """What the rounds found of one server."""

    few: list[Load] = field(default_factory=list)
    many: list[Load] = field(default_factory=list)
    started: list[float] = field(default_factory=list)
    worker_bytes: int = 0
    """Of its largest process, but for the one that keeps the log."""
    difference: float | None = None


def compare(world: World, everyone: Sequence[Peer], repeats: int, seconds: float) -> None:
    """A line a server, and ours for a minute."""
    found = {peer.name: Found() for peer in everyone}
    for _ in range(repeats):
        for peer in everyone:
            try:
                _round(peer, world, found[peer.name], seconds)
            except RuntimeError as error:
                print(f"  {error}")
    few, many = f"{FEW} conn., 1/s", f"{MANY} conn., 1/s (range)"
    print(
        f"  {'':<30}{few:>14}{'p50 ms':>8}{'p99 ms':>8}{many:>28}{'p50 ms':>8}{'p99 ms':>9}{'start s':>9}{'MB':>6}"
        "  largest difference"
    )
    for name, one in found.items():
        if one.many:
            _print(name, one)
    if repeats > 1:
        _sustained(next(peer for peer in everyone if peer.name == "Evergreen, 2 workers"), world)


def _round(peer: Peer, world: World, found: Found, seconds: float) -> None:
    with servers.running(peer, world) as server:
        found.started.append(server.started_seconds)
        if found.difference is None and not peer.name.startswith("constant"):
            found.difference = servers.largest_difference(server.address, peer, world)
        url, bodies = server.address + peer.path, servers.bodies_of(peer, world)
        load(url, bodies, MANY, 1)
        found.few.append(load(url, bodies, FEW, seconds))
        found.many.append(load(url, bodies, MANY, seconds))
        found.worker_bytes = max(found.worker_bytes, server.memory_bytes()[0])


def _print(name: str, found: Found) -> None:
    few, many = (_middle(runs) for runs in (found.few, found.many))
    rates = [one.per_second for one in found.many]
    spread = f"({min(rates):,.0f} to {max(rates):,.0f})"
    print(
        f"  {name:<30}{few.per_second:>14,.0f}{few.p50_ms:>8.2f}{few.p99_ms:>8.2f}{many.per_second:>10,.0f}{spread:>18}"
        f"{many.p50_ms:>8.2f}{many.p99_ms:>9.2f}{statistics.median(found.started):>9.1f}"
        f"{found.worker_bytes / 2**20:>6.0f}"
        + ("" if found.difference is None else f"  {found.difference:.1e}")
        + (f"  {few.bad + many.bad} BAD" if few.bad + many.bad else ""),
        flush=True,
    )  # fmt: skip


def _middle(runs: Sequence[Load]) -> Load:
    return Load(
        statistics.median(one.per_second for one in runs), statistics.median(one.p50_ms for one in runs),
        statistics.median(one.p99_ms for one in runs), sum(one.bad for one in runs),
    )  # fmt: skip


def _sustained(peer: Peer, world: World) -> None:
    """A run of a few seconds ends before the keeper of the log begins to make files of it."""
    with servers.running(peer, world) as server:
        long = load(server.address + peer.path, servers.bodies_of(peer, world), MANY, SUSTAINED_SECONDS)
        keeper = server.memory_bytes()[1]
    print(
        f"  {peer.name}, for {SUSTAINED_SECONDS:g} s with {MANY} connections, its log kept as files meanwhile: "
        f"{long.per_second:,.0f}/s, p50 {long.p50_ms:.2f} ms, p99 {long.p99_ms:.2f} ms, {long.bad} bad; "
        f"the keeper of the log took {keeper / 2**20:.0f} MB"
    )
