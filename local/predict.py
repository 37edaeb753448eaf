"""One prediction asked over HTTP, to see the deployed model answer."""

from __future__ import annotations

import json
import time

import requests
from rich.console import Console

from pipeline.adapters.champions import champion_of
from pipeline.errors import OutsideFailure
from pipeline.package_files import read_golden
from pipeline.settings import Settings


def ask_once(address: str, model: str, settings: Settings, console: Console, patience_seconds: float = 20) -> None:
    """Ask the first golden row of the champion, and show question and answer."""
    champion = champion_of(model, settings)
    assert champion is not None
    row = read_golden(settings.home / champion.package)[0][0]
    url = f"{address}/models/{model}/predict"
    session = requests.Session()
    session.trust_env = False  # no proxy stands between us and this machine
    end = time.monotonic() + patience_seconds
    while True:
        answer = session.post(url, json={"features": row}, timeout=10)
        if answer.status_code == 200:
            break
        if time.monotonic() > end:
            raise OutsideFailure(f"{url} answered {answer.status_code}: {answer.text[:500]}")
        time.sleep(0.2)
    console.print(f"POST {url}\n  {json.dumps({'features': row})}\n  {answer.text}", markup=False, highlight=False)
