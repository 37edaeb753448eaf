"""Every example of docs/serving-doors.md runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving-doors.md"
EXAMPLES = re.findall(r"```(sh|python)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(("language", "example"), EXAMPLES)
def test_an_example_of_the_page_runs(live, language, example):
    if language == "sh" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    example = example.replace("localhost:8000", live.address.removeprefix("http://"))
    command = [sys.executable, "-W", "error", "-c", example]
    if language == "sh":
        command = ["bash", "-e", "-o", "pipefail", "-c", example.replace("curl ", "curl --fail-with-body -sS ")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def test_the_page_has_an_example_of_every_protocol():
    whole = "".join(example for _, example in EXAMPLES)
    for path in ("/predict", "/feedback", "/v1/models", "/v2/models", "/invocations", "/arrow", "/health", "/ready"):
        assert path in whole
