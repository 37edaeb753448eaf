"""`python -m pipeline predictions ...`: the prediction log, by hand."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pipeline.errors import BadConfiguration
from pipeline.log_settings import log_settings

HELP = {
    "compact": "make Parquet of closed journals now",
    "erase": "delete the rows of one user",
    "retain": "delete days that are too old",
    "losses": "what servers lost, and why",
}


def add_arguments(parser: argparse.ArgumentParser, action: Callable[[argparse.Namespace], int]) -> None:
    """The four, each with --help and --json."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, text in HELP.items():
        one = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        one.set_defaults(command=action, action=name)
        one.add_argument("--json", action="store_true", help="print the result as one JSON object")
        if name == "erase":
            one.add_argument("--user", required=True, metavar="ID", help="the user_id of the requests")
            one.add_argument("--model", metavar="NAME", help="only of this model (default: of all)")
        if name == "retain":
            one.add_argument("--days", type=int, metavar="N", help="keep so many (default: EVERGREEN_LOG_RETAIN_DAYS)")


def predictions(parsed: argparse.Namespace) -> int:
    """Do what was asked and say what was done."""
    content, told = ACTIONS[parsed.action](parsed)
    print(json.dumps(content, sort_keys=True) if parsed.json else told)
    return 0


def _compact(parsed: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from pipeline.prediction_files import compact, merge

    settings = log_settings()
    done = compact(settings)
    merged = merge(settings, datetime.now(UTC).date())
    told = f"{done.rows:,} rows of {done.segments} journals are in {done.files} files; {merged} files were merged"
    if done.torn_bytes:
        told += f"; {done.torn_bytes} bytes of half-written ends were cut"
    return {**asdict(done), "merged": merged}, told


def _erase(parsed: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from pipeline.adapters.forgetting import forget_observed
    from pipeline.prediction_erasure import erase_user
    from pipeline.settings import load_settings

    erased = erase_user(parsed.user, log_settings(), parsed.model)
    copies = forget_observed(parsed.user, parsed.model, load_settings())
    told = f"{erased:,} rows of user {parsed.user} are erased, and {copies:,} copies of them that the monitors had made"
    return {"user": parsed.user, "model": parsed.model, "erased": erased, "copies": copies}, told


def _retain(parsed: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from pipeline.prediction_erasure import retain

    settings = log_settings()
    keep = settings.retain_days if parsed.days is None else parsed.days
    if keep is None or keep < 1:
        raise BadConfiguration("say how many days to keep, at least one: --days N or EVERGREEN_LOG_RETAIN_DAYS")
    deleted = retain(settings, keep, datetime.now(UTC).date())
    return {"keep_days": keep, "deleted": deleted}, "\n".join([*deleted, f"{len(deleted)} days are deleted"])


def _losses(parsed: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from pipeline.log_losses import losses, settle
    from pipeline.log_segments import store_lock

    settings = log_settings()
    with store_lock(settings.folder):
        settle(settings)
    found = list(losses(settings))
    total = sum(one.killed + one.unwritten + one.unreadable for one in found)
    lines = [
        f"{one.server}: {one.killed} when it was killed, {one.unwritten} that could not be written, "
        f"{one.unreadable} unreadable"
        for one in found
    ]
    return {"total": total, "losses": [asdict(one) for one in found]}, "\n".join([*lines, f"{total} answers are lost"])


ACTIONS: dict[str, Callable[[argparse.Namespace], tuple[dict[str, Any], str]]] = {
    "compact": _compact, "erase": _erase, "retain": _retain, "losses": _losses,
}  # fmt: skip
