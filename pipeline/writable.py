"""Folders that are to be written into: proved before the work, not after it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipeline.errors import BadConfiguration


def prove_writable(folder: Path, flag: str) -> None:
    """Make the folder, and write into it once. Raises BadConfiguration, which names the flag, where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadConfiguration(f"{flag}: cannot write into {folder}: {error.strerror}; name another one") from None
