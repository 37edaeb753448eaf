"""From what a monitor writes to a DAG run, through a real Prometheus, Alertmanager and receiver."""

from __future__ import annotations

import re

from pipeline.gauges import Gauge
from tests.deploy.live import one_of_each, wait_until


def alarm(model: str, level: str, subject: str = "tenure") -> Gauge:
    return Gauge("model_drift_alarms", model, {"subject": subject, "level": level}, 1)


def test_confirmed_drift_starts_exactly_one_retraining_however_often_it_is_told(chain):
    quiet = [gauge for gauge in one_of_each("churn", "drift") if gauge.name != "model_drift_alarms"]
    chain.write("churn", "drift", *quiet, alarm("churn", "suspected"))
    wait_until(lambda: chain.query('model_drift_alarms{model="churn", level="suspected"}'))
    assert chain.airflow.requested == 0
    chain.write("churn", "drift", *quiet, alarm("churn", "confirmed"), alarm("churn", "confirmed", "charge × plan"))
    wait_until(lambda: chain.airflow.requested >= 3)
    (((dag, run_id), conf),) = chain.airflow.runs.items()
    assert dag == "retraining_churn"
    (alert,) = chain.alerts("DriftConfirmed", "churn")
    assert re.fullmatch(rf"alert__{alert['fingerprint']}__\d{{8}}T\d{{6}}\.\d{{6}}Z", run_id)
    assert conf == {"reasons": ["DriftConfirmed: Drift of churn is confirmed: charge × plan tenure"], "cutoff": None}


def test_broken_data_are_told_to_people_and_start_no_retraining(chain):
    fault = Gauge("model_schema_events", "broken", {"kind": "range", "severity": "error"}, 2)
    chain.write("broken", "drift", alarm("broken", "confirmed"), fault)
    wait_until(lambda: chain.alerts("DataFault", "broken") and chain.alerts("DriftConfirmed", "broken"))
    (drift,) = wait_until(
        lambda: [a for a in chain.alerts("DriftConfirmed", "broken") if a["status"]["state"] == "suppressed"]
    )
    assert drift["status"]["inhibitedBy"] == [chain.alerts("DataFault", "broken")[0]["fingerprint"]]
    chain.write("later", "drift", alarm("later", "confirmed"))
    wait_until(lambda: "retraining_later" in {dag for dag, _ in chain.airflow.runs})
    assert "retraining_broken" not in {dag for dag, _ in chain.airflow.runs}


def test_a_monitor_that_stops_is_told_and_one_that_runs_again_is_forgiven(chain):
    chain.write("asleep", "drift", max_age_seconds=9)
    wait_until(lambda: chain.query('model_monitor_rows{model="asleep"}'))
    assert chain.query('ALERTS{alertname="MonitorStale", model="asleep"}') == []
    (told,) = wait_until(lambda: chain.alerts("MonitorStale", "asleep"))
    assert (told["labels"]["monitor"], told["labels"]["severity"]) == ("drift", "critical")
    assert "has stopped: no success for" in told["annotations"]["summary"]
    assert chain.query('ALERTS{alertname="MonitorStale", model="churn"}') == []
    chain.write("asleep", "drift")
    wait_until(lambda: not chain.query('ALERTS{alertname="MonitorStale", model="asleep"}'))
