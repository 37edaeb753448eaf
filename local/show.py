"""What people see of a run: a line for every task as it goes, and a table at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from local.rest import ACTIVE, Airflow
from pipeline.errors import EvergreenError
from pipeline.records import DeployRecord, Record
from pipeline.run import outcome
from pipeline.stages import STAGES, record_type

POLL_SECONDS = 0.3
ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")
RUN_SECONDS = 3600.0


class RunFailed(EvergreenError):
    """A task of the run failed; its log was shown."""


def follow(
    airflow: Airflow, dag_id: str, run_id: str, console: Console, check: Callable[[], None]
) -> dict[str, dict[str, Any]]:
    """Show each task as it starts and ends; the task instances once the run has ended.

    `check` is called all along, and raises where there is nothing to wait for any more.

    Raises RunFailed after showing the end of the log of the task that failed.
    """
    shown: dict[str, str] = {}
    end = time.monotonic() + RUN_SECONDS
    while True:
        run = airflow.run(dag_id, run_id)
        tasks = airflow.tasks(dag_id, run_id)
        for name in STAGES:
            state = str((tasks.get(name) or {}).get("state"))
            if state != shown.get(name) and state in ("running", "up_for_retry", *ENDED):
                shown[name] = state
                console.print(_line(name, state, tasks[name]), highlight=False)
        if run["state"] not in ACTIVE:
            break
        if time.monotonic() > end:
            raise RunFailed(f"{run_id} has not ended within {RUN_SECONDS:g} s; look at {airflow.address}/dags/{dag_id}")
        check()
        time.sleep(POLL_SECONDS)
    failed = next((name for name in STAGES if (tasks.get(name) or {}).get("state") == "failed"), None)
    if failed:
        attempt = int(tasks[failed]["try_number"])
        console.print("\n".join(airflow.log(dag_id, run_id, failed, attempt)[-30:]), markup=False, highlight=False)
        raise RunFailed(f"the task {failed} of {run_id} failed; its log is above, mend its cause and run again")
    if run["state"] != "success":
        raise RunFailed(f"{run_id} ended {run['state']}; look at {airflow.address}/dags/{dag_id}")
    return tasks


def records(airflow: Airflow, dag_id: str, run_id: str) -> dict[str, Record]:
    """What each stage returned."""
    found = {}
    for name in STAGES:
        text = airflow.returned(dag_id, run_id, name)
        if text is not None:
            found[name] = record_type(name).from_json(text)
    return found


def table(tasks: Mapping[str, Mapping[str, Any]], found: Mapping[str, Record], before: Mapping[str, str]) -> Table:
    """Stage, seconds, what came out; `before`: keys that earlier runs left, to tell what was skipped."""
    shown = Table("stage", "seconds", "what came out", title="What the run did", title_justify="left")
    shown.columns[1].justify = "right"
    for name in STAGES:
        record = found.get(name)
        told = outcome(record) if record else str(tasks[name]["state"])
        if record is not None and before.get(name) == record.key and name != "deploy":
            told = f"unchanged, not computed again: {told}"
        shown.add_row(name, f"{seconds(tasks[name]):.1f}", told)
    return shown


def verdict(record: DeployRecord, console: Console) -> None:
    """The verdict with its reasons, and what became of the version."""
    judged = record.register.evaluate
    console.print(f"[bold]verdict: {judged.verdict.decision}[/bold]")
    for reason in judged.verdict.reasons:
        console.print(f"  {reason}", markup=False, highlight=False)
    became = f"{record.status}: {record.reason.removeprefix('refused: ')}"
    console.print(f"version {record.register.version} {became}", markup=False, highlight=False)


def seconds(task: Mapping[str, Any]) -> float:
    """How long a task ran; 0 where it did not."""
    if not task.get("start_date") or not task.get("end_date"):
        return 0.0
    return (_instant(task["end_date"]) - _instant(task["start_date"])).total_seconds()


def overhead(run: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]) -> tuple[float, float]:
    """Seconds from trigger to end, and how many of them no stage was at work."""
    whole = (_instant(run["end_date"]) - _instant(run["queued_at"] or run["start_date"])).total_seconds()
    return whole, whole - sum(seconds(task) for task in tasks.values())


def _line(name: str, state: str, task: Mapping[str, Any]) -> str:
    number = f"[{STAGES.index(name) + 1}/{len(STAGES)}]".replace("[", r"\[")
    took = f" after {seconds(task):.1f} s" if state in ENDED else ""
    return f"{number} {name}: {state}{took}"


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
