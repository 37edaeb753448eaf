"""`/admin`, behind a token; without one it is not there."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from serving.orders import OrderFile
from serving.protocols import Problem
from serving.service import Service
from serving.serving_settings import ServingSettings

log = logging.getLogger("evergreen.serving")
BEARER = HTTPBearer(auto_error=False, scheme_name="admin", description="EVERGREEN_ADMIN_TOKEN")


class Level(BaseModel):
    """How much the service writes into its log."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def admin_routes(service: Service, settings: ServingSettings, orders: OrderFile) -> APIRouter:
    """Orders for all workers; each carries them out within two seconds."""
    router = APIRouter(
        prefix="/admin", tags=["admin"], dependencies=[Depends(_guard(settings.admin_token))],
        responses={
            status: {"model": Problem, "description": about}
            for status, about in (
                (400, "The order cannot be read"), (401, "The token is wrong or missing"),
                (404, "There is no /admin here, or no such model"), (413, "Too large"), (422, "The order is none"),
            )
        },
    )  # fmt: skip

    @router.get("/orders")
    def ordered() -> dict[str, Any]:
        """What is ordered now."""
        return _told(orders.read())

    @router.post("/reload")
    def reload() -> dict[str, Any]:
        """Load every package anew, and prove its golden rows; what answers goes on until that is done."""
        return _told(orders.change(reloads=orders.read().reloads + 1))

    @router.post("/log-level")
    def log_level(body: Level) -> dict[str, Any]:
        """Write more or less into the log."""
        return _told(orders.change(log_level=body.level))

    @router.post("/models/{model}/pin")
    def pin(model: str) -> dict[str, Any]:
        """Stay with what answers now. A deployment is told so, and fails."""
        _known(service, model)
        return _told(orders.change(pinned=tuple(sorted({*orders.read().pinned, model}))))

    @router.post("/models/{model}/unpin")
    def unpin(model: str) -> dict[str, Any]:
        """Follow deployments again."""
        _known(service, model)
        return _told(orders.change(pinned=tuple(name for name in orders.read().pinned if name != model)))

    return router


def _guard(token: str | None) -> Callable[..., Awaitable[None]]:
    async def guard(given: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> None:
        if token is None:
            raise HTTPException(404, "there is no /admin here; EVERGREEN_ADMIN_TOKEN switches it on")
        told = "" if given is None else given.credentials
        if not hmac.compare_digest(told.encode("latin-1", "replace"), token.encode()):
            log.warning("an order without the right token was refused")
            raise HTTPException(401, "the token is wrong or missing", {"WWW-Authenticate": "Bearer"})

    return guard


def _known(service: Service, model: str) -> None:
    if model not in service.follower.models():
        raise HTTPException(404, f"no model {model[:64]!r} is served here")


def _told(orders: Any) -> dict[str, Any]:
    log.warning("ordered: %s", orders)
    return {"log_level": orders.log_level, "reloads": orders.reloads, "pinned": list(orders.pinned)}
