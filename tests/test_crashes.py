from __future__ import annotations

import json
import subprocess
import sys

from pipeline.stages import STAGES
from tests.conftest import customers


def test_a_chain_killed_anywhere_and_run_again_ends_as_if_nothing_had_happened(write_model, tmp_path):
    write_model(customers())
    kills = [f"{stage}:{share}" for stage in STAGES for share in (0.3, 0.8)]
    command = [sys.executable, "-m", "tests.crash_runner", str(tmp_path / "crash"), str(tmp_path / "models"), *kills]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    (_, whole), *others = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert whole["runs"] == ["FINISHED"]
    assert whole["versions"] == 1
    assert whole["half_written"] == []
    assert len(others) == len(kills)
    for kill, state in others:
        assert state == whole, f"{kill}\n{done.stderr[-4000:]}"
