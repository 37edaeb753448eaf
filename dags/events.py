"""The asset event by which drift detection asks for a decision, and what a run reads from those that started it.

No DAG in here, and nothing of Airflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def decision_due(model_name: str) -> str:
    """Name of the asset whose events say that a decision about retraining is due."""
    return f"evergreen_decision_due_{model_name}"


def counted(extras: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What the events carry, without those of backfills: nobody acts on the past."""
    return [extra for extra in extras if extra.get("run_kind") != "backfill"]


def newest_cutoff(extras: Sequence[Mapping[str, Any]]) -> str | None:
    """The newest cut-off of several events, which may have been merged into one run; None where none carries one.

    Raises BadConfiguration for a cut-off that is no instant.
    """
    from pipeline.context import parse_instant

    cutoffs = [parse_instant(str(extra["cutoff"])) for extra in extras if extra.get("cutoff")]
    return max(cutoffs).isoformat() if cutoffs else None
