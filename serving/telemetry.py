"""Prometheus metrics, right with several worker processes."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Telemetry:
    """The metrics of one process; with PROMETHEUS_MULTIPROC_DIR, those of all workers together."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("model", "version")
        self.predictions = Counter(
            "model_predictions_total", "Answered predictions", (*labels, "variant"), registry=self.registry
        )
        self.latency = Histogram(
            "model_prediction_latency_seconds", "From the request read to the answer ready", labels,
            buckets=BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.refused = Counter(
            "model_requests_refused_total",
            "Requests that did not fit the signature",
            ("model",),
            registry=self.registry,
        )
        self.feedback = Counter("model_feedback_total", "Labels received, each prediction once", registry=self.registry)
        self.lost = Gauge(
            "model_prediction_log_lost", "Answers missing from the prediction log", registry=self.registry,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.generation = Gauge(
            "model_rollout_generation", "Generation of the rollout that answers", ("model",), registry=self.registry,
            multiprocess_mode="livemin",
        )  # fmt: skip

    def render(self) -> bytes:
        """The exposition text."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
