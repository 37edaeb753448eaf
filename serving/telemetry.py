"""Prometheus metrics, right with several worker processes, and beside them what the monitors measured."""

from __future__ import annotations

import logging
import os
import threading
import time
from bisect import bisect_left
from collections import Counter as Counting
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from pipeline.errors import OutsideFailure
from pipeline.gauge_names import NAMES, STORE_UP
from pipeline.gauges import GaugeStore, Monitor, exposed
from serving.log_keeper import KeeperStatus

log = logging.getLogger("evergreen.serving")
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CACHE_SECONDS = 5.0
"""Several Prometheus servers ask one after the other; the monitors write once a day."""
PATIENCE_SECONDS = 2.0
"""Prometheus gives up on a whole scrape after ten seconds."""


@dataclass(frozen=True)
class VersionCounters:
    """The metrics of one version, looked up once."""

    answered: Counter
    failed: Counter
    refused: Counter
    latency: Histogram


def observe_all(histogram: Histogram, seconds: Sequence[float]) -> None:
    """What `observe` does for each of them, with one step a bucket instead of one a value.

    Each step of prometheus-client asks the kernel for the process's number, which costs more than reading a row.
    """
    histogram._sum.inc(sum(seconds))
    for place, count in Counting(bisect_left(BUCKETS, value) for value in seconds).items():
        histogram._buckets[place].inc(count)


class Telemetry:
    """The metrics of one process; with PROMETHEUS_MULTIPROC_DIR, those of all workers together."""

    def __init__(self, monitors: Collector | None = None) -> None:
        """`monitors`: what is shown beside them, read once however many workers there are."""
        self.registry = CollectorRegistry()
        self._monitors = monitors
        self._lost = 0
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
        self.failed = Counter(
            "model_predictions_failed_total", "Rows on which the model failed", (*labels, "variant"),
            registry=self.registry,
        )  # fmt: skip
        self.shadow_dropped = Counter(
            "model_shadow_dropped_total", "Rows that the shadow was too slow for", ("model",), registry=self.registry
        )
        self.unseen = Counter(
            "model_inputs_unseen_total", "Categories that training never saw", ("model", "feature_name"),
            registry=self.registry,
        )  # fmt: skip
        self.outside = Counter(
            "model_inputs_out_of_range_total", "Numbers beyond what training saw", ("model", "feature_name"),
            registry=self.registry,
        )  # fmt: skip
        self.turned_away = Counter(
            "model_requests_turned_away_total", "Requests refused because too many were being answered",
            registry=self.registry,
        )  # fmt: skip
        self.feedback = Counter("model_feedback_total", "Labels received, each prediction once", registry=self.registry)
        self.lost = Counter(
            "model_prediction_log_lost_total", "Answers missing from the prediction log", registry=self.registry
        )
        self.killed = Gauge(
            "model_prediction_log_lost_by_kills", "Answers that killed servers had not written, of all servers here",
            registry=self.registry, multiprocess_mode="livemax",
        )  # fmt: skip
        self.waiting = Gauge(
            "model_prediction_log_waiting_bytes", "Journals that have not become files", registry=self.registry,
            multiprocess_mode="livemax",
        )  # fmt: skip
        self.keeper_problem = Gauge(
            "model_prediction_log_keeper_problem", "1 where journals do not become files", registry=self.registry,
            multiprocess_mode="livemax",
        )  # fmt: skip
        self.ready = Gauge(
            "model_ready", "1 where every worker answers with proven golden rows", ("model",), registry=self.registry,
            multiprocess_mode="livemin",
        )  # fmt: skip
        self.generation = Gauge(
            "model_rollout_generation", "Generation of the rollout that answers", ("model",), registry=self.registry,
            multiprocess_mode="livemin",
        )  # fmt: skip
        self.challenger = Gauge(
            "model_rollout_challenger", "Version on trial beside the champion; 0: none", ("model",),
            registry=self.registry, multiprocess_mode="livemax",
        )  # fmt: skip
        self.share = Gauge(
            "model_rollout_share", "Share of the users that meet the version on trial", ("model",),
            registry=self.registry, multiprocess_mode="livemax",
        )  # fmt: skip

    def of_version(self, model: str, version: str, variant: str) -> VersionCounters:
        """What a version counts into."""
        return VersionCounters(
            self.predictions.labels(model, version, variant), self.failed.labels(model, version, variant),
            self.refused.labels(model), self.latency.labels(model, version),
        )  # fmt: skip

    def tell_odd(self, model: str, unseen: Mapping[str, int], outside: Mapping[str, int]) -> None:
        """Values that training never saw, by feature."""
        for counter, counts in ((self.unseen, unseen), (self.outside, outside)):
            for feature, count in counts.items():
                counter.labels(model, feature).inc(count)

    def tell_log(self, keeper: KeeperStatus | None, killed: int) -> None:
        """How the prediction log is kept. `killed`: answers that killed servers had not written."""
        self.killed.set(killed)
        if keeper is not None:
            self.waiting.set(keeper.waiting_bytes)
            self.keeper_problem.set(keeper.problem is not None)

    def tell(self, routes: Mapping[str, int | None], lost: int) -> None:
        """What this worker does. `routes`: generation by model, None where it cannot answer; `lost`: answers."""
        for model, generation in routes.items():
            self.ready.labels(model).set(generation is not None)
            if generation is not None:
                self.generation.labels(model).set(generation)
        self.lost.inc(lost - self._lost)
        self._lost = lost

    def tell_trial(self, model: str, challenger: int, share: float) -> None:
        """Which version is on trial (0: none), and the share of the users that meet it."""
        self.challenger.labels(model).set(challenger)
        self.share.labels(model).set(share)

    def render(self) -> bytes:
        """The exposition text."""
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if folder is None:
            own = generate_latest(self.registry)
        else:
            _forget_dead_workers(Path(folder))
            together = CollectorRegistry()
            MultiProcessCollector(together)  # type: ignore[no-untyped-call]
            own = generate_latest(together)
        return own if self._monitors is None else own + generate_latest(self._monitors)


