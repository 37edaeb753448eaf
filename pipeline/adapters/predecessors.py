"""The champion before the champion, on rows that are fresh to both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.adapters.champion_reference import ChampionReference
from pipeline.adapters.champions import record_of, registered
from pipeline.adapters.day_sketches import score
from pipeline.adapters.met_rows import MetRows, unseen
from pipeline.adapters.registry import before
from pipeline.config import ModelConfig
from pipeline.core.paired import difference
from pipeline.core.verdict import Difference
from pipeline.ledger import MOVES, Ledger
from pipeline.package_files import read_package
from pipeline.settings import Settings


def against_predecessor(
    rows: MetRows, champion: ChampionReference, model: ModelConfig, settings: Settings
) -> tuple[int, Difference] | None:
    """Version of the predecessor, and how much better it is on labelled rows that neither has seen.

    None where there is none, where it needs a column that the rows lack, or where too few labels are known.
    """
    with Ledger(settings.database_url) as ledger:
        moves = [m for m in ledger.lines(model.name, *MOVES) if m.instant <= champion.since]
        version = before(moves)
        if version is None:
            return None
        predecessor = record_of(registered(model.name, version, ledger))
    fresh = unseen(rows, [champion.register, predecessor])
    known = fresh.known & (fresh.actual >= 0 if fresh.actual.dtype.kind == "i" else np.isfinite(fresh.actual))
    fresh = fresh.only(known)
    few = len(fresh.table) < model.monitoring.min_rows
    if few or (model.task == "binary" and len(np.unique(fresh.actual)) < 2):
        return None
    predictor = read_package(settings.home / predecessor.package).predictor
    names = [feature.name for feature in predictor.signature.features]
    if not set(names) <= set(fresh.features) or predictor.signature.classes != champion.predictor.signature.classes:
        return None
    theirs = score(predictor, fresh.table[names])
    judged = replace(fresh.judged(champion), threshold=predictor.threshold)
    return version, difference(
        judged, champion.register.evaluate.primary, theirs, fresh.scores, confidence=model.gate.confidence,
        resamples=model.gate.resamples, rng=np.random.default_rng(model.training.seed),
    )  # fmt: skip
