"""The prediction log as files: compacted, merged, read, erased and deleted, with somebody killed in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, date, datetime

import boto3
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from pipeline import prediction_files, prediction_rows
from pipeline.adapters.observed import observed_days
from pipeline.config import override
from pipeline.core.log_frames import BATCH, LINES, header
from pipeline.core.schema import Schema
from pipeline.errors import BadConfiguration, OutsideFailure
from pipeline.log_losses import losses
from pipeline.log_segments import begin, segment_path, segments
from pipeline.log_settings import LogSettings
from pipeline.log_store import BucketStore, open_store
from pipeline.prediction_erasure import erase_user, retain
from pipeline.prediction_files import compact, days, merge
from pipeline.prediction_rows import find
from serving.log_keeper import Keeper, keeper_status
from serving.prediction_ids import new_batch_prefix, new_prediction_id
from serving.prediction_log import PredictionLog
from tests.conftest import customers
from tests.predictions import answered_rows, batch, entry, logged, write_entry

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC).timestamp()
DAY = 86_400
TODAY = date(2026, 1, 10)


@pytest.fixture
def log_of(tmp_path) -> LogSettings:
    return LogSettings(tmp_path / "predictions", fast_milliseconds=1)


def write_segment(settings: LogSettings, number: int, *records, server: str = "server") -> None:
    """A journal that its writer closed long ago. A record is a mapping, or the payload of a batch."""
    settings.journal.mkdir(parents=True, exist_ok=True)
    content = begin(server, 0)
    for record in records:
        kind, payload = (LINES, json.dumps(record).encode()) if isinstance(record, dict) else (BATCH, bytes(record))
        content += header(kind, payload) + payload
    segment_path(settings.journal, server, number).write_bytes(content)


def some(time: float, count: int = 3, **more):
    return [entry(new_prediction_id(time + n), time + n, **more) for n in range(count)]


def ids(rows) -> list[str]:
    return sorted(row["prediction_id"] for row in rows)


def stored(settings: LogSettings) -> list[str]:
    """Identifiers as somebody reads them who knows only Parquet."""
    store = open_store(settings)
    return sorted(
        one
        for folder, _ in days(store)
        for name in store.files(folder)
        for one in store.table(f"{folder}/{name}")["prediction_id"].to_pylist()
    )


def test_journals_become_files_by_model_and_day_and_read_the_same_before_and_after(log_of):
    rows = [*some(NOON), *some(NOON + DAY), *some(NOON, model="price", prediction=3.5, confidence=None, scores=3.5)]
    prefix = new_batch_prefix(NOON)
    write_segment(log_of, 1, *rows, batch(prefix, NOON, 2))
    before = logged(log_of)
    assert ids(before) == sorted([*ids(rows), f"{prefix}000000", f"{prefix}000001"])
    done = compact(log_of)
    assert (done.segments, done.rows, done.files, done.torn_bytes) == (1, 11, 3, 0)
    assert logged(log_of) == before
    table = answered_rows("price", date(2026, 1, 5), log_of)
    assert table["scores"].to_pylist() == [[3.5]] * 3
    assert table["confidence"].null_count == 3
    assert table["prediction"].to_pylist() == ["3.5"] * 3
    assert answered_rows("churn", date(2026, 1, 7), log_of).num_rows == 0
    (path,) = (log_of.folder / "churn" / "day=2026-01-06").iterdir()
    assert pq.read_schema(path).names == answered_rows("churn", date(2026, 1, 6), log_of).schema.names


def test_what_a_shadow_would_have_said_is_no_answer(log_of):
    (answered,) = some(NOON, 1)
    prefix, shadows = new_batch_prefix(NOON), new_batch_prefix(NOON)
    (shadow,) = some(NOON, 1, shadow_of=answered["prediction_id"], variant="challenger")
    write_segment(log_of, 1, answered, shadow, batch(prefix, NOON, 2), batch(shadows, NOON, 2, shadow_of=prefix))
    for _ in range(2):
        rows = answered_rows("churn", date(2026, 1, 5), log_of)
        assert ids(rows.to_pylist()) == sorted([answered["prediction_id"], f"{prefix}000000", f"{prefix}000001"])
        rows = answered_rows("churn", date(2026, 1, 5), log_of, shadows=True).to_pylist()
        paired = {row["prediction_id"]: row["shadow_of"] for row in rows if row["shadow_of"]}
        assert paired[f"{shadows}000001"] == f"{prefix}000001"
        assert len(paired) == 3
        compact(log_of)


def test_one_answer_is_found_by_its_name_in_a_journal_and_in_a_file(log_of):
    rows, prefix = some(NOON, 500), new_batch_prefix(NOON)
    write_segment(log_of, 1, *rows, batch(prefix, NOON, 10))
    for _ in range(2):
        found = find(rows[77]["prediction_id"], log_of)
        assert {name: found[name] for name in rows[77]} == rows[77]
        assert find(f"{prefix}000009", log_of)["features"] == {"tenure": 9, "plan": "basic"}
        for unknown in (new_prediction_id(NOON), f"{prefix}00000a", "nonsense", ""):
            with pytest.raises(BadConfiguration, match="no prediction"):
                find(unknown, log_of)
        compact(log_of)


def test_records_that_are_no_answers_are_set_aside_and_counted_and_stop_nothing(log_of):
    good = some(NOON)
    bad = [{"prediction_id": "x"}, *({**good[1], **more} for more in (
        {"time": "noon"}, {"time": 1e15}, {"model": "../x"}, {"prediction_id": None}))]  # fmt: skip
    write_segment(log_of, 1, good[0], *bad[:2], b"no arrow", good[1], *bad[2:], good[2])
    assert compact(log_of).rows == 3
    assert ids(logged(log_of)) == ids(good)
    assert [loss.unreadable for loss in losses(log_of)] == [6]
    assert b"no arrow" in (log_of.folder / "unreadable" / "server-000001").read_bytes()


def test_many_files_of_a_past_day_become_one_and_those_of_today_only_when_they_are_many(log_of, monkeypatch):
    monkeypatch.setattr(prediction_files, "MANY_TODAY", 4)
    rows = []
    for number in range(1, 4):
        rows += [*some(NOON + 60 * number), *some(NOON + 5 * DAY + 60 * number)]
        write_segment(log_of, number, *rows[-6:])
    compact(log_of)
    past, today = (log_of.folder / "churn" / f"day=2026-01-{day}" for day in ("05", "10"))
    assert merge(log_of, TODAY) == 3
    assert merge(log_of, TODAY) == 0
    assert (len(list(past.iterdir())), len(list(today.iterdir()))) == (1, 3)
    late = [*some(NOON), *some(NOON + 5 * DAY)]
    write_segment(log_of, 4, *late)
    compact(log_of)
    assert merge(log_of, TODAY) == 6
    assert (len(list(past.iterdir())), len(list(today.iterdir()))) == (1, 1)
    assert stored(log_of) == ids(logged(log_of)) == ids([*rows, *late])


def test_a_source_that_comes_again_after_its_merging_is_not_counted_twice(log_of):
    write_segment(log_of, 1, *some(NOON))
    write_segment(log_of, 2, *some(NOON))
    again = segment_path(log_of.journal, "server", 1).read_bytes()
    compact(log_of)
    merge(log_of, TODAY)
    write_segment(log_of, 3, *some(NOON))
    compact(log_of)
    merge(log_of, TODAY)  # a merged file of a merged file: it must remember both generations
    segment_path(log_of.journal, "server", 1).write_bytes(again)
    compact(log_of)
    assert len(stored(log_of)) == 12
    assert len(logged(log_of)) == 9
    merge(log_of, TODAY)
    erase_user("nobody", log_of)
    assert len(stored(log_of)) == len(logged(log_of)) == 9


def test_one_users_rows_are_erased_from_files_and_journals_and_nobody_elses(log_of):
    log = PredictionLog(replace(log_of, segment_seconds=0.3), "living")
    log.start()
    for number, user in enumerate(["u1", "u2", None, "u1"]):
        write_entry(log, entry(new_prediction_id(NOON + number), NOON + number, user_id=user))
    write_segment(log_of, 1, *some(NOON, user_id="u1"), *some(NOON, user_id="u1", model="price"))
    write_segment(log_of, 2, *some(NOON, user_id="u3"))
    compact(log_of)
    merge(log_of, TODAY)
    assert erase_user("u1", replace(log_of, fast_milliseconds=50), "churn") == 5
    left = [(row["model"], row["user_id"]) for row in logged(log_of)]
    assert sorted(left, key=str) == [("churn", "u2"), *[("churn", "u3")] * 3, ("churn", None), *[("price", "u1")] * 3]
    assert erase_user("u1", log_of) == 3
    assert erase_user("u1", log_of) == 0
    log.stop()
    assert len(logged(log_of)) == 5
    assert b"u1" not in b"".join(path.read_bytes() for path in log_of.folder.rglob("*") if path.is_file())


def test_days_past_the_retention_are_deleted(log_of):
    for number in range(8):
        write_segment(log_of, number, *some(NOON + number * DAY), *some(NOON + number * DAY, model="price"))
    compact(log_of)
    deleted = retain(log_of, 3, date(2026, 1, 12))
    assert deleted == [f"{model}/day=2026-01-0{day}" for model in ("churn", "price") for day in (5, 6, 7, 8)]
    assert {row["time"].day for row in logged(log_of)} == {9, 10, 11, 12}
    assert retain(log_of, 3, date(2026, 1, 12)) == []


def test_killed_before_any_of_its_file_operations_no_row_is_lost_or_doubled(log_of, tmp_path):
    rows = []
    for number in range(1, 4):
        rows += [*some(NOON + 60 * number), *some(NOON + DAY, 2, model="price")]
        write_segment(log_of, number, *rows[-5:], *some(NOON + 1, 1, user_id="gone"))
    (log_of.journal / "server.count").write_bytes(b"\x0c" + bytes(31))  # it died before it wrote some
    (tmp_path / "scratch").mkdir()
    command = [sys.executable, "-m", "tests.compaction_runner", str(log_of.folder), str(tmp_path / "scratch")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    attempts = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(attempts) > 25
    assert not attempts[-1]["killed"]
    for attempt in attempts:
        operations = attempt["operations"]
        assert set(attempt["read"]) >= set(ids(rows)), operations
        assert len(attempt["read"]) == len(set(attempt["read"])) <= len(rows) + 3, operations
        assert attempt["kept"] == ids(rows), operations
        assert attempt["rest"] == [], operations
        assert attempt["lost"] == 12 - 6, operations  # accepted, and in its last journal
        assert attempt["files"] == 2, operations


def test_a_day_is_read_whole_while_its_files_are_merged(log_of, monkeypatch):
    write_segment(log_of, 1, *some(NOON))
    write_segment(log_of, 2, *some(NOON))
    compact(log_of)
    listed = prediction_rows.day_files

    def merged_meanwhile(store, folder):
        found = listed(store, folder)
        merge(log_of, TODAY)
        return found

    monkeypatch.setattr(prediction_rows, "day_files", merged_meanwhile)
    assert answered_rows("churn", date(2026, 1, 5), log_of).num_rows == 6


@pytest.fixture
def bucket(monkeypatch):
    """A server of S3 that can be stopped and started again on the same port."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    endpoint = f"http://127.0.0.1:{port}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="log")
    yield endpoint, server
    server.stop()


