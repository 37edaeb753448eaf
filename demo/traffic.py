"""Customers of the demo world who ask a service, and tell it afterwards what became of them."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import requests

from demo.world import FEATURES, World, reviews

CALLERS = 4


def send(address: str, world: World, days: Iterable[int]) -> int:
    """Everybody of these days asks once, and their label comes at once. How many they were.

    Raises requests.HTTPError where one is not answered.
    """
    frames = [reviews(world, day) for day in days]
    with ThreadPoolExecutor(CALLERS) as callers:
        parts = [frame.iloc[start::CALLERS] for frame in frames for start in range(CALLERS)]
        return sum(callers.map(lambda part: _ask(address, part), parts))


def _ask(address: str, frame: pd.DataFrame) -> int:
    with requests.Session() as session:
        session.trust_env = False  # no proxy stands between us and this machine
        for row in frame.to_dict("records"):
            features: dict[str, Any] = {name: row[name] for name in FEATURES}
            answer = _post(session, f"{address}/predict", {"features": features, "user_id": row["customer_id"]})
            _post(session, f"{address}/feedback",
                  {"prediction_id": answer["prediction_id"], "actual": int(row["churned"])})  # fmt: skip
    return len(frame)


def _post(session: requests.Session, url: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = session.post(url, json=body, timeout=10)
    answer.raise_for_status()
    content: dict[str, Any] = answer.json()
    return content
