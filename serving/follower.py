"""Following the rollout: load beside the one that answers, prove the golden rows, report, swap.

One thread polls the database. Requests never wait for it: they read the route of their model, which is
replaced by a single assignment.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pipeline.errors import EvergreenError, OutsideFailure, PackageInvalid
from pipeline.package_files import read_package
from pipeline.rollout import Plan, Rollout, RolloutStore, ServerStatus, StagedState, Variant
from pipeline.settings import Settings
from serving.orders import Orders
from serving.routing import Route, Served, route_of

log = logging.getLogger("evergreen.serving")
POLL_SECONDS = 0.2
HEARTBEAT_SECONDS = 2.0
RETRY_SECONDS = 5.0


@dataclass
class _Model:
    """What this server knows of one model."""

    route: Route | None = None
    staged: tuple[int, tuple[Served, ...]] | None = None
    """Generation of the staged plan, and its variants, loaded and proven."""
    refused: int | None = None
    """Generation of a staged plan that could not be loaded."""
    problem: str = "no version is deployed yet"
    retry_at: float = 0.0
    lacks: str = ""
    """Why the challenger could not be loaded: the champion answers its users as well."""
    reload: bool = False
    """Whether an operator wants what answers loaded anew."""
    told: ServerStatus | None = None
    told_at: float = field(default=0.0)


class Follower:
    """Keeps the routes of one server process as the rollouts say."""

    def __init__(self, store: RolloutStore, settings: Settings, server_id: str, models: tuple[str, ...]) -> None:
        """`models`: names to serve; empty: every model that has been deployed."""
        self._store, self._settings, self._server_id, self._only = store, settings, server_id, models
        self._models: dict[str, _Model] = {name: _Model() for name in models}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self.database_problem: str | None = None
        self._pinned: frozenset[str] = frozenset()
        self._reloads = 0

    def obey(self, orders: Orders) -> None:
        """Carry out what an operator ordered; the next step does it."""
        for name in self._pinned - frozenset(orders.pinned):
            self._models[name].refused = None  # what was staged meanwhile may be proven now
        self._pinned = frozenset(orders.pinned)
        if orders.reloads > self._reloads:
            self._reloads = orders.reloads
            for model in self._models.values():
                model.reload = True

    def start(self) -> None:
        """Follow once, so that a deployed version answers at once, then go on in the background."""
        self._step()
        self._thread.start()

    def stop(self) -> None:
        """Stop, and tell deployments not to wait for this server."""
        self._stop.set()
        self._thread.join(timeout=10)
        try:
            self._store.forget(self._server_id)
        except OutsideFailure as error:
            log.warning("could not sign off: %s", error)

    def route(self, model: str) -> Route | None:
        """What answers for this model now."""
        known = self._models.get(model)
        return known.route if known else None

    def models(self) -> list[str]:
        """Names of the models served here."""
        return sorted(self._models)

    def problems(self) -> dict[str, str]:
        """Models that cannot answer, with the reason."""
        return {name: model.problem for name, model in self._models.items() if model.route is None}

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._step()

    def _step(self) -> None:
        try:
            rollouts = self._store.all()
            deployed = {name for name, rollout in rollouts.items() if rollout.active is not None}
            for name in self._only or tuple({*self._models, *deployed}):
                self._follow(name, rollouts.get(name) or Rollout(name))
            self.database_problem = None
        except OutsideFailure as error:  # what answers goes on answering; the next step tries again
            if self.database_problem is None:
                log.error("%s", error)
            self.database_problem = str(error)

    def _follow(self, name: str, rollout: Rollout) -> None:
        model = self._models.setdefault(name, _Model())
        if model.reload:
            self._reload(name, model)
        if name in self._pinned and model.route is not None:
            self._stay(model, rollout)
            self._report(name, model, rollout)
            return
        if rollout.active is not None and self._is_due(model, rollout):
            self._take(model, rollout, rollout.active)
        if rollout.staged is None:
            model.staged = None
        elif self._is_new(model, rollout.generation):
            self._prove(model, rollout.staged, rollout.generation)
        self._report(name, model, rollout)

    def _reload(self, name: str, model: _Model) -> None:
        """Load what answers anew; where that fails, the old goes on answering."""
        model.reload = False
        if model.route is None:
            return
        try:
            served = tuple(self._load(one.variant, {}) for one in model.route.served)
        except EvergreenError as error:
            log.error("%s cannot be loaded anew, what was loaded goes on answering: %s", name, error)
            return
        model.route = replace(model.route, served=served)
        log.warning("%s was loaded anew", name)

    @staticmethod
    def _stay(model: _Model, rollout: Rollout) -> None:
        """Pinned: refuse what is staged, and let what is active go past."""
        if rollout.staged is not None and model.refused != rollout.generation:
            model.refused, model.problem = rollout.generation, "an operator pinned this service to what it answers now"

    @staticmethod
    def _is_new(model: _Model, generation: int) -> bool:
        return (model.staged is None or model.staged[0] != generation) and model.refused != generation

    @staticmethod
    def _is_due(model: _Model, rollout: Rollout) -> bool:
        """Whether the active plan is another than what answers here, and the last failure to load it is a while ago."""
        behind = model.route is None or rollout.generation > model.route.generation or bool(model.lacks)
        return behind and time.monotonic() >= model.retry_at

    def _take(self, model: _Model, rollout: Rollout, plan: Plan) -> None:
        """Answer with the active plan: what is held already, such as what was staged for it, is not loaded again.

        A challenger that cannot be loaded leaves all users to the champion; it is tried again.
        """
        held = _held(model)
        champion, *others = plan.variants
        try:
            served = [self._load(champion, held)]
        except EvergreenError as error:
            model.problem, model.retry_at = str(error), time.monotonic() + RETRY_SECONDS
            log.error("%s", error)
            return
        model.lacks = ""
        for variant in others:
            try:
                served.append(self._load(variant, held))
            except EvergreenError as error:
                model.lacks, model.retry_at = str(error), time.monotonic() + RETRY_SECONDS
                log.error("%s answers without its challenger: %s", rollout.model, error)
        model.route = route_of(rollout.model, rollout.generation, plan, tuple(served))

    def _prove(self, model: _Model, plan: Plan, generation: int) -> None:
        held = _held(model)
        try:
            served = tuple(self._load(variant, held) for variant in plan.variants)
            model.staged, model.refused = (generation, served), None
        except EvergreenError as error:
            model.staged, model.refused, model.problem = None, generation, str(error)
            log.error("refused the staged plan: %s", error)

    def _load(self, variant: Variant, held: Mapping[str, Served]) -> Served:
        """A variant, loaded and proven; `held`, by digest, are loaded and proven already. Raises PackageInvalid."""
        known = held.get(variant.digest)
        if known is not None:
            return known if known.variant == variant else replace(known, variant=variant)
        folder = (self._settings.home / variant.package).resolve()
        if not folder.is_relative_to(self._settings.home.resolve()):
            raise PackageInvalid(f"{variant.package} lies outside of {self._settings.home}")
        package = read_package(folder)
        if package.digest != variant.digest:
            raise PackageInvalid(f"{folder} holds {package.digest}, the rollout names {variant.digest}")
        return Served(variant, package.predictor, package.manifest.form)

    def _report(self, name: str, model: _Model, rollout: Rollout) -> None:
        generation = model.route.generation if model.route else 0
        state: StagedState = "none"
        if rollout.staged is not None:
            generation = rollout.generation
            state = "failed" if model.refused == rollout.generation else "ready"
        version = model.route.served[0].variant.version if model.route else None
        detail = model.problem if state == "failed" or model.route is None else model.lacks
        status = ServerStatus(self._server_id, name, generation, state, version, detail)
        if status != model.told or time.monotonic() - model.told_at > HEARTBEAT_SECONDS:
            self._store.report(status)
            model.told, model.told_at = status, time.monotonic()


def _held(model: _Model) -> dict[str, Served]:
    """What is loaded and proven, by the digest of its package."""
    staged = model.staged[1] if model.staged else ()
    return {one.variant.digest: one for one in (*staged, *(model.route.served if model.route else ()))}
