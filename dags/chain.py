"""What the DAGs share: the body of a task, how often it is tried, the stages of training in a row. No DAG in here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule, TriggerRule, get_current_context, task

from dags.approval import AFTER_APPROVAL, ask_first
from dags.events import counted, newest_cutoff
from dags.trigger_form import changes
from pipeline.config import ModelConfig, load_model, override
from pipeline.settings import Settings, load_settings
from pipeline.stages import STAGES

if TYPE_CHECKING:
    from pipeline.context import RunContext

START = datetime(2020, 1, 1, tzinfo=UTC)
ONE_AT_A_TIME = ("register", "deploy")
"""Of these, one at once per model, whatever number of runs. No pool: a pool that nobody made stops a run for ever."""
NOTHING_FOLLOWS = ("refused", "no champion")
"""A record of this status ends the run in peace: its task and all after it are *skipped*."""

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
EVERY_TASK = {"owner": "evergreen", "retries": 2, "retry_delay": timedelta(seconds=30), "retry_policy": RETRIES}


def standing(model_name: str) -> tuple[ModelConfig, RunContext, Settings]:
    """Where the run of the current task stands: its model as the form changed it, its context, the settings.

    A run that asset events started ends skipped where backfills sent all of them.
    Raises BadConfiguration for a cut-off that the run may not have.
    """
    from airflow.sdk.exceptions import AirflowSkipException

    from pipeline.context import run_context
    from pipeline.errors import BadConfiguration

    airflow: Any = get_current_context()
    dag_run, answers = airflow["dag_run"], airflow["params"]
    kind = dag_run.run_type.value
    sent = [event.extra or {} for events in airflow["triggering_asset_events"].values() for event in events]
    extras = counted(sent)
    if sent and not extras:
        raise AirflowSkipException("backfills sent all events that started this run; nobody acts on the past")
    context = run_context(
        model_name,
        run_id=dag_run.run_id,
        kind="manual" if kind.startswith("operator") else kind,
        triggered_at=dag_run.run_after,
        interval_end=dag_run.data_interval_end,
        requested_cutoff=answers["cutoff"],
        event_cutoff=newest_cutoff(extras),
    )
    if answers["cutoff"] and context.kind != "manual":
        raise BadConfiguration(f"a {context.kind} run knows its own cut-off; leave `cutoff` empty")
    if context.cutoff > datetime.now(UTC):
        raise BadConfiguration(f"the cut-off {context.cutoff.isoformat()} lies in the future; choose an earlier one")
    settings = load_settings()
    model = load_model(model_name, settings.models_dir)
    return override(model, changes(answers, model)), context, settings


def run(stage: str, model_name: str, upstream: str | None = None) -> str:
    """One stage on the record of the one before it: the body of every stage's task."""
    from airflow.sdk.exceptions import AirflowSkipException

    from pipeline.stages import before, record_type, run_stage

    model, context, settings = standing(model_name)
    earlier = before(stage)
    record = record_type(earlier).from_json(upstream) if earlier and upstream else None
    result = run_stage(stage, model, context, settings, record)
    if getattr(result, "status", None) in NOTHING_FOLLOWS:
        airflow: Any = get_current_context()
        airflow["ti"].xcom_push("return_value", result.to_json())
        raise AirflowSkipException(getattr(result, "reason", ""))
    return result.to_json()


def training_tasks(model: ModelConfig) -> dict[str, Any]:
    """The stages of training as tasks in a row, by name; a person is asked before `deploy` where the file says so."""
    tasks: dict[str, Any] = {}
    record = None
    for stage in STAGES:
        alone = 1 if stage in ONE_AT_A_TIME else None
        asks = stage == "deploy" and model.deployment.approval is not None
        before = ask_first(model, record) if asks else ()
        rule = AFTER_APPROVAL if asks else TriggerRule.ALL_SUCCESS
        record = task(task_id=stage, max_active_tis_per_dag=alone, trigger_rule=rule)(run)(stage, model.name, record)
        for earlier in before:
            earlier >> record
        tasks[stage] = record
    return tasks
