"""How the service is run, from the environment (prefix EVERGREEN_)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.errors import BadConfiguration
from pipeline.settings import MIN_SECRET_CHARACTERS, number_from


@dataclass(frozen=True)
class ServingSettings:
    """Limits of one worker process, and who may do what."""

    max_body_bytes: int = 8 << 20
    max_concurrency: int = 1024
    """Requests in one worker at once; beyond it 429."""
    key_hashes: tuple[str, ...] = ()
    """SHA-256 of the API keys; none: everybody may ask."""
    allow_override: bool = False
    """Whether X-Evergreen-Variant chooses the variant: for testers, not for the open."""
    admin_token: str | None = field(default=None, repr=False)
    """None: there is no /admin."""


def serving_settings(environ: Mapping[str, str] = os.environ) -> ServingSettings:
    """Read the environment. Raises BadConfiguration for a short token and for a limit that is no number.

    >>> serving_settings({"EVERGREEN_MAX_CONCURRENCY": "64"}).max_concurrency
    64
    """
    token = environ.get("EVERGREEN_ADMIN_TOKEN") or None
    if token is not None and len(token) < MIN_SECRET_CHARACTERS:
        raise BadConfiguration(
            f"EVERGREEN_ADMIN_TOKEN must have at least {MIN_SECRET_CHARACTERS} characters; "
            "make one with `openssl rand -hex 24`, or unset it to have no /admin"
        )
    return ServingSettings(
        max_body_bytes=int(number_from(environ, "EVERGREEN_MAX_BODY_BYTES", 8 << 20, minimum=1)),
        max_concurrency=int(number_from(environ, "EVERGREEN_MAX_CONCURRENCY", 1024, minimum=1)),
        key_hashes=tuple(one.strip() for one in environ.get("EVERGREEN_API_KEYS", "").split(",") if one.strip()),
        allow_override=environ.get("EVERGREEN_ALLOW_VARIANT_OVERRIDE", "") == "1",
        admin_token=token,
    )
