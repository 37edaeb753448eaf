"""The load command: it counts what it was answered, and says when there was nobody."""

from __future__ import annotations

import json

from serving.load import main
from tests.serving.live_service import deploy, free_port, serving


def test_a_load_counts_the_answers_of_ones_own_server(settings, monkeypatch, capsys):
    deploy(settings)
    monkeypatch.setenv("EVERGREEN_HOME", str(settings.home))
    with serving(settings) as address:
        asked = ["churn", "--url", address, "--connections", "1", "4", "--seconds", "0.5", "--json"]
        assert main(asked) == 0
    one, four = json.loads(capsys.readouterr().out)
    assert (one["connections"], four["connections"]) == (1, 4)
    assert one["per_second"] > 20
    assert one["not_200"] == four["not_200"] == {}
    assert 0 < one["p50_ms"] <= one["p99_ms"]


def test_what_is_not_200_is_shown_by_its_status_and_makes_the_command_fail(settings, tmp_path, capsys):
    deploy(settings)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"tenure": "long"}\n')
    with serving(settings) as address:
        asked = ["churn", "--url", address, "--connections", "1", "--seconds", "0.2", "--rows", str(rows)]
        assert main(asked) == 1
    assert " x 422" in capsys.readouterr().out


def test_where_nobody_answers_it_says_what_to_start(settings, tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n")
    assert main(["churn", "--url", f"http://127.0.0.1:{free_port()}", "--rows", str(rows)]) == 2
    assert "python -m serving" in capsys.readouterr().err