class MonitorCollector(Collector):
    """What the monitors wrote, read from the database when it is asked for.

    Where the database does not answer in time, no old value is shown for a new one: the values are gone, and
    STORE_UP is 0.
    """

    def __init__(self, store: GaugeStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self._lock = threading.Lock()
        self._reading: threading.Thread | None = None
        self._read: tuple[float, tuple[Monitor, ...]] | None = None
        """When it was read, and what."""

    def collect(self) -> Iterable[Metric]:
        """The values with their freshness, as families."""
        monitors = self._monitors()
        yield GaugeMetricFamily(STORE_UP, "1 where the database of the monitors answers", 0 if monitors is None else 1)
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for gauge in exposed(monitors or ()):
            name = NAMES[gauge.name]
            if gauge.name not in families:
                kind = CounterMetricFamily if name.only_grows else GaugeMetricFamily
                families[gauge.name] = kind(name.name, name.about, labels=("model", *name.labels))
            families[gauge.name].add_metric([gauge.model, *(gauge.labels[label] for label in name.labels)], gauge.value)
        yield from families.values()

    def _monitors(self) -> tuple[Monitor, ...] | None:
        """What is fresh enough; None where the database does not answer."""
        with self._lock:
            if self._fresh() is None and (self._reading is None or not self._reading.is_alive()):
                # A thread, because a database that hangs must not take the service's own metrics with it.
                self._reading = threading.Thread(target=self._ask, name="monitors", daemon=True)
                self._reading.start()
            reading = self._reading
        if reading is not None:
            reading.join(PATIENCE_SECONDS)
        return self._fresh()

    def _fresh(self) -> tuple[Monitor, ...] | None:
        read = self._read
        return read[1] if read is not None and self._clock() - read[0] <= CACHE_SECONDS else None

    def _ask(self) -> None:
        begun = self._clock()
        try:
            self._read = (begun, self._store.read())
        except OutsideFailure as error:
            log.error("the values of the monitors cannot be read: %s", error)


def _forget_dead_workers(folder: Path) -> None:
    """Take out what a killed worker said of itself. Its counts stay: they happened."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
        except PermissionError:
            continue  # it lives, as somebody else's
