"""`python -m local`: the whole loop on this machine."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from local.rest import Airflow

DEMO_DATA = "data/demo"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and do; errors end in one message."""
    parser = argparse.ArgumentParser(
        prog="python -m local", description="The whole loop on this machine: Airflow, MLflow, serving."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="turn the loop once under Airflow, then stop what was started")
    run.add_argument("--model", default="churn", help="the model file models/NAME.yaml (default: the demo)")
    run.add_argument("--cutoff", help="know nothing later than this (ISO 8601, UTC); default: now")
    run.set_defaults(command=_run)
    up = commands.add_parser("up", help="start Airflow, the MLflow UI and serving, and leave them running")
    up.set_defaults(command=_up)
    down = commands.add_parser("down", help="stop them")
    down.set_defaults(command=_down)
    status = commands.add_parser("status", help="what is running, and where")
    status.set_defaults(command=_status)
    parsed = parser.parse_args(arguments)
    from pipeline.errors import EvergreenError

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return int(parsed.command(parsed))
    except EvergreenError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; everything that was started is stopped", file=sys.stderr)
        return 130


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """A closed terminal and a `kill` are Ctrl-C too, also in the background: nothing may stay behind."""
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, flush=True)


def _run(parsed: argparse.Namespace) -> int:
    from rich.console import Console

    from local.predict import ask_once
    from local.rest import Airflow
    from local.show import follow, overhead, records, table, verdict
    from local.world import borrowed, ensure_alive, running
    from pipeline.config import load_model
    from pipeline.context import parse_instant
    from pipeline.records import DeployRecord
    from pipeline.settings import load_settings

    settings = load_settings()
    model = load_model(parsed.model, settings.models_dir)
    _demo_data(model.source.path)
    console = Console(width=None if sys.stdout.isatty() else 120, soft_wrap=not sys.stdout.isatty())
    before = _keys_left(settings.runs / model.name)
    fresh = not running(settings)
    with borrowed(settings, _say) as addresses:
        airflow = Airflow(addresses.airflow)
        dag_id = f"training_{model.name}"
        _make_ready(airflow, dag_id, fresh=fresh)
        run_id = airflow.trigger(dag_id, {"cutoff": parse_instant(parsed.cutoff).isoformat()} if parsed.cutoff else {})
        _say(f"triggered {dag_id}: {addresses.airflow}/dags/{dag_id}/runs/{run_id}")
        tasks = follow(airflow, dag_id, run_id, console, lambda: ensure_alive(settings))
        found = records(airflow, dag_id, run_id)
        last = found["deploy"]
        assert isinstance(last, DeployRecord)
        console.print(table(tasks, found, before))
        whole, idle = overhead(airflow.run(dag_id, run_id), tasks)
        _say(f"trigger to end {whole:.1f} s, of which {idle:.1f} s outside of the stages")
        verdict(last, console)
        if last.champion is not None:
            ask_once(addresses.serving, model.name, settings, console)
        _say("look at: data docs " + str(settings.home / last.register.evaluate.train.prepare.validate.data_docs))
        _say(f"  Airflow {addresses.airflow}   serving {addresses.serving}/docs   MLflow {addresses.mlflow}")
        _say("  `make up` keeps all three running, `make down` stops them")
    return 0


def _make_ready(airflow: Airflow, dag_id: str, *, fresh: bool, patience_seconds: float = 90) -> None:
    """Wait until Airflow has read the DAG; let its runs begin, and none stand before ours.

    `fresh`: this Airflow was started just now, so a run that counts as active was interrupted with an earlier
    one, and would be waited for. Backfills go on where they were: nobody waits for them.
    """
    from local.rest import ACTIVE
    from pipeline.errors import OutsideFailure

    end = time.monotonic() + patience_seconds
    while (dag := airflow.dag(dag_id)) is None:
        if time.monotonic() > end:
            raise OutsideFailure(
                f"Airflow has not read {dag_id} within {patience_seconds:g} s; see the dag-processor's log"
            )
        time.sleep(0.5)
    if dag["is_paused"]:
        _say(f"{dag_id} was paused; it is not any more")
        airflow.unpause(dag_id)
    for run in airflow.runs(dag_id, state=ACTIVE) if fresh else ():
        if run["run_type"] != "backfill":
            _say(f"{run['dag_run_id']} was interrupted; it counts as failed")
            airflow.fail(dag_id, run["dag_run_id"])


def _demo_data(path: str | None) -> None:
    """The demo's table, made where it is asked for and absent."""
    from local.airflow import REPOSITORY

    if path is None or not path.startswith(f"{DEMO_DATA}/") or (REPOSITORY / path).exists():
        return
    subprocess.run([sys.executable, "-m", "demo", "generate", "--out", DEMO_DATA], cwd=REPOSITORY, check=True)


def _keys_left(folder: Path) -> dict[str, str]:
    """The key with which each stage ended in the newest earlier run."""
    if not folder.is_dir():
        return {}
    newest = max((p for p in folder.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime, default=None)
    return {p.stem: json.loads(p.read_text(encoding="utf-8"))["key"] for p in newest.glob("*.json")} if newest else {}


def _up(parsed: argparse.Namespace) -> int:
    from local.world import up
    from pipeline.settings import load_settings

    settings = load_settings()
    addresses = up(settings, _say, owner=None, scheduled=True)
    _say(f"Airflow {addresses.airflow}\nMLflow  {addresses.mlflow}\nserving {addresses.serving}/docs")
    return 0


def _down(parsed: argparse.Namespace) -> int:
    from local.world import down
    from pipeline.settings import load_settings

    ended = down(load_settings())
    _say(f"stopped {', '.join(ended)}" if ended else "nothing was running")
    return 0


def _status(parsed: argparse.Namespace) -> int:
    from local.world import running
    from pipeline.settings import load_settings

    alive = running(load_settings())
    for process in alive.values():
        where = f"http://127.0.0.1:{process.port}" if process.port else ""
        _say(f"{process.name:<24}pid {process.pid:<8}{where}")
    if not alive:
        _say("nothing is running; `make up` starts it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
