"""One DAG for each model file that decides whether a new model is made, makes it, and says what came out."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import DAG, Asset, Param, TriggerRule, get_current_context, task

from dags.chain import EVERY_TASK, START, standing, training_tasks
from dags.events import decision_due
from dags.model_list import read_models
from dags.trigger_form import cutoff_field
from pipeline.config import ModelConfig
from pipeline.settings import load_settings

log = logging.getLogger("evergreen.retraining")

ABOUT = """Decides whether `models/{name}.yaml` is trained anew, and does it.

Started by an event of the asset `{asset}`, which `drift_detection_{name}` sends, by an alert, or by hand. What was
decided, with its reasons, stands in the log of `decide_retraining` and in the ledger. Only where it is *retrain* the
stages of training follow, with the cut-off of the event. A run ends *failed* where a stage failed, and *success*
where nothing was to be done or the gate kept the old model.
"""


def decide_retraining(model_name: str) -> str:
    """What is to be done, from what was measured for the cut-off.

    An alert, and a person who names no cut-off, ask about now, for which nobody has measured yet: it is done first.
    """
    from pipeline.monitoring_records import DecideRetrainingRecord
    from pipeline.stages import MONITORING, run_stage

    airflow: Any = get_current_context()
    model, context, settings = standing(model_name)
    for reason in airflow["params"]["reasons"]:
        log.info("asked for, because: %s", reason)
    measured = None
    if context.kind == "manual" and airflow["params"]["cutoff"] is None:
        for stage in MONITORING[:-1]:
            measured = run_stage(stage, model, context, settings, measured)
    decision = run_stage("decide_retraining", model, context, settings, measured)
    assert isinstance(decision, DecideRetrainingRecord)
    log.info("%s: %s", decision.action, "; ".join(decision.reasons))
    return decision.to_json()


def roll_back(model_name: str, decided: str) -> str:
    """Let the champion before this one answer again, where that is decided."""
    from pipeline.retraining import carry_out

    decision = _only("roll back", decided)
    told = carry_out(decision, *standing(model_name))
    log.info("%s", told)
    return told


def go_ahead(decided: str) -> None:
    """Let the stages of training follow, where that is decided."""
    _only("retrain", decided)


def report(model_name: str) -> str:
    """What came out of a retraining, also of one that failed: then this task fails too, and with it the run."""
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

    from pipeline.records import DeployRecord, RegisterRecord
    from pipeline.retraining import report as report_on
    from pipeline.stages import run_stage

    airflow: Any = get_current_context()
    decided, registered, deployed = (
        airflow["ti"].xcom_pull(task_ids=name) for name in ("decide_retraining", "register", "deploy")
    )
    if decided is None:
        raise AirflowSkipException("nothing was decided")
    decision = _only("retrain", decided)
    failed = _failed_tasks(airflow)
    model, context, settings = standing(model_name)
    outcome = DeployRecord.from_json(deployed) if deployed else None
    if outcome is None and not failed and registered:
        # A person said no, so that `deploy` was not asked: it would refuse with that person's reason.
        asked = run_stage("deploy", model, context, settings, RegisterRecord.from_json(registered))
        assert isinstance(asked, DeployRecord)
        outcome = asked
    told = report_on(decision, outcome, model, context, settings)
    if outcome is None:
        raise AirflowFailException(f"{', '.join(failed) or 'a stage'} failed; {told}")
    log.info("%s", told)
    return told


def _only(action: str, decided: str) -> Any:
    """The decision, where it is this one; else the task is skipped, with the reasons of the other."""
    from airflow.sdk.exceptions import AirflowSkipException

    from pipeline.monitoring_records import DecideRetrainingRecord

    decision = DecideRetrainingRecord.from_json(decided)
    if decision.action != action:
        raise AirflowSkipException(f"decided: {decision.action}, not {action}; {'; '.join(decision.reasons)}")
    return decision


def _failed_tasks(airflow: Any) -> list[str]:
    run_id = airflow["dag_run"].run_id
    states = airflow["ti"].get_task_states(dag_id=airflow["dag"].dag_id, run_ids=[run_id])[run_id]
    return [task_id for task_id, state in states.items() if state == "failed"]


def retraining_dag(model: ModelConfig) -> None:
    """Make the DAG retraining_NAME."""
    due = Asset(decision_due(model.name))
    with DAG(
        dag_id=f"retraining_{model.name}",
        description=f"Decides whether {model.name} is trained anew, and does it",
        doc_md=ABOUT.format(name=model.name, asset=due.name),
        schedule=due,
        start_date=START,
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=1,
        allowed_run_types=["asset_triggered", "manual"],
        params={"cutoff": cutoff_field(), "reasons": Param(
            [], type="array", items={"type": "string"}, title="Reasons", section="Why",
            description="Why a decision is asked for; for the log.",
        )},
        tags=["evergreen", "retraining", model.name],
        default_args=EVERY_TASK,
    ):  # fmt: skip
        decided = task(decide_retraining)(model.name)
        task(roll_back)(model.name, decided)
        ahead = task(go_ahead)(decided)
        stages = training_tasks(model)
        ahead >> stages["ingest"]
        stages["deploy"] >> task(trigger_rule=TriggerRule.ALL_DONE)(report)(model.name)


for _model in read_models(load_settings().models_dir)[0]:
    retraining_dag(_model)
