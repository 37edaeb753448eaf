"""Asking a person in the web UI before a version becomes champion. No DAG in here."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, TriggerRule, get_current_context, task

from pipeline.config import ModelConfig

TIME_OUT = "nobody (the time was up)"
AFTER_APPROVAL = TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
"""`deploy` also runs where nobody had to be asked."""


class RecordedApproval(ApprovalOperator):  # type: ignore[misc]
    """The provider's approval, whose answer goes into the ledger before anything follows from it."""

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Write down who answered what, then go on or skip."""
        from pipeline.approvals import write_answer
        from pipeline.settings import load_settings

        if "error" not in event:
            user = event.get("responded_by_user") or {}
            write_answer(
                context["ti"].xcom_pull(task_ids="register"),
                context["dag"].dag_id.partition("_")[2],
                approve=event["chosen_options"] == [self.APPROVE],
                by=user.get("name") or user.get("id") or TIME_OUT,
                reason=(event.get("params_input") or {}).get("reason") or "no reason given",
                run_id=context["dag_run"].run_id,
                settings=load_settings(),
            )
        return super().execute_complete(context, event)


def ask_first(model: ModelConfig, registered: Any) -> tuple[Any, Any]:
    """The tasks `ask` and `approve` behind `register`; `deploy` comes after both."""
    assert model.deployment.approval is not None
    asked = task.branch(task_id="ask")(whom_to_ask)(model.name, registered)
    approval = RecordedApproval(
        task_id="approve",
        subject="{{ ti.xcom_pull(task_ids='ask', key='subject') }}",
        body="{{ ti.xcom_pull(task_ids='ask', key='evidence') }}",
        defaults=ApprovalOperator.REJECT,
        response_timeout=timedelta(hours=model.deployment.approval.timeout_hours),
        params={"reason": Param("", type="string", title="Reason", description="It stands in the ledger.")},
    )
    asked >> approval
    return asked, approval


def whom_to_ask(model_name: str, registered: str) -> str:
    """`approve` where a person has to agree, `deploy` where there is nothing to agree to."""
    from pipeline.approvals import question
    from pipeline.settings import load_settings

    airflow: Any = get_current_context()
    mlflow = os.environ.get("EVERGREEN_MLFLOW_UI_URL", "http://127.0.0.1:5000")
    asked = question(registered, model_name, airflow["dag_run"].run_type.value, mlflow, load_settings())
    if asked is None:
        return "deploy"
    airflow["ti"].xcom_push("subject", asked.subject)
    airflow["ti"].xcom_push("evidence", asked.evidence)
    return "approve"
