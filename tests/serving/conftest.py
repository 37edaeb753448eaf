"""Models and servers that the tests of the service share: made once, as each takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.settings import Settings, load_settings
from tests.serving.live_service import Deployed, deploy, free_port, serving


def home(folder: Path) -> Settings:
    """An installation in this folder."""
    return load_settings({"EVERGREEN_HOME": str(folder / "home"), "EVERGREEN_MODELS": str(folder / "models")})


@dataclass(frozen=True)
class Live:
    """A server that answers for one model."""

    address: str
    grpc: str
    """HOST:PORT."""
    model: Deployed


@pytest.fixture(scope="session")
def churn(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """Gradient boosting over two numbers and a text; it answers 0 or 1."""
    return deploy(home(tmp_path_factory.mktemp("churn")))


@pytest.fixture(scope="session")
def live(churn: Deployed) -> Iterator[Live]:
    """A server of it with every door."""
    port = free_port()
    with serving(churn.settings, "--grpc-port", str(port)) as address:
        yield Live(address, f"127.0.0.1:{port}", churn)