def test_a_dead_store_keeps_the_journals_and_gets_them_when_it_is_back(log_of, bucket, caplog):
    endpoint, server = bucket
    settings = replace(log_of, storage_url="s3://log/evergreen", storage_endpoint_url=endpoint)
    first, second = some(NOON), some(NOON)
    write_segment(settings, 1, *first)
    keeper = Keeper(settings)
    assert keeper.turn(TODAY)
    assert keeper.problem is None
    assert ids(logged(settings)) == ids(first)
    write_segment(settings, 2, *second)
    server.stop()
    assert keeper.turn(TODAY)
    assert "EVERGREEN_STORAGE_URL" in keeper.problem
    assert "the prediction log's journals wait" in caplog.text
    status = keeper_status(settings, time.time())
    assert (status.problem, status.waiting_segments) == (keeper.problem, 1)
    with pytest.raises(OutsideFailure):
        logged(settings)
    again = ThreadedMotoServer(ip_address="127.0.0.1", port=int(endpoint.rpartition(":")[2]), verbose=False)
    again.start()
    try:
        keeper.turn(TODAY)
        assert keeper.problem is None
        assert not segments(settings.journal)
        assert ids(logged(settings)) == stored(settings) == ids([*first, *second])
        assert find(second[1]["prediction_id"], settings)["model"] == "churn"
        merge(settings, TODAY)
        assert len(open_store(settings).files("churn/day=2026-01-05")) == 1
        assert erase_user("nobody", settings) == 0
        assert retain(settings, 1, TODAY) == ["churn/day=2026-01-05"]
        assert logged(settings) == []
    finally:
        again.stop()


