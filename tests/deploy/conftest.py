"""One live chain for all tests of this folder: starting it is most of their time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy.live import Live, live, missing_programs


@pytest.fixture(scope="session")
def chain(tmp_path_factory) -> Iterator[Live]:
    """Service, Prometheus, Alertmanager and receiver, running."""
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)} (Debian packages prometheus and prometheus-alertmanager)")
    with live(tmp_path_factory.mktemp("chain")) as world:
        yield world
