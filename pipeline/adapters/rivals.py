"""The version that a candidate is compared with, and the rows on which the comparison is fair."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from pipeline.adapters.champions import record_of, registered
from pipeline.adapters.duck import database, quoted, text
from pipeline.adapters.parts import hash_part
from pipeline.config import ModelConfig
from pipeline.core.wear import overlap
from pipeline.errors import NotEnoughData
from pipeline.ledger import Ledger
from pipeline.records import PrepareRecord, RegisterRecord
from pipeline.rollout import Variant
from pipeline.settings import Settings

Window = tuple[str | None, str | None]


@dataclass(frozen=True)
class Rival:
    """A registered version on the other side of a comparison."""

    register: RegisterRecord
    cutoff: datetime
    test_share: float
    parted_by: tuple[object, ...]
    """What its model file told its rows apart by: entity, event column, order."""

    @property
    def version(self) -> int:
        """Its number."""
        return self.register.version


def rival_of(model: str, candidate: str, champion: Variant | None, ledger: Ledger) -> Rival | None:
    """The version that a candidate is judged against; None where there is none.

    A candidate that is the champion already keeps the judgement that made it one: it is compared with
    the version that answered before it. `candidate` is the SHA-256 of its model file.
    """
    if champion is None:
        return None
    version = champion.judged_against if champion.model_digest == candidate else champion.version
    if version is None:
        return None
    line = registered(model, version, ledger)
    file = line.body["model_file"]
    time = file["time"] or {}
    parted_by = (tuple(file["entity"]), time.get("event"), time.get("order"))
    share = float(file["split"]["test_share"])
    return Rival(record_of(line), datetime.fromisoformat(line.body["cutoff"]), share, parted_by)


def scores_of(rival: Rival, frame: pd.DataFrame, classes: tuple[str, ...], settings: Settings) -> tuple[Any, float]:
    """The rival's scores of these rows, its classes in the candidate's order, and its threshold.

    Raises NotEnoughData where the rows lack a column that it needs, PackageInvalid where it is damaged.
    """
    from pipeline.package_files import read_package

    predictor = read_package(settings.home / rival.register.package).predictor
    names = [feature.name for feature in predictor.signature.features]
    missing = sorted(set(names) - set(frame.columns))
    if missing:
        raise NotEnoughData(
            f"the champion needs the column {missing[0]!r}, which the candidate's rows lack; "
            "keep it among the features until a champion without it answers"
        )
    scores = np.asarray(predictor.scores({name: frame[name].to_numpy() for name in names}))
    if predictor.signature.task == "regression":
        return scores, predictor.threshold
    own = [str(c) for c in predictor.signature.classes]
    aligned = np.zeros((len(scores), len(classes)))
    for column, name in enumerate(classes):
        if name in own:
            aligned[:, column] = scores[:, own.index(name)]
    return aligned, predictor.threshold


def unseen(prepare: PrepareRecord, rival: Rival, model: ModelConfig, settings: Settings) -> np.ndarray:
    """Which of the rows that judge the rival did not learn from: a mask of shape (n,).

    None of them where its model file told rows apart otherwise: which of them it saw cannot be known then.
    """
    time = model.time
    if rival.parted_by != (model.entity, time.event if time else None, time.order if time else None):
        return np.zeros(prepare.test_rows, dtype=bool)
    test = settings.home / prepare.test
    theirs = rival.register.evaluate.train.prepare
    if model.time and model.time.event and theirs.train_until is not None:
        events = pd.to_datetime(pq.read_table(test, columns=[model.time.event]).column(0).to_pandas(), utc=True)
        return np.asarray(events >= pd.Timestamp(theirs.train_until))
    if model.time and model.time.order:
        first = prepare.train_rows + prepare.embargoed_rows
        return np.asarray(first + np.arange(prepare.test_rows) >= theirs.train_rows)
    return _hashed(test, rival.test_share, model, settings)


def _hashed(test: Path, test_share: float, model: ModelConfig, settings: Settings) -> np.ndarray:
    part = hash_part(model, test_share)
    with database(test.parent, settings.threads) as db:
        rows = db.execute(
            f"SELECT {part} = 'test' FROM read_parquet({text(str(test))}, file_row_number=true) "
            f"ORDER BY {quoted('file_row_number')}"
        ).fetchall()
    return np.array([row[0] for row in rows], dtype=bool)


def shares_judged(model: str, candidate: str, window: Window, ledger: Ledger) -> list[float]:
    """For every other candidate that was compared before this one, the share of its rows that are in this window."""
    seen: dict[str, float] = {}
    for line in ledger.lines(model, "verdict"):
        if not line.body["compared_with"]:
            continue
        if line.body["candidate"] == candidate:
            break
        share = overlap(window, (line.body["window"][0], line.body["window"][1]))
        seen[line.body["candidate"]] = max(share, seen.get(line.body["candidate"], 0.0))
    return list(seen.values())
