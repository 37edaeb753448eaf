"""One DAG for each model file whose versions go on trial: judges the challenger, and moves the ramp where it may."""

from __future__ import annotations

from airflow.sdk import DAG, CronDataIntervalTimetable, task

from dags.chain import EVERY_TASK, START, run
from dags.model_list import read_models
from dags.trigger_form import cutoff_field
from pipeline.config import ModelConfig
from pipeline.settings import load_settings

ABOUT = """Judges the version of `models/{name}.yaml` that is on trial, on the traffic since its step began. {schedule}

What was found, with its figures, stands in the ledger and in `python -m pipeline status`. {acts}
A backfill judges, but moves nothing.
"""


def rollout_dag(model: ModelConfig) -> None:
    """Make the DAG rollout_NAME."""
    cron, section = model.schedules.rollout, model.deployment.rollout
    schedule = f"Schedule: `{cron}` UTC." if cron else "No schedule: set `schedules.rollout`."
    acts = "The verdict moves the ramp." if section.automatic else "People move the ramp: `judge-rollout --act`."
    with DAG(
        dag_id=f"rollout_{model.name}",
        description=f"Judges the version of {model.name} that is on trial",
        doc_md=ABOUT.format(name=model.name, schedule=schedule, acts=acts),
        schedule=CronDataIntervalTimetable(cron, timezone="UTC") if cron else None,
        start_date=START,
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=1,
        params={"cutoff": cutoff_field()},
        tags=["evergreen", "rollout", model.name],
        default_args=EVERY_TASK,
    ):
        task(task_id="judge_rollout")(run)("judge_rollout", model.name)


for _model in read_models(load_settings().models_dir)[0]:
    if _model.deployment.rollout.strategy != "direct":
        rollout_dag(_model)
