"""`python -m serving`: the online service of the deployed models."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence

from serving.grpc_settings import VARIABLE, GrpcSettings
from serving.log_keeper import KeptKeeper


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
    parser.add_argument(
        "--trust-proxy", action="append", default=[], metavar="ADDRESS",
        help="believe the forwarded headers of this proxy; may be given again (default: of none)",
    )  # fmt: skip
    parser.add_argument(
        "--grpc-port", type=int, metavar="PORT", help="serve the Open Inference Protocol over gRPC there (default: not)"
    )
    parser.add_argument("--certificate", metavar="FILE", help="serve TLS with this certificate, and --private-key")
    parser.add_argument("--private-key", metavar="FILE", help="key of the certificate")
    parsed = parser.parse_args(arguments)
    if (parsed.certificate is None) != (parsed.private_key is None):
        parser.error("give both --certificate and --private-key, or neither")
    if parsed.workers < 1:
        parser.error("--workers must be at least 1")
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # workers share the processors; threads of one would stop the others
    os.environ["EVERGREEN_SERVE_MODELS"] = ",".join(parsed.model)
    os.environ.pop(VARIABLE, None)
    if parsed.grpc_port is not None:
        os.environ[VARIABLE] = GrpcSettings(
            f"{parsed.host}:{parsed.grpc_port}", parsed.workers > 1, parsed.certificate, parsed.private_key
        ).to_text()
    # Before prometheus_client is imported: it chooses its kind of values by this variable.
    shared = tempfile.mkdtemp(prefix="evergreen-service-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ["EVERGREEN_SERVICE_FOLDER"] = shared
    import uvicorn

    from serving.quick_http import QuickHttp

    # uvicorn, when it has ended, raises the signal that ended it once more: what stands below must run all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    keeper = KeptKeeper()
    try:
        uvicorn.run(
            "serving.app:create_app", factory=True, host=parsed.host, port=parsed.port, workers=parsed.workers,
            log_level="warning", access_log=False, http=QuickHttp, server_header=False, timeout_graceful_shutdown=20,
            proxy_headers=bool(parsed.trust_proxy), forwarded_allow_ips=parsed.trust_proxy or None,
            ssl_certfile=parsed.certificate, ssl_keyfile=parsed.private_key,
        )  # fmt: skip
    finally:
        keeper.stop()
        shutil.rmtree(shared, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
