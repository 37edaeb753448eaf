"""Load by wrk (the Debian package): keeps connections open, asks the next row as soon as the last is answered."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPT = """
local bodies, count = {}, 0
for line in io.lines(%(bodies)s) do count = count + 1; bodies[count] = line end
local headers, at = %(headers)s, 0
function request()
  at = at %% count + 1
  return wrk.format("POST", nil, headers, bodies[at])
end
function done(summary, latency)
  io.write(string.format('RESULT {"requests": %%d, "microseconds": %%d, "p50": %%f, "p99": %%f, "bad": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
    + summary.errors.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """What a load found."""

    per_second: float
    p50_ms: float
    p99_ms: float
    bad: int
    """Answers that were none, or no 200."""


def installed() -> bool:
    """Whether wrk is here."""
    return shutil.which("wrk") is not None


def load(
    url: str, bodies: Sequence[str | bytes], connections: int, seconds: float, headers: dict[str, str] | None = None
) -> Load:
    """Ask these bodies in turn. Bodies with line ends (binary ones) can only be one."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bodies"
        script = Path(folder) / "load.lua"
        text = SCRIPT % {"bodies": json.dumps(str(file)), "headers": _lua(headers or {})}
        if len(bodies) == 1:
            text = text.replace(
                f"for line in io.lines({json.dumps(str(file))}) do count = count + 1; bodies[count] = line end",
                f'local file = io.open({json.dumps(str(file))}, "rb"); bodies[1] = file:read("*a"); count = 1',
            )
        file.write_bytes(b"\n".join(one.encode() if isinstance(one, str) else one for one in bodies))
        script.write_text(text)
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(script), url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"RESULT (\{.*\})", done.stdout)
    assert found, done.stdout
    one = json.loads(found[1])
    per_second = one["requests"] / one["microseconds"] * 1e6
    return Load(per_second, one["p50"] / 1000, one["p99"] / 1000, one["bad"])


def _lua(headers: dict[str, str]) -> str:
    pairs = {"Content-Type": "application/json"} | headers
    return "{" + ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in pairs.items()) + "}"
