"""The ledger: nothing that was decided can be changed, taken out or cut off without being found."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.errors import OutsideFailure
from pipeline.ledger import Event, Ledger
from tests.conftest import customers, turn

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def filled(settings, lines: int = 9) -> Ledger:
    ledger = Ledger(settings.database_url)
    for number in range(1, lines + 1):
        ledger.append(Event("churn", "refused", number, {"reason": f"reason {number}"}), NOON + timedelta(days=number))
    return ledger


def edit(settings, statement: str) -> None:
    with sqlite3.connect(settings.database_url.removeprefix("sqlite:///")) as connection:
        connection.execute(statement)
    connection.close()


def test_lines_come_back_as_they_were_written_and_hold_together(settings):
    ledger = filled(settings)
    assert [line.number for line in ledger.lines("churn")] == list(range(1, 10))
    assert ledger.lines("churn")[4].body == {"reason": "reason 5"}
    assert list(ledger.faults()) == []


@pytest.mark.parametrize(
    "change",
    [
        "body = replace(body, 'reason 4', 'reason 5')",
        "at = replace(at, '2026', '2025')",
        "version = 5",
        "kind = 'promoted'",
        "model = 'churm'",
        "subject = 'x' || substr(subject, 2)",
        "previous = 'f' || substr(previous, 2)",
        "hash = 'f' || substr(hash, 2)",
    ],
)
def test_one_byte_of_one_line_edited_names_the_line(settings, change):
    ledger = filled(settings)
    edit(settings, f"UPDATE evergreen_ledger SET {change} WHERE number = 4")
    found = list(ledger.faults())
    assert found[0].number == 4


def test_a_line_that_is_taken_out_or_replaced_whole_is_found(settings):
    ledger = filled(settings)
    edit(settings, "DELETE FROM evergreen_ledger WHERE number IN (4, 5)")
    assert [(fault.number, fault.reason) for fault in ledger.faults()] == [(4, "missing: 4 to 5")]


def test_lines_cut_off_at_the_end_are_found_by_what_the_registry_remembers(write_model, settings):
    turn(write_model(customers()), settings)
    environ = {**os.environ, "EVERGREEN_HOME": str(settings.home), "EVERGREEN_MODELS": str(settings.models_dir)}

    def verify() -> tuple[int, dict]:
        command = [sys.executable, "-m", "pipeline", "verify-ledger", "--json"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        return done.returncode, json.loads(done.stdout)

    assert verify() == (0, {"lines": 3, "faults": []})
    edit(settings, "DELETE FROM evergreen_ledger WHERE number = 3")
    status, found = verify()
    assert status == 1
    assert found["faults"] == [
        {"number": 3, "reason": "is not the line that told who became champion of churn last"},
        {"number": 0, "reason": "churn is answered by version 1, the ledger says nobody"},
    ]
    edit(settings, "DELETE FROM evergreen_ledger WHERE number = 2")
    told = {"number": 2, "reason": "is not the line that told that version 1 of churn was registered"}
    assert told in verify()[1]["faults"]


def test_the_same_decision_is_one_line_and_time_never_runs_backwards(settings):
    ledger = Ledger(settings.database_url)
    event = Event("churn", "verdict", None, {"key": 1}, once="key 1")
    assert ledger.append(event, NOON) == ledger.append(event, NOON + timedelta(days=1))
    earlier = ledger.append(Event("churn", "verdict", None, {"key": 2}), NOON - timedelta(days=9))
    assert earlier.instant == NOON
    assert ledger.count() == 2


def test_lines_written_at_once_are_all_there_and_in_one_chain(settings):
    def write(number: int) -> None:
        with Ledger(settings.database_url) as ledger:
            ledger.append(Event("churn", "refused", number, {}), NOON)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    ledger = Ledger(settings.database_url)
    assert sorted(line.version for line in ledger.lines()) == list(range(40))
    assert list(ledger.faults()) == []


def test_a_database_that_is_down_is_named_without_its_password():
    ledger = Ledger("postgresql+psycopg://someone:secret@127.0.0.1:9/evergreen")
    with pytest.raises(OutsideFailure, match=r"127\.0\.0\.1:9.*EVERGREEN_DATABASE_URL") as found:
        ledger.count()
    assert "secret" not in str(found.value)
