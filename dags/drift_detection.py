"""One DAG for each model file that watches its champion, and asks for a decision where one is due."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, get_current_context, task

from dags.chain import EVERY_TASK, START, run, standing
from dags.events import decision_due
from dags.model_list import read_models
from dags.trigger_form import cutoff_field
from pipeline.config import ModelConfig
from pipeline.settings import load_settings

ABOUT = """Watches the champion of `models/{name}.yaml`: what it meets, and how well it does. {schedule}

Where something has to be decided, `announce` sends an event of the asset `{asset}`, to which `retraining_{name}`
listens; else it is *skipped*, and its log says why. A backfill fills in sketches and reports, and announces nothing.
"""


def announce(model_name: str, measured: str) -> None:
    """Send the event where a decision is due; never from a backfill."""
    from airflow.sdk.exceptions import AirflowSkipException

    from pipeline.monitoring_records import MeasurePerformanceRecord

    due = list(MeasurePerformanceRecord.from_json(measured).due)
    _, context, _ = standing(model_name)
    if not due:
        raise AirflowSkipException("no decision is due")
    if context.kind == "backfill":
        raise AirflowSkipException(f"a backfill asks for no decision; in its time one was due: {'; '.join(due)}")
    airflow: Any = get_current_context()
    airflow["outlet_events"][Asset(decision_due(model_name))].extra = {
        "model": model_name, "cutoff": context.cutoff.isoformat(), "reasons": due,
        "run_kind": context.kind, "run_id": context.run_id,
    }  # fmt: skip


def drift_detection_dag(model: ModelConfig) -> None:
    """Make the DAG drift_detection_NAME."""
    cron = model.schedules.drift_detection
    schedule = f"Schedule: `{cron}` UTC." if cron else "No schedule: set `schedules.drift_detection`."
    due = Asset(decision_due(model.name))
    with DAG(
        dag_id=f"drift_detection_{model.name}",
        description=f"Watches the champion of {model.name}",
        doc_md=ABOUT.format(name=model.name, schedule=schedule, asset=due.name),
        schedule=CronDataIntervalTimetable(cron, timezone="UTC") if cron else None,
        start_date=START,
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=1,
        params={"cutoff": cutoff_field()},
        tags=["evergreen", "drift_detection", model.name],
        default_args=EVERY_TASK,
    ):
        drift = task(task_id="detect_drift")(run)("detect_drift", model.name)
        measured = task(task_id="measure_performance")(run)("measure_performance", model.name, drift)
        task(outlets=[due])(announce)(model.name, measured)


for _model in read_models(load_settings().models_dir)[0]:
    drift_detection_dag(_model)
