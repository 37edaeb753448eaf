"""A busy service's prediction log: monitoring and judging of it, seconds and peak memory, beside plain pandas.

Run with `python -m benchmarks.busy_log [--rows 5000000 --days 10]`. Rows are answers a day; a tenth of the labels
come back, a day later. Judged is a canary of a day, the champion against itself. Each measurement is a process of its
own; memory is the peak resident set that the kernel accounts for it. The peer reads the last day's answers with
pandas and compares each column with the training rows by scipy's KS, as tutorials do.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from benchmarks.large_tables import measure
from pipeline.config import ModelConfig, load_model
from pipeline.context import RunContext, parse_instant
from pipeline.core.buckets import bucket
from pipeline.ledger import Event
from pipeline.log_store import LogStore, open_store
from pipeline.prediction_files import encode
from pipeline.rollout import Plan, RolloutStore, feedback
from pipeline.settings import Settings, load_settings
from pipeline.stages import STAGES, run_stage

FEATURES = 12
FILE_ROWS = 250_000
TRAINED = 20_000
FIRST = date(2026, 1, 1)
LABELLED, LABEL_DAYS = 0.1, 1
MODEL = f"""
task: binary
source: {{{{path: {{path}}}}}}
time: {{{{event: happened}}}}
target: {{{{column: label, positive: 1, known_after_days: {LABEL_DAYS}}}}}
split: {{{{test_share: 0.3, min_rows: 50}}}}
monitoring: {{{{data: predictions}}}}
training: {{{{estimator: sklearn.linear_model.LogisticRegression}}}}
"""
OURS = """
import sys, time
from pipeline.config import load_model; from pipeline.context import RunContext, parse_instant
from pipeline.settings import load_settings
from pipeline.stages.detect_drift import detect_drift
from pipeline.stages.judge_rollout import judge_rollout
from pipeline.stages.measure_performance import measure_performance
s = load_settings(); m = load_model("busy", s.models_dir); c = RunContext("busy", parse_instant(sys.argv[2]), "bench")
t = time.perf_counter()
if sys.argv[1] == "judge": told = judge_rollout(m, c, s).reasons[0]
else:
    drift = detect_drift(m, c, s); told = drift.reason
    if sys.argv[1] == "measure":
        t = time.perf_counter(); told = measure_performance(drift, m, c, s).windows[-1].told
print(time.perf_counter() - t, told.replace(" ", "_"))
"""
PANDAS = """
import sys, time
t = time.perf_counter()
import pandas as pd, json; from scipy import stats; from pathlib import Path
log = pd.concat([pd.read_parquet(p) for p in sorted(Path(sys.argv[1]).glob("*.parquet"))])
log = log.drop_duplicates("prediction_id")
rows, before = pd.DataFrame([json.loads(f) for f in log["features"]]), pd.read_parquet(sys.argv[2])
p = [stats.ks_2samp(before[c], rows[c]).pvalue for c in rows]
print(time.perf_counter() - t, f"smallest_p_{min(p):.2g}")
"""


def columns_of(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    """Features, as numbers with four digits."""
    return {f"x{i}": rng.normal(size=rows).round(4) for i in range(FEATURES)}


def label_of(rng: np.random.Generator, columns: dict[str, np.ndarray]) -> np.ndarray:
    return (rng.random(len(columns["x0"])) < 1 / (1 + np.exp(-columns["x0"] - 0.5 * columns["x1"]))).astype(int)


def train(folder: Path, settings: Settings) -> ModelConfig:
    """A champion that knows nothing of the log's days."""
    rng = np.random.default_rng(1)
    columns = columns_of(rng, TRAINED)
    happened = pd.Timestamp(FIRST, tz="UTC") - pd.to_timedelta(np.sort(rng.integers(4, 90 * 86_400, TRAINED)), "s")
    table = pd.DataFrame({"happened": happened, **columns, "label": label_of(rng, columns)})
    table.to_parquet(folder / "table.parquet")
    settings.models_dir.mkdir()
    text = MODEL.format(path=json.dumps(str(folder / "table.parquet")))
    (settings.models_dir / "busy.yaml").write_text(text)
    model = load_model("busy", settings.models_dir)
    record = None
    for stage in STAGES:
        context = RunContext("busy", parse_instant(FIRST.isoformat()), "bench")
        record = run_stage(stage, model, context, settings, record)
    return model


def fill(day: date, rows: int, plan: Plan, settings: Settings) -> None:
    """A day of answers by the plan's variants, in files, and the labels of some of them."""
    store, engine = open_store(settings.log), sa.create_engine(settings.database_url)
    for part in range(0, rows, FILE_ROWS):
        _part(day, part, min(FILE_ROWS, rows - part), rows, plan, store, engine)
    engine.dispose()


