"""`python -m serving`: the online service of the deployed models."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, then serve until told to stop; requests in flight are answered first."""
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve the deployed models over HTTP.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="worker processes (default %(default)s)")
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME",
        help="serve this model; may be given again (default: every model that has been deployed)",
    )  # fmt: skip
    parsed = parser.parse_args(arguments)
    if parsed.workers < 1:
        parser.error("--workers must be at least 1")
    os.environ["EVERGREEN_SERVE_MODELS"] = ",".join(parsed.model)
    # Before prometheus_client is imported: it chooses its kind of values by this variable.
    shared = tempfile.mkdtemp(prefix="evergreen-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared
    import uvicorn

    try:
        uvicorn.run(
            "serving.app:create_app", factory=True, host=parsed.host, port=parsed.port, workers=parsed.workers,
            log_level="warning", access_log=False, timeout_graceful_shutdown=20,
        )  # fmt: skip
    finally:
        shutil.rmtree(shared, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
