"""Rows that wait together are scored together, and a model that fails is told and written down."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace

import numpy as np
import pytest

from pipeline.package_files import read_package
from pipeline.rollout import RolloutStore
from serving.answering import Answering, Refused
from serving.prediction_log import PredictionLog
from serving.routing import Served, route_of
from serving.shadow import Shadow
from serving.telemetry import Telemetry
from tests.predictions import logged
from tests.serving.live_service import deploy


class Counted:
    """The scorer of a model, counting its calls; it can be told to fail."""

    def __init__(self, scorer) -> None:
        self._scorer, self.sizes, self.failing = scorer, [], False

    def scores(self, table):
        self.sizes.append(len(next(iter(table.values()))))
        if self.failing:
            raise MemoryError("no more")
        return self._scorer.scores(table)


@pytest.fixture
def world(settings, monkeypatch):
    """A deployed model in this process, its answers and its log."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    deployed = deploy(settings, path="sklearn.neighbors.KNeighborsClassifier")
    rollout = RolloutStore(settings.database_url).get("churn")
    (variant,) = rollout.active.variants
    predictor = read_package(settings.home / variant.package).predictor
    counted = Counted(predictor.scorer)
    served = Served(variant, replace(predictor, scorer=counted), "skops")
    return deployed, counted, route_of("churn", rollout.generation, rollout.active, (served,)), settings


def ask(world, rows) -> list:
    """All of them in one turn of the loop; what each was answered, or refused with."""
    _, _, route, settings = world
    telemetry = Telemetry()

    async def turn() -> list:
        log = PredictionLog(settings.log, "server")
        log.start()
        shadow = Shadow(log, telemetry)
        answering = Answering(log, telemetry, shadow, strict=False)
        now = time.perf_counter()
        asked = [answering.one(route, route.choose(None), row, None, now, math.inf) for row in rows]
        found = await asyncio.gather(*asked, return_exceptions=True)
        answering.close()
        await asyncio.to_thread(log.stop)
        return found

    return asyncio.run(turn())


def test_rows_of_one_turn_are_one_call_of_the_model_and_each_gets_its_own_answer(world):
    deployed, counted, _, settings = world
    answers = ask(world, deployed.rows)
    assert counted.sizes == [len(deployed.rows)]
    assert [one.prediction for one in answers] == deployed.labels
    assert np.allclose([one.scores for one in answers], deployed.scores)
    assert {row["prediction_id"] for row in logged(settings.log)} == {one.prediction_id for one in answers}


def test_a_model_that_fails_is_told_to_all_who_wait_and_stands_in_the_log_without_a_prediction(world):
    deployed, counted, _, settings = world
    counted.failing = True
    answers = ask(world, deployed.rows[:3])
    assert [(type(one), one.status) for one in answers] == [(Refused, 500)] * 3
    rows = logged(settings.log)
    assert [row["prediction"] for row in rows] == ["null"] * 3
    assert sorted(str(row["features"]) for row in rows) == sorted(map(str, deployed.rows[:3]))
