"""What all doors share: who answers, how, and what is written down."""

from __future__ import annotations

import os
import socket
import time
import uuid
from dataclasses import dataclass
from typing import Any

from pipeline.gauges import GaugeStore
from pipeline.log_losses import recovered_losses
from pipeline.log_settings import LogSettings, log_settings
from pipeline.rollout import RolloutStore
from pipeline.settings import Settings
from serving.answering import Answering, Refused
from serving.follower import Follower
from serving.front import Call
from serving.log_keeper import keeper_status
from serving.prediction_log import PredictionLog
from serving.protocols import MAX_USER_ID
from serving.routing import Route, Served
from serving.serving_settings import ServingSettings
from serving.shadow import Shadow
from serving.telemetry import MonitorCollector, Telemetry

OVERRIDE = b"x-evergreen-variant"
"""Testers choose their variant by it, where that is switched on."""
USER_ID = b"x-user-id"


@dataclass(frozen=True)
class Service:
    """One server process."""

    follower: Follower
    answering: Answering
    log: PredictionLog
    telemetry: Telemetry
    store: RolloutStore
    gauges: GaugeStore
    logging_to: LogSettings
    allow_override: bool = False

    @classmethod
    def of(cls, settings: Settings, limits: ServingSettings, models: tuple[str, ...] | None = None) -> Service:
        """The parts of one process; nothing is started yet. `models`: names; left out, as the environment says."""
        if models is None:
            models = tuple(name for name in os.environ.get("EVERGREEN_SERVE_MODELS", "").split(",") if name)
        server_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        store, gauges = RolloutStore(settings.database_url), GaugeStore(settings.database_url)
        logging_to = log_settings(folder=settings.predictions)
        prediction_log, telemetry = PredictionLog(logging_to, server_id), Telemetry(MonitorCollector(gauges))
        shadow = Shadow(prediction_log, telemetry)
        return cls(
            Follower(store, settings, server_id, models),
            Answering(prediction_log, telemetry, shadow, strict=logging_to.mode == "strict"),
            prediction_log, telemetry, store, gauges, logging_to, limits.allow_override,
        )  # fmt: skip

    def close(self) -> None:
        """Let go of the databases."""
        self.store.close()
        self.gauges.close()

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Whether every model answers with proven golden rows, and with what."""
        routes = {name: self.follower.route(name) for name in self.follower.models()}
        problems = dict(self.follower.problems())
        if not routes:
            problems[""] = "no model is deployed yet"
        if not self.log.accepting:
            problems["prediction log"] = str(self.log.problem)
        return not problems, {
            "status": "not ready" if problems else "ready",
            "models": {
                name: {"generation": route.generation, "version": route.served[0].variant.version,
                       "digest": route.served[0].variant.digest, "form": route.served[0].form}
                for name, route in routes.items() if route is not None
            },
            "problems": problems,
        }  # fmt: skip

    def tell(self) -> None:
        """Bring the metrics up to date with what this process is at."""
        routes = {name: self.follower.route(name) for name in self.follower.models()}
        self.telemetry.tell(
            {name: None if route is None else route.generation for name, route in routes.items()}, self.log.lost
        )
        self.telemetry.tell_log(keeper_status(self.logging_to, time.time()), recovered_losses(self.logging_to))
        for name, route in routes.items():
            if route is None:
                continue
            challenger = route.challenger
            self.telemetry.tell_trial(name, challenger.variant.version if challenger else 0, route.share)
            for served in route.served:
                self.telemetry.tell_odd(name, *served.predictor.reader.take_odd())

    def route(self, model: str | None) -> Route:
        """What answers for a model; for the only one, where none is named. Raises Refused."""
        name = self._only() if model is None else model
        route = self.follower.route(name)
        if route is not None:
            self.answering.unavailable()
            return route
        known = self.follower.models()
        if name in known:
            raise Refused(503, f"{name} is not ready: {self.follower.problems().get(name, 'loading')}", 1)
        raise Refused(404, f"no model {name[:64]!r}; served here: {', '.join(known) or 'none'}")

    def served(self, route: Route, user_id: str | None, variant: bytes | None = None) -> Served:
        """The variant for this user; the one that the override header names, where it may. Raises Refused."""
        if variant is None or not self.allow_override:
            return route.choose(user_id)
        found = route.named(variant.decode("latin-1"))
        if found is None:
            raise Refused(404, f"no variant {variant[:64].decode('latin-1')!r} answers for {route.model}")
        return found

    def asked(self, call: Call, model: str | None = None) -> tuple[Route, Served, str | None]:
        """Route, variant and user of a request in a foreign protocol. Raises Refused.

        The user is named by X-User-Id; a version in the path is taken at its word.
        """
        route = self.route(call.path.get("model", model))
        user = call.headers.get(USER_ID)
        user_id = None if user is None else user[:MAX_USER_ID].decode("latin-1")
        if "version" in call.path:
            return route, self.version(route, call.path["version"]), user_id
        return route, self.served(route, user_id, call.headers.get(OVERRIDE)), user_id

    def version(self, route: Route, version: str) -> Served:
        """The variant of this version. Raises Refused where it does not answer now."""
        for served in route.served:
            if str(served.variant.version) == version:
                return served
        answering = ", ".join(str(served.variant.version) for served in route.served)
        raise Refused(404, f"version {version[:20]} of {route.model} does not answer; {answering} does")

    def _only(self) -> str:
        names = self.follower.models()
        if len(names) == 1:
            return names[0]
        if not names:
            raise Refused(503, "no model is deployed yet", 1)
        raise Refused(
            404, f"several models are served here; ask one of {', '.join(f'/models/{n}/predict' for n in names)}"
        )
