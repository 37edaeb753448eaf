"""The world as daily batches: one Parquet file holds everything that arrived on a day."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from demo.world import GENERATOR_VERSION, World, arrivals

TYPES = {
    "customer_id": pa.string(),
    "event_time": pa.timestamp("us", "UTC"),
    "arrived_at": pa.timestamp("us", "UTC"),
    "tenure_months": pa.int32(),
    "monthly_charge": pa.float64(),
    "total_charge": pa.float64(),
    "data_gb": pa.float64(),
    "support_calls": pa.int32(),
    "late_payments": pa.int32(),
    "signal_quality": pa.float64(),
    "roaming_minutes": pa.int32(),
    "autopay": pa.bool_(),
    "plan": pa.string(),
    "contract": pa.string(),
    "payment": pa.string(),
    "region": pa.string(),
    "churned": pa.int8(),
}
SCHEMA = pa.schema(TYPES)
INSTANTS = ("event_time", "arrived_at")


def generate(world: World, out: Path, progress: Callable[[int, int], None]) -> bool:
    """Write the world into `out`/churn, whole or not at all; False where this very world is there already."""
    note = json.dumps({**asdict(world), "generator": GENERATOR_VERSION}, default=str, sort_keys=True)
    mark = out / "world.json"
    if mark.is_file() and mark.read_text(encoding="utf-8") == note:
        return False
    temporary = out.with_name(f".{out.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "churn").mkdir(parents=True)
    waiting: list[pd.DataFrame] = []
    for day in range(world.days):
        waiting.append(arrivals(world, day))
        today = pd.Timestamp(world.start, tz="UTC") + pd.Timedelta(days=day + 1)
        if day % 30 == 29 or day == world.days - 1:
            waiting = [_write_until(pd.concat(waiting, ignore_index=True), today, temporary / "churn")]
        progress(day + 1, world.days)
    (temporary / "world.json").write_text(note, encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    temporary.rename(out)
    return True


def _write_until(rows: pd.DataFrame, until: pd.Timestamp, folder: Path) -> pd.DataFrame:
    """Write the batches of all days before `until`; rows that arrive later are given back."""
    arrived = rows["arrived_at"] < until
    for day, batch in rows[arrived].groupby(rows["arrived_at"][arrived].dt.strftime("%Y-%m-%d"), sort=True):
        ordered = batch.sort_values(["arrived_at", "event_time", "customer_id"], kind="stable")
        columns = {name: pa.array(ordered[name], from_pandas=True) for name in TYPES if name not in INSTANTS}
        for name in INSTANTS:
            columns[name] = pa.array(ordered[name].dt.tz_localize(None), pa.timestamp("us"), from_pandas=True).cast(
                pa.timestamp("us", "UTC")
            )
        table = pa.table({f.name: columns[f.name].cast(f.type) for f in SCHEMA}, schema=SCHEMA)
        pq.write_table(table, folder / f"arrived={day}.parquet", compression="zstd")
    return rows[~arrived]
