"""A person decides in the web UI: a real Airflow, a real browser, real clicks."""

from __future__ import annotations

import time

from playwright.sync_api import Page, expect

from pipeline.adapters.champions import champion_of
from pipeline.ledger import Ledger
from tests.local.conftest import shoot


def waiting(world, dag_id: str, cutoff: str) -> str:
    """Trigger a run and wait until it waits for a person."""
    run_id = world.airflow.trigger(dag_id, {"cutoff": cutoff})
    end = time.monotonic() + 400
    while world.airflow.tasks(dag_id, run_id)["approve"]["state"] != "awaiting_input":
        assert time.monotonic() < end, world.airflow.tasks(dag_id, run_id)
        time.sleep(0.3)
    return run_id


def answer(page: Page, world, dag_id: str, run_id: str, button: str, reason: str) -> None:
    page.goto(f"{world.addresses.airflow}/dags/{dag_id}/runs/{run_id}/tasks/approve/required_actions")
    expect(page.get_by_text("The gate says PROMOTE")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("cell", name="roc_auc")).to_be_visible()
    page.locator("#element_reason").fill(reason)
    shoot(page, button.lower())
    page.get_by_role("button", name=button, exact=True).click()
    expect(page.get_by_text("The gate says PROMOTE")).to_be_visible()


def test_a_version_that_a_person_approves_in_the_browser_answers_and_one_that_is_rejected_does_not(world, page):
    dag_id, model = "training_asked", "asked"
    run_id = waiting(world, dag_id, "2025-09-01T00:00:00Z")
    assert champion_of(model, world.settings) is None
    answer(page, world, dag_id, run_id, "Approve", "looks right")
    (run,) = world.finish(dag_id, [run_id])
    tasks = world.airflow.tasks(dag_id, run_id)
    assert (run["state"], tasks["approve"]["state"], tasks["deploy"]["state"]) == ("success",) * 3
    assert champion_of(model, world.settings).version == 1

    run_id = waiting(world, dag_id, "2025-10-01T00:00:00Z")
    answer(page, world, dag_id, run_id, "Reject", "wait for Monday")
    (run,) = world.finish(dag_id, [run_id])
    tasks = world.airflow.tasks(dag_id, run_id)
    assert (run["state"], tasks["deploy"]["state"]) == ("success", "skipped")
    assert champion_of(model, world.settings).version == 1
    with Ledger(world.settings.database_url) as ledger:
        lines = ledger.lines(model, "approved", "rejected", "promoted")
    assert [(line.kind, line.version) for line in lines] == [("approved", 1), ("promoted", 1), ("rejected", 2)]
    assert lines[0].body["reason"] == "looks right"
    assert lines[0].body["by"]
    assert lines[0].body["by"] != "nobody (the time was up)"
    assert lines[2].body["reason"] == "wait for Monday"


def test_silence_is_a_rejection(world):
    dag_id = "training_hurried"
    run_id = world.airflow.trigger(dag_id, {"cutoff": "2025-09-01T00:00:00Z"})
    (run,) = world.finish(dag_id, [run_id])
    assert run["state"] == "success"
    assert world.airflow.tasks(dag_id, run_id)["deploy"]["state"] == "skipped"
    assert champion_of("hurried", world.settings) is None
    with Ledger(world.settings.database_url) as ledger:
        (line,) = ledger.lines("hurried", "approved", "rejected")
    assert (line.kind, line.body["by"]) == ("rejected", "nobody (the time was up)")
