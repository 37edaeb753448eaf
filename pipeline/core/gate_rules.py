"""What a model file asks of a candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Mode = Literal["enabled", "dry_run", "disabled"]
Require = Literal["superiority", "non_inferiority"]


@dataclass(frozen=True)
class DeclaredSlice:
    """A slice that the model file names, and its own floors."""

    name: str | None
    where: Mapping[str, object]
    floors: Mapping[str, float]


@dataclass(frozen=True)
class GateRules:
    """What the model file asks of a candidate."""

    primary: str
    floors: Mapping[str, float]
    require: Require = "superiority"
    min_gain: float = 0.02
    """Superiority: share of the champion's error that has to go before a gain matters."""
    margin: float = 0.0
    """Non-inferiority: how much worse, in the primary metric, still counts as not worse."""
    confidence: float = 0.95
    resamples: int = 500
    seed: int = 0
    mode: Mode = "enabled"
    declared: tuple[DeclaredSlice, ...] = ()
    search_slices: bool = True
    slice_margin: float = 0.1
    """Share by which the loss on a slice may be above the champion's."""
    slice_min_rows: int = 100
