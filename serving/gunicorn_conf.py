"""How gunicorn serves `serving.flask_app`: one set of metrics over all workers, each ready before its first request.

    gunicorn --config python:serving.gunicorn_conf --workers 4 "serving.flask_app:create_app()"

With --preload too. The names are those of gunicorn's settings.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_FOLDER = Path(tempfile.gettempdir()) / f"evergreen-service-{secrets.token_hex(8)}"
"""Made in `on_starting`; prometheus_client reads its name when it is imported, which --preload does before that."""

graceful_timeout = 20
raw_env = [f"{_VARIABLE}={os.environ.get(_VARIABLE, _FOLDER)}"]


def on_starting(server: Any) -> None:
    """Before there are workers."""
    if os.environ[_VARIABLE] == str(_FOLDER):
        _FOLDER.mkdir(mode=0o700)


def post_worker_init(worker: Any) -> None:
    """Load the models in each worker: their threads and connections do not survive a fork."""
    worker.wsgi.extensions["evergreen"]()


def on_exit(server: Any) -> None:
    """The metrics end with the service."""
    if os.environ[_VARIABLE] == str(_FOLDER):
        shutil.rmtree(_FOLDER, ignore_errors=True)
