"""`python -m demo`: write the demo world, tell what happens in it, or let it happen."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and do."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    generate = commands.add_parser("generate", help="write the daily batches")
    generate.add_argument("--out", type=Path, default=Path("data/demo"), help="folder (default %(default)s)")
    generate.add_argument("--seed", type=int, default=7, help="another seed, another world (default %(default)s)")
    generate.add_argument(
        "--start", type=date.fromisoformat, default=date(2024, 10, 1), help="first day (default %(default)s)"
    )
    generate.add_argument("--days", type=int, default=730, help="length (default %(default)s)")
    generate.add_argument("--reviews-a-day", type=int, default=100, help="size (default %(default)s)")
    generate.set_defaults(command=_generate)
    calendar = commands.add_parser("calendar", help="what happens to the world, and when")
    calendar.set_defaults(command=_calendar)
    drill = commands.add_parser("drill", help="let the world happen to a real installation, and see the loop hold")
    drill.add_argument("--folder", type=Path, help="keep everything in this empty folder (default: a temporary one)")
    drill.add_argument("--json", action="store_true", help="print the milestones as JSON")
    drill.set_defaults(command=_drill)
    parsed = parser.parse_args(arguments)
    return int(parsed.command(parsed))


def _generate(parsed: argparse.Namespace) -> int:
    from demo.files import generate
    from demo.world import World

    try:
        world = World(parsed.seed, parsed.start, parsed.days, parsed.reviews_a_day)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    last = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > 1:
            last = time.monotonic()
            print(f"demo world: day {done} of {total}", file=sys.stderr, flush=True)

    made = generate(world, parsed.out, progress)
    print(f"demo world: {world.days} days from {world.start} in {parsed.out}{'' if made else ', already there'}")
    return 0


def _drill(parsed: argparse.Namespace) -> int:
    import json
    import logging

    from pipeline.errors import BadConfiguration, EvergreenError
    from pipeline.writable import prove_writable

    try:
        if parsed.folder is not None:
            prove_writable(parsed.folder, "--folder")
    except BadConfiguration as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    from demo.drill import Failed, main

    logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)
    started = time.perf_counter()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        milestones = main(parsed.folder, say)
    except (Failed, EvergreenError) as error:
        print(f"the drill failed: {error}", file=sys.stderr)
        return 1
    seconds = time.perf_counter() - started
    if parsed.json:
        rows = [{"milestone": name, "seen": told, "seconds": round(took, 1)} for name, told, took in milestones]
        print(json.dumps({"milestones": rows, "seconds": round(seconds, 1)}))
        return 0
    for name, told, took in milestones:
        print(f"{took:>7.1f} s  {name}\n           {told}")
    print(f"{seconds:>7.1f} s  the loop holds")
    return 0


def _calendar(parsed: argparse.Namespace) -> int:
    from demo.calendar import CALENDAR

    for happening in CALENDAR:
        end = "for good" if happening.end_day is None else f"until day {happening.end_day}"
        print(f"day {happening.start_day:>4} {end:<14} {happening.name}: {happening.what}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
