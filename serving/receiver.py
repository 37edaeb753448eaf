"""`python -m serving.receiver`: takes alerts from Alertmanager and starts retraining through Airflow's REST API.

A service of its own: the one that answers predictions must not be able to start anything. Alertmanager repeats an
alert while it stands, and may send it twice; the run's id is made of the alert's fingerprint and beginning, so that
Airflow itself tells a repeat (409), also after a restart of everybody. Whether to retrain is decided by the DAG, which
knows cool-down, budget and breaker; what comes in here is a request.
"""

from __future__ import annotations

import argparse
import hmac
import logging
import sys
from collections.abc import Sequence

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from pipeline.errors import BadConfiguration, OutsideFailure
from pipeline.settings import ReceiverSettings, receiver_settings
from serving.airflow_runs import AirflowRuns, Started
from serving.alerts import Alert, Webhook
from serving.limits import BodyLimit
from serving.protocols import problem

log = logging.getLogger("evergreen.receiver")


def create_app(settings: ReceiverSettings) -> FastAPI:
    """The application: one door for alerts, one to see that it lives."""
    app = FastAPI(title="Evergreen alert receiver", openapi_url=None)
    app.add_middleware(BodyLimit)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process is alive."""
        return {"status": "healthy"}

    @app.post("/alerts")
    async def alerts(request: Request) -> JSONResponse:
        """Alertmanager's webhook: 200 with what became of each alert; 502 where Airflow fails, for it to come again."""
        # Before the body is looked at: who is not believed costs nothing.
        if not _believed(request.headers.get("authorization", ""), settings.secret):
            log.warning("refused a request without the right secret")
            return JSONResponse(problem("the secret is wrong or missing"), 401, {"WWW-Authenticate": "Bearer"})
        try:
            webhook = Webhook.model_validate_json(await request.body())
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            log.warning("refused a body that is not Alertmanager's: %s", first["msg"])
            return JSONResponse(problem(first["msg"], ".".join(map(str, first["loc"])) or None), 422)
        try:
            return JSONResponse({"alerts": await run_in_threadpool(_answer, webhook, settings)})
        except OutsideFailure as error:
            log.error("%s", error)
            return JSONResponse(problem(str(error)), 502)

    return app


def _believed(header: str, secret: str) -> bool:
    return hmac.compare_digest(header.encode("latin-1"), f"Bearer {secret}".encode())


def _answer(webhook: Webhook, settings: ReceiverSettings) -> list[dict[str, str]]:
    """What became of each alert. Raises OutsideFailure where Airflow cannot be asked."""
    if webhook.truncatedAlerts:
        log.warning("Alertmanager left out %d alerts of this group", webhook.truncatedAlerts)
    with AirflowRuns(settings.airflow_url, settings.user, settings.password) as airflow:
        return [_result(alert, _request(alert, airflow)) for alert in webhook.alerts]


def _request(alert: Alert, airflow: AirflowRuns) -> Started:
    if alert.labels.get("action") != "retrain":
        return Started("ignored", "it asks for no retraining")
    if alert.status != "firing":
        return Started("ignored", "it is over")
    if alert.model is None:
        return Started("refused", "its label `model` is missing or is no name of a model")
    return airflow.start(f"retraining_{alert.model}", alert.run_id, {"reasons": [alert.reason], "cutoff": None})


def _result(alert: Alert, started: Started) -> dict[str, str]:
    level = logging.WARNING if started.result == "refused" else logging.INFO
    log.log(level, "%s %s of %s: %s, %s", alert.name, alert.status, alert.model, started.result, started.detail)
    return {"fingerprint": alert.fingerprint, "result": started.result, "detail": started.detail}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, then take alerts until told to stop."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.receiver", description="Take alerts from Alertmanager and request retraining."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=8010, help="port to listen on (default %(default)s)")
    parsed = parser.parse_args(arguments)
    try:
        settings = receiver_settings()
    except BadConfiguration as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    uvicorn.run(create_app(settings), host=parsed.host, port=parsed.port, log_level="warning", access_log=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
