"""A thousand rows a request in each form, and deployments under load."""

from __future__ import annotations

import io
import json
import statistics
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa

from benchmarks.serving import servers
from benchmarks.serving.worlds import World, forest
from benchmarks.serving.wrk import load
from pipeline.ledger import Event
from pipeline.log_settings import log_settings
from pipeline.package_files import read_package
from pipeline.prediction_files import once
from pipeline.prediction_rows import answered_parts
from pipeline.rollout import Plan, RolloutStore

ROWS = 1_000
SWAPS, CONNECTIONS = 20, 16


def batches(world: World, repeats: int, seconds: float) -> None:
    """Rows a second over HTTP beside what the engine does in process with the matrix at hand."""
    matrix = np.ascontiguousarray(world.frame.to_numpy())
    with RolloutStore(f"sqlite:///{world.home / 'evergreen.db'}") as store:
        active = store.get(world.name).active
    assert active is not None
    predictor = read_package(world.home / active.variants[0].package).predictor
    took = []
    for _ in range(50):
        begun = time.perf_counter()
        predictor.scores_of_coded(matrix)
        took.append(time.perf_counter() - begun)
    engine = ROWS / statistics.median(took)
    print(
        f"\nForest, {ROWS:,} rows a request, one worker; in process {engine:,.0f} rows/s, "
        f"{statistics.median(took) * 1e3:.2f} ms"
    )
    model = f"/models/{world.name}"
    head, raw = _tensors(matrix)
    forms = {
        "JSON, rows": (f"/v1{model}:predict", json.dumps({"instances": world.rows}).encode(), {}),
        "JSON, tensor": (f"/v2{model}/infer", _json_tensor(matrix), {}),
        "binary tensor": (f"/v2{model}/infer", head + raw, {"Inference-Header-Content-Length": str(len(head))}),
        "Arrow": (f"{model}/arrow", _arrow(world, matrix), {"Content-Type": "application/vnd.apache.arrow.stream"}),
    }
    peer = servers.ours(world, servers.ports(), 1)
    with servers.running(peer, world) as server:
        for name, (path, body, headers) in forms.items():
            for connections in (1, 4):
                load(server.address + path, [body], connections, 1, headers)
                runs = [load(server.address + path, [body], connections, seconds, headers) for _ in range(repeats)]
                rows = statistics.median(one.per_second for one in runs) * ROWS
                bad = sum(one.bad for one in runs)
                print(f"  {name:<16}{connections} connections{rows:>12,.0f} rows/s{rows / engine:>8.0%} of in process"
                      + (f"  {bad} BAD" if bad else ""), flush=True)  # fmt: skip


def _tensors(matrix: np.ndarray) -> tuple[bytes, bytes]:
    raw = matrix.astype("<f8").tobytes()
    given = {
        "name": "rows",
        "shape": list(matrix.shape),
        "datatype": "FP64",
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
    return head, raw


def _json_tensor(matrix: np.ndarray) -> bytes:
    given = {"name": "rows", "shape": list(matrix.shape), "datatype": "FP64", "data": matrix.reshape(-1).tolist()}
    return json.dumps({"inputs": [given]}).encode()


def _arrow(world: World, matrix: np.ndarray) -> bytes:
    table = pa.table({name: matrix[:, place] for place, name in enumerate(world.frame.columns)})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def swaps(home: Path, seconds: float) -> None:
    """Ten deployments and ten rollbacks in a minute under load: latency with and without, and what failed."""
    first = forest(home, 0)
    with RolloutStore(f"sqlite:///{home / 'evergreen.db'}") as store:
        plans = [_plan(store, first.name)]
        forest(home, 1)
        plans.append(_plan(store, first.name))
        peer = servers.ours(first, servers.ports(), 2)
        with servers.running(peer, first) as server:
            url = server.address + peer.path
            load(url, first.bodies, CONNECTIONS, 1)
            quiet = load(url, first.bodies, CONNECTIONS, seconds / 4)
            moved: list[float] = []
            stop = threading.Event()

            def turn() -> None:
                while len(moved) < SWAPS and not stop.is_set():
                    begun = time.perf_counter()
                    _swap(store, first.name, plans[len(moved) % 2])
                    moved.append(time.perf_counter() - begun)
                    stop.wait(max(0.0, seconds / SWAPS - moved[-1] - 0.05))

            thread = threading.Thread(target=turn)
            thread.start()
            busy = load(url, first.bodies, CONNECTIONS, seconds)
            stop.set()
            thread.join()
    kept, mixed = _mixed(home, first.name, plans)
    print(
        f"\nForest, {CONNECTIONS} connections, 2 workers: {quiet.per_second:,.0f}/s, p99 {quiet.p99_ms:.2f} ms; "
        f"with {len(moved)} swaps in {seconds:g} s (each {statistics.median(moved):.2f} s) {busy.per_second:,.0f}/s, "
        f"p99 {busy.p99_ms:.2f} ms, {busy.bad} failed; {mixed} of {kept:,} answers in the log are not those of the "
        "version that they name"
    )


def _mixed(home: Path, model: str, plans: Sequence[Plan]) -> tuple[int, int]:
    """Answers in the log, and how many of them are not what the named version computes."""
    columns = ["prediction_id", "digest", "features", "scores"]
    parts = answered_parts(model, datetime.now(UTC).date(), log_settings({}, home / "predictions"), columns)
    rows = once(pa.concat_tables(parts))
    predictors = {one.digest: read_package(home / one.package).predictor for one in (p.variants[0] for p in plans)}
    mixed = 0
    for batch in rows.to_batches(max_chunksize=20_000):
        given = [list(orjson.loads(text).values()) for text in batch["features"].to_pylist()]
        matrix, digests = np.array(given, dtype=np.float64), np.array(batch["digest"].to_pylist())
        written = np.array(batch["scores"].to_pylist())
        right = np.zeros(len(matrix), dtype=bool)
        for digest, predictor in predictors.items():
            named = digests == digest
            right[named] = (np.abs(predictor.scores_of_coded(matrix[named]) - written[named]) < 1e-9).all(axis=1)
        mixed += int((~right).sum())
    return len(rows), mixed


def _plan(store: RolloutStore, model: str) -> Plan:
    active = store.get(model).active
    assert active is not None
    return active


def _swap(store: RolloutStore, model: str, plan: Plan) -> None:
    """As a deployment does: staged, proven by every worker, activated."""
    staged = store.stage(model, plan, store.get(model).generation)
    while any(s.generation < staged.generation or s.staged_state != "ready" for s in store.servers(model)):
        time.sleep(0.05)
    version = plan.variants[0].version
    store.activate(model, staged.generation, Event(model, "promoted", version, {}), datetime.now(UTC))
