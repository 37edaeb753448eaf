"""One page of where the models stand, read from the database alone."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta

import pytest

from pipeline.adapters.watch_store import Watched, WatchStore
from pipeline.core.alarms import Alarm, AlarmState
from pipeline.gauges import GaugeStore
from pipeline.ledger import Event, Ledger
from pipeline.status import ModelStatus, status_of, to_json
from pipeline.status_page import rows, show
from tests.conftest import customers

NOW = datetime(2026, 3, 20, 12, 0, tzinfo=UTC)
CUTOFF = datetime(2026, 3, 1, tzinfo=UTC)
DAY = date(2026, 3, 18)
DIGEST = "d" * 64


@pytest.fixture
def model(write_model):
    """A model file."""
    return write_model(customers(50))


@pytest.fixture
def ledger(settings):
    """Writes lines at instants."""
    with Ledger(settings.database_url) as opened:
        yield lambda kind, at, version=None, **body: opened.append(Event("churn", kind, version, body), at)


@pytest.fixture
def champion(model, ledger):
    """Version 4 answers."""
    evaluate = {"primary": "roc_auc", "metrics": {"roc_auc": {"value": 0.84, "low": 0.82, "high": 0.86}}}
    for version in (3, 4):
        ledger("registered", CUTOFF + timedelta(hours=version), version, cutoff=CUTOFF.isoformat(), reason="registered",
               record={"digest": DIGEST if version == 4 else "c" * 64, "evaluate": evaluate})  # fmt: skip
    ledger("promoted", CUTOFF + timedelta(hours=5), 4, cutoff=CUTOFF.isoformat(), reason="better by 0.02")


def alarm(subject: str, level: str = "confirmed", impact: float = 0.1, kind: str = "column") -> Alarm:
    return Alarm(kind, subject, level, DAY, DAY, DAY, (DAY,), (DAY,), 0, 7, 0.3, impact, 0.4, f"{subject} moved")


def window(days: int, status: str, value: float | None, estimate: float | None) -> dict[str, object]:
    """A window as `measure_performance` keeps it."""
    found = {"value": value, "low": (value or 0) - 0.02, "high": (value or 0) + 0.02}
    return {
        "days": days, "first": "2026-03-01", "last": f"2026-03-{days:02d}",
        "realised": {"status": status, "metrics": {} if value is None else {"roc_auc": found}, "told": "few labels"},
        "estimates": {} if estimate is None else {"roc_auc": {**found, "value": estimate, "method": "by confidence"}},
    }  # fmt: skip


@pytest.fixture
def watch(settings):
    """Keeps what the monitors saw of a champion."""

    def keep(monitor: str, *alarms: Alarm, champion: str = DIGEST, day: date = DAY, **body: object) -> None:
        state = {"state": AlarmState(day, alarms).to_json()}
        with WatchStore(settings.database_url) as store:
            store.keep(Watched("churn", monitor, champion, day, 4, NOW, "scheduled", {**state, **body}))

    return keep


@pytest.fixture
def succeeded(settings):
    """A monitor has done its work."""

    def write(monitor: str, at: datetime, hours: float = 36) -> None:
        with GaugeStore(settings.database_url) as store:
            store.replace("churn", monitor, [], at, at, rows=10, max_age_seconds=hours * 3600)

    return write


def state_of(settings) -> ModelStatus:
    (found,) = status_of(["churn"], NOW, settings)
    return found


def page(found: ModelStatus) -> str:
    return "\n".join(f"{row.label} {row.text}" for row in rows(found, NOW))


def test_a_model_without_a_champion_says_so(model, settings):
    assert page(state_of(settings)) == "champion none; 0 versions registered"


def test_the_champion_is_told_with_since_when_and_how_old_its_knowledge_is(champion, settings):
    told = page(state_of(settings))
    assert (
        "version 4 of 2, since 2026-03-01 05:00 (19 days ago); knows all up to 2026-03-01 00:00 (19 days ago)" in told
    )
    assert "promoted version 4: better by 0.02" in told


def test_a_monitor_that_has_not_succeeded_for_too_long_is_stale(champion, settings, succeeded):
    succeeded("drift", NOW - timedelta(hours=2))
    succeeded("performance", NOW - timedelta(hours=50))
    found = state_of(settings)
    assert [(one.monitor, one.stale) for one in found.monitors] == [("drift", False), ("performance", True)]
    assert "drift 2 hours ago" in page(found)
    assert "STALE, the limit is 36 hours" in page(found)
    (row,) = (row for row in rows(found, NOW) if row.label == "watched")
    assert row.tone == "bad"


def test_a_champion_that_nobody_watches_is_no_quiet_one(champion, settings):
    told = page(state_of(settings))
    assert "drift never, performance never; no day of this champion is checked yet" in told
    assert "alarms not known" in told


def test_alarms_of_both_monitors_stand_together_confirmed_and_costly_ones_first(champion, settings, watch):
    watch("drift", alarm("tenure", impact=0.05), alarm("plan", "suspected", 0.9), alarm("old", "resolved"))
    watch("performance", alarm("performance", impact=0.3, kind="performance"), newest=[], mature=[])
    told = page(state_of(settings))
    assert told.index("performance since") < told.index("column tenure") < told.index("suspected: column plan")
    assert "estimated loss 30.0% of the error" in told
    assert "old" not in told


def test_the_page_shows_three_alarms_and_counts_the_others_and_json_has_all(champion, settings, watch):
    watch("drift", *(alarm(f"column_{n}") for n in range(5)))
    found = state_of(settings)
    assert "and 2 more" in page(found)
    assert len(json.loads(to_json([found]))[0]["alarms"]) == 5


def test_alarms_about_a_champion_that_is_gone_are_not_those_of_this_one(champion, settings, watch):
    watch("drift", alarm("tenure"), champion="c" * 64)
    assert state_of(settings).alarms == ()
    assert state_of(settings).last_day is None


def test_the_longest_mature_window_is_realised_and_the_newest_one_estimated(champion, settings, watch):
    newest = [window(7, "insufficient", None, 0.83), window(30, "immature", 0.79, 0.81)]
    watch("performance", newest=newest, mature=[window(7, "mature", 0.80, None), window(28, "mature", 0.82, None)])
    told = page(state_of(settings))
    assert "realised roc_auc 0.8200 (0.8000 to 0.8400), 2026-03-01 to 2026-03-28, mature; 0.8400 at reg" in told
    assert "estimated roc_auc 0.8100" in told


def test_an_immature_window_is_called_so_and_one_without_labels_gives_its_reason(champion, settings, watch):
    watch("performance", newest=[window(7, "insufficient", None, None), window(30, "immature", 0.79, None)], mature=[])
    assert "2026-03-30, immature; 0.8400 at registration" in page(state_of(settings))
    watch("performance", day=DAY + timedelta(days=1), newest=[window(7, "insufficient", None, None)], mature=[])
    assert "roc_auc not known, 2026-03-01 to 2026-03-07: few labels, insufficient" in page(state_of(settings))


def test_slices_that_became_worse_are_shown_the_surest_three_and_counted(champion, settings, watch):
    worse = [{"name": f"plan={n}", "then": 0.3, "now": 0.5} for n in range(5)]
    watch("performance", newest=[], mature=[], worse=worse)
    found = state_of(settings)
    told = page(found)
    assert "worse on plan=0: loss 0.5000, 0.3000 at registration" in told
    assert "plan=3" not in told
    assert "and 2 more slices" in told
    assert len(found.worse) == 5


def decided(ledger, at: datetime, action: str = "retrain", *, is_open: bool = False) -> int:
    line = ledger("decision", at, 4, action=action, reason=f"{action}: tenure moved", cutoff=at.isoformat(),
                  breaker={"is_open": is_open, "since": None})  # fmt: skip
    return line.number


def test_retrainings_of_thirty_days_are_told_with_what_came_of_them(champion, settings, ledger):
    decided(ledger, NOW - timedelta(days=40))
    helped = decided(ledger, NOW - timedelta(days=9))
    ledger("retrained", NOW - timedelta(days=9), 4, decision=helped, status="deployed", reason="version 4 deployed")
    ledger("graded", NOW - timedelta(days=2), 4, decision=helped, helped=True, reason="better than the one before")
    decided(ledger, NOW - timedelta(hours=1))
    found = state_of(settings)
    assert [(one.outcome, one.version, one.helped) for one in found.retrainings] == [
        ("deployed", 4, True), ("running", None, None)
    ]  # fmt: skip
    assert (found.budget, found.budget_left) == (4, 2)
    assert "deployed version 4, helped: better than the one before" in page(found)


def test_an_open_breaker_is_told_until_a_person_closes_it(champion, settings, ledger):
    decided(ledger, NOW - timedelta(days=1), "call a person", is_open=True)
    assert "the breaker is OPEN" in page(state_of(settings))
    ledger("breaker_closed", NOW, cutoff=NOW.isoformat(), reason="the sensor was mended", by="Ada")
    assert not state_of(settings).breaker_open


def test_a_broken_model_file_does_not_hide_what_is_known(champion, settings):
    (settings.models_dir / "churn.yaml").write_text("task: guessing\n")
    told = page(state_of(settings))
    assert "model file" in told
    assert "version 4" in told


def test_json_is_complete_and_its_instants_are_iso(champion, settings, watch, succeeded, ledger):
    succeeded("drift", NOW - timedelta(hours=2))
    decided(ledger, NOW - timedelta(days=1))
    (plain,) = json.loads(to_json([state_of(settings)]))
    assert set(plain) == {*asdict(state_of(settings))}
    assert plain["monitors"][0]["at"] == "2026-03-20T10:00:00+00:00"
    assert plain["retrainings"][0]["cutoff"] == "2026-03-19T12:00:00+00:00"


def test_on_a_terminal_the_page_is_in_colour_and_elsewhere_plain(champion, settings, monkeypatch, capsys):
    found = [state_of(settings)]
    show(found, NOW)
    plain = capsys.readouterr().out
    assert "\x1b" not in plain
    assert "  champion     version 4 of 2" in plain
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    show([replace(found[0], fault="broken")], NOW)
    assert "\x1b[1;31m" in capsys.readouterr().out


def test_the_command_answers_without_the_libraries_of_the_stages(champion, settings):
    environ = {"EVERGREEN_HOME": str(settings.home), "EVERGREEN_MODELS": str(settings.models_dir), "PATH": ""}
    code = (
        "import sys; from pipeline.__main__ import main; done = main(['status']); "
        "assert not {'pandas', 'sklearn', 'mlflow', 'scipy', 'pyarrow', 'duckdb'} & set(sys.modules); sys.exit(done)"
    )
    ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "version 4 of 2" in ran.stdout