def test_a_store_that_fails_before_or_after_any_of_its_operations_loses_and_doubles_nothing(
    log_of, bucket, monkeypatch
):
    calls, limit, before = 0, 0, True

    def failing(method):
        def call(self, *arguments):
            nonlocal calls
            calls += 1
            if calls == limit and before:
                raise OutsideFailure("before")
            found = method(self, *arguments)
            if calls == limit:
                raise OutsideFailure("after")
            return found

        return call

    for name in ("put", "delete"):
        monkeypatch.setattr(BucketStore, name, failing(getattr(BucketStore, name)))
    finished = 0
    while finished < 2:
        limit += 1
        settings = replace(log_of, folder=log_of.folder / f"{limit}{before}",
                           storage_url=f"s3://log/{limit}{before}", storage_endpoint_url=bucket[0])  # fmt: skip
        rows = [*some(NOON), *some(NOON + 60)]
        write_segment(settings, 1, *rows[:3])
        write_segment(settings, 2, *rows[3:])
        calls = 0
        try:
            compact(settings)
            merge(settings, TODAY)
            before, limit, finished = False, 0, finished + 1
        except OutsideFailure:
            assert ids(logged(settings)) == ids(rows)
        calls = -1000
        compact(settings)
        merge(settings, TODAY)
        assert stored(settings) == ids(logged(settings)) == ids(rows)


