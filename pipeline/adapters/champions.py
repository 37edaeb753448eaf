"""Who answers now, as the rollout says: read without MLflow, so that an unchanged run stays quick."""

from __future__ import annotations

from pipeline.rollout import RolloutStore, Variant
from pipeline.settings import Settings


def champion_of(model: str, settings: Settings) -> Variant | None:
    """The version that answers now; None before the first deployment."""
    with RolloutStore(settings.database_url) as store:
        rollout = store.get(model)
    return rollout.active.variants[0] if rollout.active else None


def judged_against(model: str, candidate: str, settings: Settings) -> str | None:
    """Path of the champion's package that a candidate is judged against; None where there is none.

    A candidate that is the champion already keeps the judgement that made it one: it is compared with
    the version that answered before it. `candidate` is the SHA-256 of its model file.
    """
    champion = champion_of(model, settings)
    if champion is None:
        return None
    return champion.judged_against if champion.model_digest == candidate else champion.package
