"""A rollout under a real Airflow: its DAG judges the version on trial."""

from __future__ import annotations

import time

from pipeline.adapters.experiment_data import SETTLE_SECONDS
from pipeline.config import load_model, override
from pipeline.ledger import Ledger
from pipeline.rollout_records import JudgeRolloutRecord
from tests.conftest import turn

DAG = "rollout_tried"


def test_the_dag_of_a_rollout_judges_the_version_on_trial_and_writes_down_its_run(world):
    model = load_model("tried", world.settings.models_dir)
    champion = turn(model, world.settings, "2025-09-01")
    challenger = turn(override(model, {"training.parameters": {"C": 0.5}}), world.settings, "2025-10-01")
    assert (champion.status, challenger.status) == ("deployed", "on_trial")

    time.sleep(SETTLE_SECONDS + 1)  # the answers that count begin then
    run_id = world.airflow.trigger(DAG, {})
    (run,) = world.finish(DAG, [run_id])
    assert run["state"] == "success"
    judged = JudgeRolloutRecord.from_json(world.airflow.returned(DAG, run_id, "judge_rollout"))
    assert (judged.status, judged.decision, judged.done) == ("judged", "hold", "")
    assert (judged.champion, judged.challenger) == (1, 2)
    with Ledger(world.settings.database_url) as ledger:
        (line,) = ledger.lines("tried", "rollout_judged")
        assert (line.version, line.body["decision"], line.body["run_id"]) == (2, "hold", run_id)
