"""The names under which Prometheus finds what the monitors measure: one table, with what each means.

Every one has the label `model` too. Labels are bounded: by the schema, by the open alarms, by short lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MONITORS = ("drift", "performance", "retraining", "rollout")
STORE_UP = "model_monitor_store_up"
"""0 where the values cannot be read; then none is shown. The one name without the label `model`."""


@dataclass(frozen=True)
class Name:
    """A metric. Names ending in `_total` only grow; all others go up and down."""

    name: str
    about: str
    labels: tuple[str, ...] = ()
    """Besides `model`."""
    monitor: str | None = None
    """The one monitor that writes it, so that no two write the same series; None: the store itself."""

    @property
    def only_grows(self) -> bool:
        """Whether Prometheus shall take it for a counter."""
        return self.name.endswith("_total")


def _of(monitor: str | None, *names: Name) -> dict[str, Name]:
    return {name.name: Name(name.name, name.about, name.labels, monitor) for name in names}


def _with_band(name: str, about: str) -> tuple[Name, ...]:
    ends = (("", ""), ("_low", ": lower end of its interval"), ("_high", ": upper end of its interval"))
    return tuple(Name(name + end, about + words, ("metric",)) for end, words in ends)


WINDOW = ("feature_name", "window_days")
ALARM = ("subject", "level")

NAMES: Mapping[str, Name] = {
    **_of(
        "drift",
        Name("model_feature_drift", "Population stability index of a feature against the reference", WINDOW),
        Name(
            "model_feature_drift_p_value", "How likely so much difference is without drift, one feature alone", WINDOW
        ),
        Name("model_drift_window_status", "1 for the status of a window's comparison", ("window_days", "status")),
        Name("model_drift_alarms", "1 while an alarm about drift stands", ALARM),
        Name("model_schema_events", "Columns, rows or times that break the schema today", ("kind", "severity")),
        Name("model_alarms_total", "Alarms about drift raised so far", ("level",)),
    ),
    **_of(
        "performance",
        *_with_band("model_performance_realised", "Metric on the predictions whose labels are known"),
        *_with_band("model_performance_estimated", "Metric estimated without labels"),
        *_with_band("model_performance_drop", "How much worse than at registration; positive is worse"),
        Name("model_performance_registered", "Metric when the champion was registered", ("metric",)),
        Name("model_performance_estimate_error", "Mean absolute error of past estimates", ("metric",)),
        Name("model_performance_mature", "1 where enough labels are known to judge the window"),
        Name("model_performance_alarms", "1 while an alarm about performance stands", ALARM),
        Name("model_label_lag_days", "Days from a prediction to its label", ("quantile",)),
        Name("model_labels_known_share", "Share of the window's predictions whose label is known"),
        Name("model_labels_expected_share", "Share that should be known by now, from past labels"),
        Name("model_alarm_precision", "Share of past alarms that labels proved right"),
        Name("model_alarm_recall", "Share of past drops that an alarm announced"),
    ),
    **_of(
        "retraining",
        Name("model_retrainings_total", "Retrainings so far by how they ended", ("result",)),
        Name("model_retraining_breaker_open", "1 while retraining is stopped and a person is called"),
        Name("model_retraining_budget_left", "Retrainings that may still start in these 30 days"),
        Name("model_champion_since_timestamp_seconds", "When the champion became champion"),
        Name("model_champion_cutoff_timestamp_seconds", "The cut-off that the champion was trained at"),
    ),
    **_of(
        "rollout",
        Name("model_rollout_decision", "1 for the newest verdict about what is on trial", ("decision",)),
        *_with_band("model_rollout_difference", "Challenger against champion; positive is better"),
        Name("model_rollout_labels_needed", "Labels that would settle a verdict that is open"),
    ),
    **_of(
        None,
        Name("model_monitor_last_success_timestamp_seconds", "When the monitor last wrote its values", ("monitor",)),
        Name(
            "model_monitor_cutoff_timestamp_seconds", "The cut-off that the monitor's values are true for", ("monitor",)
        ),
        Name("model_monitor_max_age_seconds", "Without a success for longer, the monitor has stopped", ("monitor",)),
        Name("model_monitor_rows", "Rows that the monitor looked at", ("monitor",)),
        Name("model_monitor_gauges_left_out", "Values beyond the bound on features and subjects", ("monitor",)),
    ),
}