def _part(day: date, part: int, rows: int, of: int, plan: Plan, store: LogStore, engine: sa.Engine) -> None:
    rng = np.random.default_rng([day.toordinal(), part])
    columns = columns_of(rng, rows)
    pieces = [piece for name, values in columns.items() for piece in (f'"{name}":', pa.array(values).cast(pa.string()))]
    whole = [pa.scalar("{")]
    for place, piece in enumerate(pieces):
        if place and isinstance(piece, str):
            piece = "," + piece
        whole.append(pa.scalar(piece) if isinstance(piece, str) else piece)
    features = pc.binary_join_element_wise(*whole, pa.scalar("}"), "")
    start = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
    at = np.sort(rng.random(rows)) * 86_400 * rows / of + 86_400 * part / of + start
    ids = np.array([f"{int(t * 1000):012x}{part + n:020x}" for n, t in enumerate(at)])
    users = np.array([f"user-{n}" for n in rng.integers(0, 2**31, rows)])
    met = np.array([plan.share > 0 and bucket(user, plan.salt) < plan.share for user in users])
    chance = 1 / (1 + np.exp(-columns["x0"] - 0.5 * columns["x1"]))
    first, other = plan.variants[0], plan.challenger or plan.variants[0]
    both = (pa.array(chance >= 0.5).cast(pa.int64()), pa.array(1 - chance), pa.array(chance))
    table = pa.table({
        "prediction_id": ids, "time": pa.array((at * 1e6).astype(np.int64)).cast(pa.timestamp("us", "UTC")),
        "user_id": users, "variant": np.where(met, other.name, first.name),
        "version": np.where(met, other.version, first.version), "digest": np.where(met, other.digest, first.digest),
        "features": features, "prediction": both[0].cast(pa.string()), "confidence": np.maximum(chance, 1 - chance),
        "scores": pa.ListArray.from_arrays(np.arange(0, 2 * rows + 1, 2, dtype=np.int32),
                                           np.column_stack([1 - chance, chance]).reshape(-1)),
        "latency_seconds": np.full(rows, 0.001), "shadow_of": pa.nulls(rows, pa.string()),
    })  # fmt: skip
    store.put(f"busy/day={day.isoformat()}/{ids[0][:12]}-{ids[-1][:12]}-part-{part:012d}.parquet", encode(table))
    known = rng.random(rows) < LABELLED
    actual = label_of(rng, columns)
    told = pd.DataFrame({"prediction_id": ids[known], "actual": actual[known].astype(str),
                         "received_at": at[known] + LABEL_DAYS * 86_400, "times": 1})  # fmt: skip
    with engine.begin() as connection:
        told.to_sql(feedback.name, connection, if_exists="append", index=False)


def on_trial(settings: Settings, day: date) -> Plan:
    """The champion beside itself under another version, with a tenth of the users, since this day."""
    with RolloutStore(settings.database_url) as store:
        rollout = store.get("busy")
        assert rollout.active is not None
        champion = rollout.active.variants[0]
        challenger = replace(champion, name="challenger", version=2, judged_against=1)
        began = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
        plan = Plan("canary", (champion, challenger), 0.1, "bench", 1, began)
        store.move("busy", plan, rollout.generation, Event("busy", "rollout_started", 2, {}), datetime.now(UTC))
    return plan


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000, help="a day; default %(default)s")
    parser.add_argument("--days", type=int, default=8, help="default %(default)s")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        place = {"EVERGREEN_HOME": str(folder / "home"), "EVERGREEN_MODELS": str(folder / "models")}
        settings = load_settings(place)
        train(folder, settings)
        with RolloutStore(settings.database_url) as store:
            plan = store.get("busy").active
        assert plan is not None
        for number in range(parsed.days):
            fill(FIRST + timedelta(days=number), parsed.rows, plan, settings)
        last = FIRST + timedelta(days=parsed.days - 1)
        before = last.isoformat()
        after = (last + timedelta(days=1)).isoformat()
        print(f"{parsed.days} days of {parsed.rows:,} answers with {FEATURES} features, {LABELLED:.0%} labelled after "
              f"{LABEL_DAYS} days\n{'':<34}{'seconds':>9}{'peak MiB':>10}", flush=True)  # fmt: skip
        show("drift, all days but the last", measure(OURS, ["detect", before], place))
        show("drift, the last day", measure(OURS, ["detect", after], place))
        show("performance", measure(OURS, ["measure", after], place))
        day = settings.log.folder / "busy" / f"day={last.isoformat()}"
        trial = on_trial(settings, last + timedelta(days=1))
        fill(last + timedelta(days=1), parsed.rows, trial, settings)
        show("a canary's day judged", measure(OURS, ["judge", (last + timedelta(days=3)).isoformat()], place))
        show("pandas and KS, the last day", measure(PANDAS, [str(day), str(folder / "table.parquet")], place))


def show(name: str, found: tuple[list[str], int]) -> None:
    printed, peak = found
    if len(printed) < 2:
        print(f"{name:<34}{'failed':>9}{peak:>10,}", flush=True)
        return
    seconds, told = printed[-2:]
    print(f"{name:<34}{float(seconds):>9.1f}{peak:>10,}   {told.replace('_', ' ')}", flush=True)


if __name__ == "__main__":
    main()
