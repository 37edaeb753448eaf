"""One training DAG for each model file. Wiring only: what a stage does stands in `pipeline.stages`."""

from __future__ import annotations

from airflow.sdk import DAG, CronDataIntervalTimetable

from dags.chain import EVERY_TASK, START, training_tasks
from dags.model_list import read_models
from dags.trigger_form import form
from pipeline.config import ModelConfig
from pipeline.settings import load_settings

ABOUT = """{description}

`models/{name}.yaml`, {task}, decided by `{metric}`. {schedule}

A run takes a snapshot of what was known at its cut-off, and ends *success* even where the gate keeps the old
model: then `deploy` is *skipped*, and its log says why. A backfill registers versions and moves no traffic.
"""


def training_dag(model: ModelConfig) -> None:
    """Make the DAG training_NAME; Airflow finds it by itself."""
    cron = model.schedules.training
    schedule = f"Schedule: `{cron}` UTC." if cron else "No schedule, so no backfill either: set `schedules.training`."
    about = ABOUT.format(
        description=model.description, name=model.name, task=model.task, metric=model.primary_metric, schedule=schedule
    )
    with DAG(
        dag_id=f"training_{model.name}",
        description=model.description or None,
        doc_md=about,
        schedule=CronDataIntervalTimetable(cron, timezone="UTC") if cron else None,
        start_date=START,
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=1,
        params=form(model),
        tags=["evergreen", "training", model.name],
        default_args=EVERY_TASK,
    ):
        training_tasks(model)


for _model in read_models(load_settings().models_dir)[0]:
    training_dag(_model)
