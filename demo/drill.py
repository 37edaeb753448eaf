"""The drill: the demo world happens to a real installation of its own, and the loop has to keep its model true.

Drift comes, is seen, and is waited out until there are labels to learn it from; the retrained model passes the gate,
answers in the shadow, then a part of the users, then everybody. A bad model is stopped at the gate; let past it, it is
rolled back in its canary; forced past that too, it is rolled back by what it realised. A broken sensor opens the
breaker. Each milestone is checked, and timed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
import yaml

from demo.calendar import BLIND_SENSOR, PRICE_RISE
from demo.files import generate
from demo.traffic import send
from demo.world import World
from local.processes import free_port
from pipeline.adapters.registry import Registry
from pipeline.config import ModelConfig, load_model, override
from pipeline.context import RunContext
from pipeline.ledger import Ledger
from pipeline.monitoring_records import DecideRetrainingRecord
from pipeline.package_files import read_golden
from pipeline.records import DeployRecord, Record
from pipeline.settings import Settings, load_settings
from pipeline.stages import MONITORING, STAGES, run_stage
from pipeline.stages.judge_rollout import judge_rollout
from pipeline.watch import act

REPOSITORY = Path(__file__).resolve().parents[1]
NAME = "churn"
WORLD = World(days=610, reviews_a_day=200)
ROLLOUT = {
    "strategy": "canary", "shares": [0, 0.3], "metric": "brier_score_loss", "margin": 0.1, "min_hours": 0,
    "min_requests": 50,
}  # fmt: skip
CHANGES: dict[str, Any] = {"split.test_days": 20, "split.train_days": 90, "deployment.rollout": ROLLOUT}
"""A model that can follow a change within months: it learns from 90 days, and 20 days judge. It meets the users in the
shadow first, then three in ten of them."""
BAD = {"training.parameters": {"max_iter": 1, "max_leaf_nodes": 2, "learning_rate": 0.01}}
"""One split of one tree."""
START_SECONDS = 60
FOLLOW_SECONDS = 5.0
FRESH_SECONDS = 6.0
"""The first seconds of a step do not count: servers take it one after the other."""
MOST_DAYS = 40
"""Of traffic, for one trial."""


class Failed(Exception):
    """The loop did not do what it promises."""


@dataclass
class Drill:
    """An installation in a folder of its own, and what has happened to it."""

    folder: Path
    say: Callable[[str], None]
    settings: Settings = field(init=False)
    model: ModelConfig = field(init=False)
    address: str = field(init=False)
    milestones: list[tuple[str, str, float]] = field(default_factory=list)

    def prepare(self) -> None:
        """The world, and a model file over it."""
        generate(WORLD, self.folder / "data", lambda _done, _total: None)
        content = yaml.safe_load((REPOSITORY / "models" / f"{NAME}.yaml").read_text(encoding="utf-8"))
        content["source"]["path"] = str(self.folder / "data" / "churn")
        models = self.folder / "models"
        models.mkdir(exist_ok=True)
        (models / f"{NAME}.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        self.settings = load_settings({"EVERGREEN_HOME": str(self.folder / "home"), "EVERGREEN_MODELS": str(models)})
        self.model = override(load_model(NAME, models), CHANGES)

    def train(self, at: date, changes: dict[str, Any] | None = None) -> DeployRecord:
        """The whole chain at a cut-off."""
        record: Record | None = None
        for stage in STAGES:
            record = run_stage(stage, override(self.model, changes or {}), self._context(at), self.settings, record)
        assert isinstance(record, DeployRecord)
        return record

    def watch(self, at: date) -> DecideRetrainingRecord:
        """The monitors and the decision at a cut-off."""
        record: Record | None = None
        for stage in MONITORING:
            record = run_stage(stage, self.model, self._context(at), self.settings, record)
        assert isinstance(record, DecideRetrainingRecord)
        return record

    def act(self, decision: DecideRetrainingRecord, at: date) -> str:
        """Do what was decided."""
        return act(decision, self.model, self._context(at), self.settings)

    def try_out(self, first_day: date) -> tuple[str, list[str]]:
        """Customers ask and tell, day by day, and the trial is judged after each, until it ends.

        How it ended, and what was judged on the way.
        """
        told: list[str] = []
        start = (first_day - WORLD.start).days
        time.sleep(FRESH_SECONDS)
        for day in range(start, start + MOST_DAYS):
            send(self.address, WORLD, [day])
            verdict = judge_rollout(self.model, RunContext(NAME, datetime.now(UTC), f"trial {day}", "manual"),
                                    self.settings)  # fmt: skip
            if verdict.decision == "hold":
                continue
            told.append(f"{verdict.done} (after {day - start + 1} days: {verdict.reasons[0]})")
            if verdict.decision != "advance":
                return verdict.decision, told
            time.sleep(FRESH_SECONDS)
        raise Failed(f"the trial did not end within {MOST_DAYS} days: {'; '.join(verdict.reasons)}")

    def is_answered_by(self, version: int) -> bool:
        """Whether the service answers with this version; it follows what was decided within seconds."""
        end = time.monotonic() + FOLLOW_SECONDS
        while self._answered_by() != version:
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def _answered_by(self) -> int:
        package = self.registry.get("champion").record.package
        row = read_golden(self.settings.home / package)[0][0]
        session = requests.Session()
        session.trust_env = False  # no proxy stands between us and this machine
        answer = session.post(f"{self.address}/predict", json={"features": row}, timeout=10)
        answer.raise_for_status()
        return int(answer.json()["model_version"])

    @property
    def registry(self) -> Registry:
        """Its versions."""
        return Registry(NAME, self.settings)

    @contextmanager
    def service(self) -> Iterator[None]:
        """The real service, for as long as the drill takes."""
        port = free_port(8000, ())
        self.address = f"http://127.0.0.1:{port}"
        environ = {"EVERGREEN_HOME": str(self.settings.home), "EVERGREEN_MODELS": str(self.settings.models_dir)}
        log = (self.folder / "serving.log").open("wb")
        process = subprocess.Popen([sys.executable, "-m", "serving", "--port", str(port)], cwd=REPOSITORY, stdout=log,
                                   stderr=log, env={**_environment(), **environ})  # fmt: skip
        try:
            self._wait(process)
            yield
        finally:
            process.terminate()
            process.wait(30)
            log.close()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_SECONDS
        with requests.Session() as session:
            session.trust_env = False
            while True:
                try:
                    if session.get(f"{self.address}/ready", timeout=5).status_code == 200:
                        return
                except requests.ConnectionError:
                    pass
                if process.poll() is not None or time.monotonic() > end:
                    raise Failed(f"the service did not become ready; see {self.folder / 'serving.log'}")
                time.sleep(0.1)

    def _context(self, at: date) -> RunContext:
        return RunContext(NAME, datetime(at.year, at.month, at.day, tzinfo=UTC), f"drill {at}", "manual")

    @contextmanager
    def milestone(self, name: str) -> Iterator[list[str]]:
        """One thing that has to come true; what is appended to the list is told with it."""
        self.say(f"{name} ...")
        started, told = time.perf_counter(), list[str]()
        yield told
        seconds = time.perf_counter() - started
        self.milestones.append((name, "; ".join(told), seconds))
        self.say(f"{name}: {'; '.join(told)} ({seconds:.1f} s)")


def run(folder: Path, say: Callable[[str], None]) -> list[tuple[str, str, float]]:
    """All milestones in order: name, what was seen, seconds. Raises Failed at the first that does not come true."""
    drill = Drill(folder, say)
    rise, blind = _day(PRICE_RISE.start_day), _day(BLIND_SENSOR.start_day)
    with drill.milestone("the world is made") as told:
        drill.prepare()
        told.append(f"{WORLD.days} days from {WORLD.start}, {WORLD.reviews_a_day} reviews a day")
    with drill.milestone("a first champion is trained and judged") as told:
        first = drill.train(rise - timedelta(days=16))
        _must(first.status == "deployed", first.reason)
        told.append("; ".join(first.register.evaluate.verdict.reasons[-1:]))
    with drill.service():
        _keep_true(drill, rise, blind)
    with drill.milestone("the ledger holds") as told, Ledger(drill.settings.database_url) as ledger:
        _must(not list(ledger.faults()), "a line of the ledger does not hold")
        told.append(f"{ledger.count()} lines, every seal holds")
    return drill.milestones


def _keep_true(drill: Drill, rise: date, blind: date) -> None:
    with drill.milestone("it answers") as told:
        _must(drill.is_answered_by(1), "another version answers")
        told.append("version 1")
    with drill.milestone("drift is seen") as told:
        decision = drill.watch(rise + timedelta(days=10))
        alarms = [a for a in decision.performance.drift.alarms if a.level == "confirmed"]
        _must(any("monthly_charge" in a.subject for a in alarms), f"no alarm: {decision.reasons}")
        _must(decision.action == "nothing", f"decided too early: {decision.action}")
        told += [f"{a.subject} since {a.since}: {a.told}" for a in alarms[:2]] + [decision.reasons[0]]
    with drill.milestone("it retrains by itself and passes the gate") as told:
        at = rise + timedelta(days=120)
        decision = drill.watch(at)
        _must(decision.action == "retrain", f"decided {decision.action}: {decision.reasons}")
        told += [decision.reasons[0], drill.act(decision, at)]
    with drill.milestone("in the shadow, then in a canary, it holds; it is promoted and answers") as told:
        ended, steps = drill.try_out(at)
        _must(ended == "promote" and drill.is_answered_by(2), f"{ended}: {steps}")
        told += steps
    with drill.milestone("a bad model is stopped at the gate") as told:
        at = rise + timedelta(days=135)
        bad = drill.train(at, BAD)
        _must(bad.status == "refused" and drill.is_answered_by(2), f"{bad.status}: {bad.reason}")
        told.append(bad.reason)
    with drill.milestone("let past the gate, it is rolled back in its canary") as told:
        trial = drill.train(at, {**BAD, "gate.mode": "disabled", "deployment.rollout": {**ROLLOUT, "shares": [0.3]}})
        _must(trial.status == "on_trial", f"{trial.status}: {trial.reason}")
        ended, steps = drill.try_out(at)
        _must(ended == "roll_back" and drill.is_answered_by(2), f"{ended}: {steps}")
        told += steps
    with drill.milestone("forced past everything, it is rolled back by what it realised") as told:
        drill.registry.promote(bad.register.version, by="drill", reason="to see what happens", overrule=True)
        _must(drill.is_answered_by(bad.register.version), "it does not answer")
        at = rise + timedelta(days=140)
        decision = drill.watch(at)
        _must(decision.action == "roll back", f"decided {decision.action}: {decision.reasons}")
        told += [decision.reasons[0], drill.act(decision, at)]
        _must(drill.is_answered_by(2), "the champion before it does not answer")
    with drill.milestone("a broken sensor opens the breaker") as told:
        decision = drill.watch(blind + timedelta(days=6))
        _must(decision.action == "call a person" and decision.breaker == "open",
              f"decided {decision.action}, breaker {decision.breaker}: {decision.reasons}")  # fmt: skip
        told.append(decision.reasons[0])


def main(folder: Path | None, say: Callable[[str], None]) -> list[tuple[str, str, float]]:
    """The drill in `folder`, which is kept; without one in a folder that is removed afterwards."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        return run(folder.absolute(), say)
    with tempfile.TemporaryDirectory(prefix="evergreen-drill-") as temporary:
        return run(Path(temporary), say)


def _must(holds: bool, why: str) -> None:
    if not holds:
        raise Failed(why)


def _day(number: int) -> date:
    return WORLD.start + timedelta(days=number)


def _environment() -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if not name.startswith("EVERGREEN_")}
