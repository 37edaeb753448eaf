"""What an operator orders of this service, told to all its workers by one small file.

A request reaches one worker; the order is for all of them, and for those that are started later.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Orders:
    """All that is ordered; nothing, when the service starts."""

    log_level: str = "INFO"
    reloads: int = 0
    """How often everything was to be loaded anew."""
    pinned: tuple[str, ...] = ()
    """Models that stay with what answers now, whatever is deployed."""


class OrderFile:
    """The file, in a folder that the workers of one service share."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "orders.json"

    @classmethod
    def of_service(cls) -> OrderFile:
        """The file of this service; `python -m serving` says where, else it is this process's own."""
        folder = os.environ.get("EVERGREEN_SERVICE_FOLDER")
        return cls(Path(folder) if folder else Path(tempfile.mkdtemp(prefix="evergreen-service-")))

    def read(self) -> Orders:
        """What is ordered now."""
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Orders()
        return Orders(content["log_level"], content["reloads"], tuple(content["pinned"]))

    def change(self, **values: Any) -> Orders:
        """Order something else too; written whole or not at all."""
        orders = replace(self.read(), **values)
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(asdict(orders)), encoding="utf-8")
        temporary.replace(self._path)
        return orders
