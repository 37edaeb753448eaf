"""Stored outputs of stages: a folder named by what it depends on, written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.errors import OutsideFailure
from pipeline.records import Record
from pipeline.settings import Settings

R = TypeVar("R", bound=Record)
RECORD = "record.json"


@dataclass(frozen=True)
class Output:
    """The folder that a stage writes into, and the name it will have once it is whole."""

    folder: Path
    final: str

    def path(self, name: str) -> Path:
        """Where to write a file now."""
        return self.folder / name

    def named(self, name: str) -> str:
        """How the record calls that file: relative to the state folder."""
        return f"{self.final}/{name}"


def once(settings: Settings, stage: str, key: str, kind: type[R], make: Callable[[Output], R]) -> R:
    """The record stored under this key, made now if there is none.

    Two processes with one key: the second waits for the first and takes what it made. A process that
    is killed leaves a temporary folder, which the next one with the same key sweeps away.
    Raises OutsideFailure where the disk is full; whatever `make` raises passes through, nothing stays.
    """
    final = settings.store / stage / key
    record = final / RECORD
    if record.is_file():
        return kind.from_json(record.read_text(encoding="utf-8"))
    with disk_guard(final.parent):
        final.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(final.parent / f".{key}.lock"):
            if record.is_file():
                return kind.from_json(record.read_text(encoding="utf-8"))
            temporary = final.parent / f".{key}.part"
            for leftover in (temporary, final):
                shutil.rmtree(leftover, ignore_errors=True)
            temporary.mkdir()
            try:
                made = make(Output(temporary, settings.relative(final)))
                (temporary / RECORD).write_text(made.to_json() + "\n", encoding="utf-8")
                _sync(temporary)
                temporary.rename(final)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            return made


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """One process at a time; a killed one lets go by itself (flock)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def disk_guard(where: Path) -> Iterator[None]:
    """Turn a full or unwritable disk into an error that says where and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            raise OutsideFailure(
                f"the disk of {where} is full; free space or set EVERGREEN_HOME to another disk"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS):
            raise OutsideFailure(
                f"{where} cannot be written ({error.strerror}); set EVERGREEN_HOME elsewhere"
            ) from error
        raise


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
