"""One training DAG for each model file. Wiring only: what a stage does stands in `pipeline.stages`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import (
    DAG,
    CronDataIntervalTimetable,
    ExceptionRetryPolicy,
    RetryAction,
    RetryRule,
    TriggerRule,
    get_current_context,
    task,
)

from dags.approval import AFTER_APPROVAL, ask_first
from dags.model_list import read_models
from dags.trigger_form import changes, form
from pipeline.config import ModelConfig
from pipeline.settings import load_settings
from pipeline.stages import STAGES

ONE_AT_A_TIME = ("register", "deploy")
"""Of these, one at once per model, whatever number of runs. No pool: a pool that nobody made stops a run for ever."""

RETRIES = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception="pipeline.errors.OutsideFailure", action=RetryAction.RETRY, reason="may pass"),
        RetryRule(
            exception="pipeline.errors.EvergreenError",
            action=RetryAction.FAIL,
            reason="the same again would fail the same",
        ),
    ]
)

ABOUT = """{description}

`models/{name}.yaml`, {task}, decided by `{metric}`. {schedule}

A run takes a snapshot of what was known at its cut-off, and ends *success* even where the gate keeps the old
model: then `deploy` is *skipped*, and its log says why. A backfill registers versions and moves no traffic.
"""


def run(stage: str, model_name: str, upstream: str | None = None) -> str:
    """One stage on the record of the one before it: the body of every task."""
    from airflow.sdk.exceptions import AirflowSkipException

    from pipeline.config import load_model, override
    from pipeline.context import run_context
    from pipeline.errors import BadConfiguration
    from pipeline.stages import record_type, run_stage

    airflow: Any = get_current_context()
    dag_run, answers = airflow["dag_run"], airflow["params"]
    kind = dag_run.run_type.value
    context = run_context(
        model_name,
        run_id=dag_run.run_id,
        kind="manual" if kind.startswith("operator") else kind,
        triggered_at=dag_run.run_after,
        interval_end=dag_run.data_interval_end,
        requested_cutoff=answers["cutoff"],
    )
    if answers["cutoff"] and context.kind != "manual":
        raise BadConfiguration(f"a {context.kind} run knows its own cut-off; leave `cutoff` empty")
    if context.cutoff > datetime.now(UTC):
        raise BadConfiguration(f"the cut-off {context.cutoff.isoformat()} lies in the future; choose an earlier one")
    settings = load_settings()
    model = load_model(model_name, settings.models_dir)
    model = override(model, changes(answers, model))
    record = record_type(STAGES[STAGES.index(stage) - 1]).from_json(upstream) if upstream else None
    result = run_stage(stage, model, context, settings, record)
    if getattr(result, "status", None) == "refused":
        airflow["ti"].xcom_push("return_value", result.to_json())
        raise AirflowSkipException(getattr(result, "reason", ""))
    return result.to_json()


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
        start_date=datetime(2020, 1, 1, tzinfo=UTC),
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=1,
        params=form(model),
        tags=["evergreen", "training", model.name],
        default_args={
            "owner": "evergreen",
            "retries": 2,
            "retry_delay": timedelta(seconds=30),
            "retry_policy": RETRIES,
        },
    ):
        record = None
        for stage in STAGES:
            alone = 1 if stage in ONE_AT_A_TIME else None
            asks = stage == "deploy" and model.deployment.approval is not None
            before = ask_first(model, record) if asks else ()
            rule = AFTER_APPROVAL if asks else TriggerRule.ALL_SUCCESS
            record = task(task_id=stage, max_active_tis_per_dag=alone, trigger_rule=rule)(run)(
                stage, model.name, record
            )
            for earlier in before:
                earlier >> record


for _model in read_models(load_settings().models_dir)[0]:
    training_dag(_model)
