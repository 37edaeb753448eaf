"""`python -m serving.load`: how many requests a second one's own server answers, and how soon.

Connections stay open, and each asks its next row as soon as the last is answered. One process asks: beyond some
10,000 requests a second it is this that is measured; a load generator of its own trade, such as wrk, goes further.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import BadConfiguration, EvergreenError
from pipeline.package_files import read_golden
from pipeline.rollout import RolloutStore
from pipeline.settings import load_settings

CONNECTIONS = (1, 16, 64)
CONNECT_SECONDS = 5.0


@dataclass
class Found:
    """What a load found."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """Seconds of each answer with status 200."""
    refused: dict[int, int] = field(default_factory=dict)
    """Other answers, by status."""
    broken: int = 0
    """Connections that ended before their answer."""

    def figures(self, connections: int) -> dict[str, Any]:
        """As `--json` prints them."""
        ordered = sorted(self.latencies)
        p50, p99 = (
            ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else None
            for share in (0.5, 0.99)
        )
        return {
            "connections": connections, "per_second": len(ordered) / self.seconds, "p50_ms": p50, "p99_ms": p99,
            "not_200": self.refused, "broken": self.broken,
        }  # fmt: skip

    def line(self, connections: int) -> str:
        """As the table shows it."""
        one = self.figures(connections)
        p50, p99 = ("-" if one[name] is None else f"{one[name]:.2f}" for name in ("p50_ms", "p99_ms"))
        told = ", ".join(f"{count} x {status}" for status, count in sorted(self.refused.items())) or "0"
        return f"{connections:>11}{one['per_second']:>12,.0f}{p50:>9}{p99:>9}{told:>14}{self.broken:>8}"


class Caller(asyncio.Protocol):
    """One connection."""

    def __init__(self, requests: Iterator[bytes], found: Found, end: float) -> None:
        self._requests, self._found, self._end = requests, found, end
        self._buffer = b""
        self._asked = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask the first row."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        """Take the answer once it is whole, and ask the next."""
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or len(body) < _length(head):
            return
        self._buffer = b""
        status = int(head[9:12])
        now = time.perf_counter()
        if status == 200:
            self._found.latencies.append(now - self._asked)
        else:
            self._found.refused[status] = self._found.refused.get(status, 0) + 1
        if now < self._end:
            self._ask()
        else:
            self._asked = 0.0
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """The end, wanted or not."""
        if self._asked:
            self._found.broken += 1
        if not self.done.done():
            self.done.set_result(None)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise BadConfiguration("the answer has no Content-Length; this is no server of ours")


async def measure(url: str, bodies: Sequence[bytes], connections: int, seconds: float) -> Found:
    """Ask for so long over so many connections. Raises BadConfiguration where nobody listens there."""
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: "
    ready = itertools.cycle([head.encode() + f"{len(body)}\r\n\r\n".encode() + body for body in bodies])
    found = Found()
    loop, begun = asyncio.get_running_loop(), time.perf_counter()
    callers = []
    for _ in range(connections):
        opening = loop.create_connection(
            lambda: Caller(ready, found, begun + seconds), parts.hostname or "", parts.port or 80
        )
        try:
            _, caller = await asyncio.wait_for(opening, CONNECT_SECONDS)
        except (OSError, TimeoutError) as error:
            raise BadConfiguration(f"nobody answers at {url}: {error}; start `python -m serving`") from error
        callers.append(caller)
    await asyncio.gather(*(caller.done for caller in callers))
    found.seconds = time.perf_counter() - begun
    return found


def rows_of(model: str) -> list[dict[str, Any]]:
    """Golden rows of the version that answers here. Raises BadConfiguration where none is deployed."""
    settings = load_settings()
    with RolloutStore(settings.database_url) as store:
        active = store.get(model).active
    if active is None:
        raise BadConfiguration(f"no version of {model} is deployed here; give rows with --rows FILE")
    return read_golden(settings.home / active.variants[0].package)[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, ask, print the table."""
    parser = argparse.ArgumentParser(prog="python -m serving.load", description=__doc__)
    parser.add_argument("model", help="which of the served models")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the service (default %(default)s)")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="what is asked: a JSON object of features a line "
                        "(default: the golden rows of the version deployed here)")  # fmt: skip
    parser.add_argument("--connections", type=int, nargs="+", default=CONNECTIONS, help="default: 1, 16 and 64")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parsed = parser.parse_args(arguments)
    try:
        rows = [json.loads(line) for line in parsed.rows.read_text().splitlines()] if parsed.rows else None
        bodies = [json.dumps({"features": row}).encode() for row in rows or rows_of(parsed.model)]
        url = f"{parsed.url}/models/{parsed.model}/predict"
        found = []
        if not parsed.json:
            print("connections  requests/s   p50 ms   p99 ms     not 200  broken")
        for connections in parsed.connections:
            found.append(asyncio.run(measure(url, bodies, connections, parsed.seconds)))
            if not parsed.json:
                print(found[-1].line(connections), flush=True)
    except (EvergreenError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if parsed.json:
        print(json.dumps([one.figures(number) for number, one in zip(parsed.connections, found, strict=True)]))
    return 1 if any(one.refused or one.broken for one in found) else 0


if __name__ == "__main__":
    raise SystemExit(main())
