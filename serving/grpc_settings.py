"""Where the gRPC door is: told to the workers by one variable, so that those without it never load grpc."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass

VARIABLE = "EVERGREEN_GRPC"


@dataclass(frozen=True)
class GrpcSettings:
    """Where to listen, and how."""

    address: str
    """HOST:PORT."""
    shared: bool = False
    """Whether several workers listen on it; the kernel shares out the connections."""
    certificate: str | None = None
    private_key: str | None = None

    def to_text(self) -> str:
        """For the variable."""
        return json.dumps(asdict(self))


def grpc_settings(environ: Mapping[str, str] = os.environ) -> GrpcSettings | None:
    """None: the door is off.

    >>> grpc_settings({VARIABLE: GrpcSettings("127.0.0.1:8001").to_text()}).address
    '127.0.0.1:8001'
    """
    text = environ.get(VARIABLE)
    return GrpcSettings(**json.loads(text)) if text else None