def test_of_two_keepers_one_works_and_a_killed_one_is_followed_by_the_next(log_of, tmp_path):
    home = tmp_path / "home"
    environ = {**os.environ, "EVERGREEN_HOME": str(home)}
    settings = replace(log_of, folder=home / "predictions")
    first, second = (
        subprocess.Popen([sys.executable, "-m", "serving.log_keeper", *more], env=environ) for more in ([], [])
    )
    try:
        rows = some(NOON)
        write_segment(settings, 1, *rows)
        _until(lambda: stored(settings) == ids(rows))
        first.send_signal(signal.SIGKILL)
        first.wait()
        rows += some(NOON)
        write_segment(settings, 2, *rows[3:])
        _until(lambda: stored(settings) == ids(rows))
        rows += some(NOON)
        write_segment(settings, 3, *rows[6:])
        second.terminate()
        assert second.wait(20) == 0
        assert stored(settings) == ids(rows)  # its last round
    finally:
        for keeper in (first, second):
            keeper.kill()
            keeper.wait()


def _until(what, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.1)


def test_the_command_line_compacts_erases_retains_and_tells_losses(settings, write_model):
    model = write_model(customers(300), extra="monitoring: {data: predictions}\n")
    environ = {**os.environ, "EVERGREEN_HOME": str(settings.home), "EVERGREEN_MODELS": str(settings.models_dir)}

    def run(*arguments: str, status: int = 0):
        command = [sys.executable, "-m", "pipeline", "predictions", *arguments, "--json"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout) if status == 0 else done.stderr

    write_segment(settings.log, 1, *some(NOON, user_id="u1"), *some(NOON, 2, user_id="u2"))
    assert run("compact")["rows"] == 5
    schema = Schema({"tenure": "number"}, {})
    (day,) = observed_days(override(model, {}), schema, date(2026, 1, 5), date(2026, 1, 5), settings)
    assert day.rows == 5
    assert run("erase", "--user", "u1") == {"user": "u1", "model": None, "erased": 3, "copies": 3}
    assert pq.read_metadata(day.path).num_rows == 2
    assert "EVERGREEN_LOG_RETAIN_DAYS" in run("retain", status=2)
    assert run("retain", "--days", "1")["deleted"] == ["churn/day=2026-01-05"]
    (settings.log.journal / "dead.count").write_bytes(b"\x07" + bytes(31))
    assert run("losses")["total"] == 7
    assert run("losses") == {"total": 7, "losses": [{"server": "dead", "killed": 7, "unwritten": 0, "unreadable": 0}]}
