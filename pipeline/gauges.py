"""What the monitors measured last, kept in the database so that the service can show it to Prometheus.

Monitors are batch stages: they end long before anybody scrapes. Each replaces all of its values of a model at once,
so what is no longer measured does not linger. Values carry the cut-off that they are true for and the time of
writing, and both are shown, so that nothing stale passes for fresh.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from pipeline.database import Database, tables
from pipeline.gauge_names import NAMES

CAP = 500
"""Distinct features, and distinct subjects, that one monitor of one model may show: what Prometheus bears easily."""
CAPPED = ("feature_name", "subject")
MAX_AGE_SECONDS = 26 * 3600.0
"""A monitor that runs every day may be two hours late before it counts as stopped."""
ONLY_WHEN_DUE = 366 * 86_400.0
"""Of a monitor that has work only now and then, so that a quiet year is no dead monitor."""

monitor_table = sa.Table(
    "evergreen_monitor",
    tables,
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("monitor", sa.String(32), primary_key=True),
    sa.Column("as_of", sa.String(32), nullable=False),
    sa.Column("written_at", sa.String(32), nullable=False),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("max_age_seconds", sa.Float, nullable=False),
    sa.Column("left_out", sa.Integer, nullable=False),
)
gauge_table = sa.Table(
    "evergreen_gauge",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("monitor", sa.String(32), nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("value", sa.Float, nullable=False),
    sa.Index("evergreen_gauge_of", "model", "monitor"),
)


@dataclass(frozen=True)
class Gauge:
    """One measured value of a model. What is not known is left out: there is no NaN.

    Raises ValueError for a name that NAMES does not hold, for other labels than it says, and for a value that is not
    finite.

    >>> Gauge("model_feature_drift", "churn", {"feature_name": "age"}, 0.1)
    Traceback (most recent call last):
    ...
    ValueError: model_feature_drift takes the labels feature_name, window_days, not feature_name
    """

    name: str
    model: str
    labels: Mapping[str, str]
    """Besides `model`."""
    value: float

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"{self.name} stands not in the table of names, pipeline/gauge_names.py")
        wanted = NAMES[self.name].labels
        if set(self.labels) != set(wanted):
            takes = ", ".join(wanted) or "none"
            raise ValueError(f"{self.name} takes the labels {takes}, not {', '.join(self.labels) or 'none'}")
        if not math.isfinite(self.value):
            raise ValueError(f"{self.name} of {self.model} is {self.value}; leave out what is not known")

    @property
    def key(self) -> tuple[str, str, str]:
        """What no two of them share."""
        return self.name, self.model, _canonical(self.labels)


@dataclass(frozen=True)
class Monitor:
    """What one monitor of one model measured last, and when."""

    model: str
    monitor: str
    as_of: datetime
    """The cut-off that the values are true for."""
    written_at: datetime
    """When they were written, by the clock."""
    rows: int
    """Rows that were looked at."""
    max_age_seconds: float
    """Without a success for longer, it counts as stopped."""
    left_out: int
    """Values beyond CAP, which are not kept."""
    gauges: tuple[Gauge, ...] = field(repr=False)


class GaugeStore:
    """The newest values of every monitor of every model."""

    def __init__(self, url: str) -> None:
        """`url` is SQLAlchemy's; SQLite and PostgreSQL are supported. Nothing is opened yet."""
        self._database = Database(url)

    def replace(
        self,
        model: str,
        monitor: str,
        gauges: Sequence[Gauge],
        as_of: datetime,
        now: datetime,
        *,
        rows: int,
        max_age_seconds: float = MAX_AGE_SECONDS,
    ) -> bool:
        """Put these in the place of all that the monitor said of the model before.

        False, and nothing changed, where values of this cut-off or a later one are there: a backfill never overwrites
        what is newer. Of features and subjects the first CAP in the order given are kept: give them in an order that
        lasts, such as the schema's, so that the same ones stay.

        Raises ValueError for a gauge of another monitor or model, and for one given twice.
        """
        _check(model, monitor, gauges)
        kept = _capped(gauges)
        values = {
            "as_of": _text(as_of), "written_at": _text(now), "row_count": rows, "max_age_seconds": max_age_seconds,
            "left_out": len(gauges) - len(kept),
        }  # fmt: skip
        try:
            with self._database.transaction(writes=True) as connection:
                return _replaced(connection, model, monitor, values, kept)
        except IntegrityError:  # the monitor's first two runs at once: now there is something to compare with
            with self._database.transaction(writes=True) as connection:
                return _replaced(connection, model, monitor, values, kept)

    def read(self) -> tuple[Monitor, ...]:
        """Everything that is known, by one query, so that values and their freshness fit together."""
        same = (monitor_table.c.model == gauge_table.c.model) & (monitor_table.c.monitor == gauge_table.c.monitor)
        value = (gauge_table.c.name, gauge_table.c.labels, gauge_table.c.value)
        query = sa.select(monitor_table, *value).join(gauge_table, same, isouter=True)
        query = query.order_by(monitor_table.c.model, monitor_table.c.monitor, gauge_table.c.id)
        found: dict[tuple[str, str], tuple[Any, list[Gauge]]] = {}
        with self._database.transaction() as connection:
            for row in connection.execute(query):
                _, gauges = found.setdefault((row.model, row.monitor), (row, []))
                if row.name is None:
                    continue
                labels = json.loads(row.labels)
                # Another release may have written what this one does not know.
                if row.name in NAMES and set(labels) == set(NAMES[row.name].labels):
                    gauges.append(Gauge(row.name, row.model, labels, row.value))
        return tuple(_monitor(row, gauges) for row, gauges in found.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()


def exposed(monitors: Iterable[Monitor]) -> tuple[Gauge, ...]:
    """The values and, for each monitor, how fresh they are: what Prometheus is shown.

    >>> noon = datetime(2026, 6, 1, 12, tzinfo=UTC)
    >>> drift = Monitor("churn", "drift", noon, noon, 900, 93_600, 0, ())
    >>> [gauge.value for gauge in exposed([drift]) if gauge.name == "model_monitor_rows"]
    [900.0]
    """
    shown: list[Gauge] = []
    for monitor in monitors:
        about = {
            "model_monitor_last_success_timestamp_seconds": monitor.written_at.timestamp(),
            "model_monitor_cutoff_timestamp_seconds": monitor.as_of.timestamp(),
            "model_monitor_max_age_seconds": monitor.max_age_seconds,
            "model_monitor_rows": float(monitor.rows),
            "model_monitor_gauges_left_out": float(monitor.left_out),
        }
        shown += monitor.gauges
        shown += [Gauge(name, monitor.model, {"monitor": monitor.monitor}, value) for name, value in about.items()]
    return tuple(shown)


def _check(model: str, monitor: str, gauges: Sequence[Gauge]) -> None:
    for gauge in gauges:
        if gauge.model != model:
            raise ValueError(f"{gauge.name} is of {gauge.model}, not of {model}")
        if NAMES[gauge.name].monitor != monitor:
            raise ValueError(f"{gauge.name} is not what the monitor {monitor} measures")
    if len({gauge.key for gauge in gauges}) < len(gauges):
        raise ValueError(f"the monitor {monitor} of {model} gives a value twice")


def _capped(gauges: Sequence[Gauge]) -> list[Gauge]:
    """Those whose labels are among the first CAP distinct values."""
    kept: dict[str, dict[str, None]] = {}
    for label in CAPPED:
        values = dict.fromkeys(gauge.labels[label] for gauge in gauges if label in gauge.labels)
        kept[label] = dict.fromkeys(list(values)[:CAP])
    return [
        gauge
        for gauge in gauges
        if all(gauge.labels[label] in kept[label] for label in CAPPED if label in gauge.labels)
    ]


def _replaced(
    connection: sa.Connection, model: str, monitor: str, values: Mapping[str, Any], gauges: Sequence[Gauge]
) -> bool:
    which = (monitor_table.c.model == model) & (monitor_table.c.monitor == monitor)
    older = which & (monitor_table.c.as_of < values["as_of"])
    if connection.execute(sa.update(monitor_table).where(older).values(values)).rowcount == 0:
        if connection.execute(sa.select(monitor_table.c.as_of).where(which)).one_or_none() is not None:
            return False
        connection.execute(sa.insert(monitor_table).values(model=model, monitor=monitor, **values))
    connection.execute(
        sa.delete(gauge_table).where((gauge_table.c.model == model) & (gauge_table.c.monitor == monitor))
    )
    if gauges:
        connection.execute(sa.insert(gauge_table), [
            {"model": model, "monitor": monitor, "name": gauge.name, "labels": _canonical(gauge.labels),
             "value": float(gauge.value)}
            for gauge in gauges
        ])  # fmt: skip
    return True


def _monitor(row: Any, gauges: Sequence[Gauge]) -> Monitor:
    return Monitor(
        row.model, row.monitor, datetime.fromisoformat(row.as_of), datetime.fromisoformat(row.written_at),
        row.row_count, row.max_age_seconds, row.left_out, tuple(gauges),
    )  # fmt: skip


def _canonical(labels: Mapping[str, str]) -> str:
    return json.dumps(dict(labels), sort_keys=True, ensure_ascii=False)


def _text(instant: datetime) -> str:
    """One form of fixed width, so that texts stand in the order of time."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")
