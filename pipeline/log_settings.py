"""How the prediction log is written and where it lies: EVERGREEN_LOG_* and EVERGREEN_STORAGE_* of the environment."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

from pipeline.errors import BadConfiguration

Mode = Literal["fast", "strict"]
OnFailure = Literal["refuse", "answer"]
MIB = 1024 * 1024
DEFAULT_LOCAL_BYTES = 4 * 1024 * MIB
"""Journals that may wait for a store: half an hour of 5,000 answers a second of 500 bytes."""


@dataclass(frozen=True)
class LogSettings:
    """The prediction log of one installation."""

    folder: Path
    """Local: journals in `journal/`, what was lost in `losses/`, and the files themselves where there is no store."""
    storage_url: str | None = None
    """s3://BUCKET[/PREFIX], or a path; None: beside the journals."""
    storage_endpoint_url: str | None = None
    """Of an S3-compatible store."""
    mode: Mode = "fast"
    """strict: an answer is sent once it is on the disk. fast: a killed server loses what it answered last."""
    fast_milliseconds: float = 50
    """How much that is."""
    on_failure: OnFailure = "answer"
    """Where the log cannot be written: refuse requests, or answer them and count what is missing."""
    max_local_bytes: int = DEFAULT_LOCAL_BYTES
    """Journals that wait for a dead store; beyond it the log cannot be written."""
    retain_days: int | None = None
    """Older days are deleted; None keeps them for ever."""
    segment_bytes: int = 16 * MIB
    segment_seconds: float = 10
    """A journal is closed at this size or age, and then becomes Parquet."""

    @property
    def journal(self) -> Path:
        """Where servers append."""
        return self.folder / "journal"

    @property
    def losses(self) -> Path:
        """The ledger of lost answers, a file for each server that lost some."""
        return self.folder / "losses"


def log_settings(environ: MutableMapping[str, str] = os.environ, folder: Path | None = None) -> LogSettings:
    """Read the environment. `folder`: the local one, where it is known already.

    Raises BadConfiguration for a mode, policy, number or address that is none.

    >>> log_settings({"EVERGREEN_HOME": "/srv/evergreen", "EVERGREEN_LOG_MODE": "strict"}).on_failure
    'refuse'
    >>> log_settings({"EVERGREEN_LOG_MODE": "slow"})
    Traceback (most recent call last):
    ...
    pipeline.errors.BadConfiguration: EVERGREEN_LOG_MODE=slow is none of fast, strict
    """
    mode = _one_of(environ, "EVERGREEN_LOG_MODE", ("fast", "strict"), "fast")
    on_failure = _one_of(
        environ, "EVERGREEN_LOG_ON_FAILURE", ("refuse", "answer"), "refuse" if mode == "strict" else "answer"
    )
    url, endpoint = storage(environ)
    retain = environ.get("EVERGREEN_LOG_RETAIN_DAYS")
    return LogSettings(
        folder=folder or Path(environ.get("EVERGREEN_HOME", ".evergreen")).absolute() / "predictions",
        storage_url=url,
        storage_endpoint_url=endpoint,
        mode=cast(Mode, mode),
        fast_milliseconds=_number(environ, "EVERGREEN_LOG_FAST_MILLISECONDS", 50, 1, 10_000),
        on_failure=cast(OnFailure, on_failure),
        max_local_bytes=int(_number(environ, "EVERGREEN_LOG_MAX_LOCAL_BYTES", DEFAULT_LOCAL_BYTES, MIB, 2**60)),
        retain_days=None if not retain else int(_number(environ, "EVERGREEN_LOG_RETAIN_DAYS", 0, 1, 100_000)),
        segment_seconds=_number(environ, "EVERGREEN_LOG_SEGMENT_SECONDS", 10, 0.1, 3600),
    )


def storage(environ: MutableMapping[str, str]) -> tuple[str | None, str | None]:
    """Address and endpoint of the store. Raises BadConfiguration.

    >>> storage({"EVERGREEN_STORAGE_URL": "s3://logs/evergreen/"})
    ('s3://logs/evergreen', None)
    >>> storage({"EVERGREEN_STORAGE_URL": "ftp://logs"})
    Traceback (most recent call last):
    ...
    pipeline.errors.BadConfiguration: EVERGREEN_STORAGE_URL=ftp://logs is neither s3://BUCKET[/PREFIX] nor a path
    """
    url = (environ.get("EVERGREEN_STORAGE_URL") or "").rstrip("/") or None
    endpoint = (environ.get("EVERGREEN_STORAGE_ENDPOINT_URL") or "").rstrip("/") or None
    if url is not None:
        parts = urlsplit(url)
        if parts.scheme not in ("s3", "file", "") or (parts.scheme == "s3" and not parts.netloc):
            raise BadConfiguration(f"EVERGREEN_STORAGE_URL={url} is neither s3://BUCKET[/PREFIX] nor a path")
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise BadConfiguration(f"EVERGREEN_STORAGE_ENDPOINT_URL={endpoint} is not an http or https address")
    return url, endpoint


def _one_of(environ: MutableMapping[str, str], name: str, known: tuple[str, ...], default: str) -> str:
    value = environ.get(name) or default
    if value not in known:
        raise BadConfiguration(f"{name}={value} is none of {', '.join(known)}")
    return value


def _number(environ: MutableMapping[str, str], name: str, default: float, minimum: float, maximum: float) -> float:
    text = environ.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise BadConfiguration(f"{name}={text!r} is not a number; unset it for the default {default:g}") from None
    if not minimum <= value <= maximum:
        raise BadConfiguration(f"{name}={text} must be from {minimum:g} to {maximum:g}")
    return value
