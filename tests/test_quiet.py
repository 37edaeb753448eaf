"""What is switched off, and what is not loaded: seen in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from local.airflow import environment
from pipeline.settings import TELEMETRY_OFF, load_settings
from tests.conftest import customers

HEAVY = (
    "airflow",
    "duckdb",
    "dvc",
    "great_expectations",
    "mlflow",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "sqlalchemy",
)


def loaded_after(code: str) -> list[str]:
    program = f"import sys; {code}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1].replace("'", '"'))


@pytest.mark.parametrize(
    "code",
    [
        "import pipeline, pipeline.config, pipeline.stages, pipeline.records, pipeline.settings",
        "from pipeline.__main__ import main; main([])",
        "from serving.__main__ import main",
        "import demo, demo.__main__, local.__main__",
    ],
)
def test_importing_or_asking_for_help_loads_no_heavy_library(code):
    assert loaded_after(code) == []


def test_every_command_has_help_and_bad_usage_ends_with_2():
    from pipeline.__main__ import STAGE_HELP, main

    for command in ("run", "new", "watch", "replay", "drill", *(name.replace("_", "-") for name in STAGE_HELP)):
        with pytest.raises(SystemExit) as left:
            main([command, "--help"])
        assert left.value.code == 0
    with pytest.raises(SystemExit) as left:
        main(["dance"])
    assert left.value.code == 2


WATCHED = """
import json, socket, sys, time
asked = []
def watch(name):
    real = getattr(socket, name)
    def call(host, *more, **named):
        if host not in ("localhost", "127.0.0.1", "::1", None, socket.gethostname()):
            asked.append(str(host))
            raise OSError("the network is watched")
        return real(host, *more, **named)
    setattr(socket, name, call)
for name in ("getaddrinfo", "gethostbyname"):
    watch(name)
real_connect = socket.socket.connect
def connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        asked.append(str(address))
        raise OSError("the network is watched")
    return real_connect(self, address)
socket.socket.connect = connect
from pipeline.__main__ import main
status = main(["run", "--model", "churn", "--cutoff", "2025-10-01", "--json"])
import mlflow.telemetry.utils, dvc.analytics, airflow.configuration
time.sleep(1)
print(json.dumps([status, asked, mlflow.telemetry.utils.is_telemetry_disabled(), dvc.analytics.is_enabled(),
                  airflow.configuration.conf.getboolean("usage_data_collection", "enabled")]))
"""


def test_a_whole_run_asks_no_host_but_this_one(write_model, settings, tmp_path):
    write_model(customers())
    environ = {
        **os.environ, "EVERGREEN_HOME": str(settings.home), "EVERGREEN_MODELS": str(tmp_path / "models"),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
    }  # fmt: skip
    for name in (*TELEMETRY_OFF, "CI"):
        environ.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WATCHED], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    status, asked, mlflow_off, dvc_on, airflow_on = json.loads(done.stdout.splitlines()[-1])
    assert (status, asked) == (0, [])
    assert (mlflow_off, dvc_on, airflow_on) == (True, False, False)


def test_the_local_airflow_starts_with_usage_reports_off(settings):
    environ = environment(
        load_settings({"EVERGREEN_HOME": str(settings.home)}),
        airflow_port=1,
        mlflow_port=2,
        scheduled=False,
        inherited={},
    )
    assert environ["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] == "False"
    assert environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
