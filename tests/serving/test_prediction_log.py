"""What the prediction log promises while disks are full and processes are killed."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.log_frames import BATCH, BEGIN, LINES, header, read_frames
from pipeline.errors import BadConfiguration
from pipeline.log_losses import losses, recovered_losses
from pipeline.log_segments import held, segments
from pipeline.log_settings import LogSettings, log_settings
from pipeline.prediction_files import compact
from serving.prediction_log import PredictionLog, new_batch_prefix, new_prediction_id
from tests.predictions import batch, entry, logged, write_entry


@pytest.fixture
def log_of(tmp_path) -> LogSettings:
    return LogSettings(tmp_path / "predictions", fast_milliseconds=5)


def started(settings: LogSettings, server: str = "server", **more) -> PredictionLog:
    log = PredictionLog(settings, server, **more)
    log.start()
    return log


def wait_until(what, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.01)


@given(
    st.lists(st.tuples(st.sampled_from([LINES, BATCH, BEGIN]), st.binary(max_size=300), st.booleans()), max_size=8),
    st.data(),
)
def test_whatever_is_cut_or_changed_in_a_journal_what_stands_before_it_is_read_and_nothing_else(records, data):
    whole = [header(kind, payload, committed=flag) + payload for kind, payload, flag in records]
    content = b"".join(whole)
    cut = data.draw(st.integers(0, len(content)))
    frames, length = read_frames(content[:cut])
    ends = [sum(map(len, whole[: n + 1])) for n in range(len(whole))]
    many = sum(end <= cut for end in ends)
    assert [(f.kind, bytes(f.payload), f.committed) for f in frames] == records[:many]
    assert length == ([0, *ends])[many]
    if content:
        place, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
        changed = bytearray(content)
        changed[place] ^= 1 << bit
        frames, _ = read_frames(bytes(changed))
        assert len(frames) == sum(end <= place for end in ends)


def test_every_answer_is_in_the_log_once_it_is_closed_single_ones_and_batches(log_of):
    log = started(log_of)
    now = time.time()
    ids = [new_prediction_id(now) for _ in range(1000)]
    for number, one in enumerate(ids):
        write_entry(log, entry(one, now, user_id=f"u{number}"))
    prefix = new_batch_prefix(now)
    log.write(BATCH, batch(prefix, now, 100), 100)
    log.stop()
    found = {row["prediction_id"]: row for row in logged(log_of)}
    assert set(found) == {*ids, *(f"{prefix}{row:06x}" for row in range(100))}
    assert found[ids[7]]["user_id"] == "u7"
    assert found[f"{prefix}000063"]["features"] == {"tenure": 99, "plan": "basic"}
    assert found[f"{prefix}000063"]["scores"] == [0.25, 0.75]
    assert log.lost == 0
    assert compact(log_of).rows == 1100
    assert not segments(log_of.journal)
    assert not list(log_of.journal.iterdir())
    assert len(logged(log_of)) == 1100
    assert recovered_losses(log_of) == 0


def test_a_closed_segment_is_made_although_nothing_more_is_answered(log_of):
    log = started(replace(log_of, segment_seconds=0.1))
    write_entry(log, entry(new_prediction_id(1.7e9), 1.7e9))
    wait_until(lambda: len(segments(log_of.journal)) == 2)
    first, second = segments(log_of.journal)
    assert (held(first.path), held(second.path)) == (False, True)
    assert compact(log_of).rows == 1
    assert compact(log_of).rows == 0  # the open one stays
    log.stop()
    assert [row["time"].timestamp() for row in logged(log_of)] == [1.7e9]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_identifiers_do_not_repeat_in_a_forked_process():
    new_prediction_id(0)
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, "".join(new_prediction_id(0) for _ in range(300)).encode())
        os._exit(0)
    ours = {new_prediction_id(0) for _ in range(300)}
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read().decode()
    theirs = {text[start : start + 32] for start in range(0, len(text), 32)}
    assert len(ours) == len(theirs) == 300
    assert not ours & theirs


def killed_writer(home: Path, answered: Path, mode: str, seconds: float) -> memoryview:
    """Kill a writer at full speed after so long; what it had answered."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.serving.log_writer", str(home), str(answered), mode], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    return memoryview(answered.read_bytes()).cast("Q")


@pytest.mark.parametrize("seconds", [0.2, 1.0])
def test_after_a_kill_every_committed_answer_is_in_the_log(tmp_path, seconds):
    answered = killed_writer(tmp_path / "home", tmp_path / "answered", "strict", seconds)
    settings = log_settings({"EVERGREEN_HOME": str(tmp_path / "home")})
    for _ in range(2):
        found = {row["features"]["number"] for row in logged(settings)}
        acknowledged = {number for number in range(len(answered) - 1) if answered[number + 1]}
        assert len(acknowledged) >= answered[0] > 0
        assert acknowledged <= found
        compact(settings)
    assert recovered_losses(settings) == 0


@pytest.mark.parametrize("seconds", [0.2, 0.7, 1.5])
def test_after_a_kill_only_the_last_milliseconds_are_lost_and_they_are_counted_to_the_row(tmp_path, seconds, caplog):
    answered = killed_writer(tmp_path / "home", tmp_path / "answered", "fast", seconds)
    settings = log_settings({"EVERGREEN_HOME": str(tmp_path / "home")})
    found = {row["features"]["number"] for row in logged(settings)}
    assert found == set(range(len(found)))
    many = answered[0]
    assert many > 1000
    compact(settings)
    lost = recovered_losses(settings)
    # Accepted but not yet answered, or written but not yet answered, is at most the one in the writer's hands.
    assert len(found) + lost in (many, many + 1)
    assert [loss.server for loss in losses(settings)] == ["writer"]
    assert f"server writer ended with {lost} answers" in caplog.text
    if lost:
        last, first_lost = answered[many], answered[len(found) + 1]
        assert (last - first_lost) / 1000 < settings.fast_milliseconds + 500  # a busy machine lets threads wait
    compact(settings)
    assert recovered_losses(settings) == lost
    assert len(logged(settings)) == len(found)


def test_a_half_written_record_is_cut_and_its_rows_are_counted(log_of, caplog):
    log = started(replace(log_of, segment_seconds=3600))
    now = time.time()
    for number in range(300):
        write_entry(log, entry(new_prediction_id(now), now, features={"number": number}))
        if number == 99:
            wait_until(lambda: len(logged(log_of)) == 100)
    log.stop()
    (segment,) = segments(log_of.journal)
    content = segment.path.read_bytes()
    segment.path.write_bytes(content[:-5])
    intact = len(logged(log_of))
    assert 100 <= intact < 300
    done = compact(log_of)
    assert done.rows == intact
    assert done.torn_bytes > 0
    assert recovered_losses(log_of) == 300 - intact


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 1 MB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this process may not mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the room that is left."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        for size in (65_536, 4096, 512, 1):
            while _written(file, b"x" * size):
                pass
    return path


def _written(file, content: bytes) -> bool:
    try:
        return file.write(content) > 0
    except OSError:
        return False


def full(settings: LogSettings, folder: Path, log: PredictionLog, commit) -> Path:
    """Answer until the disk takes no more."""
    ballast = fill(folder)
    for _ in range(200):
        commit()
        if log.problem:
            return ballast
        time.sleep(0.05)
    raise AssertionError("a full disk was not noticed")


def test_a_full_disk_answers_on_and_loses_only_what_does_not_fit_into_memory(tiny_disk, caplog):
    settings = LogSettings(tiny_disk / "p", fast_milliseconds=5)
    log = started(settings, buffer_bytes=200_000)
    answered = 0

    def answer() -> None:
        nonlocal answered
        for _ in range(20):
            assert write_entry(log, entry(new_prediction_id(time.time()), time.time()))
            answered += 1

    ballast = full(settings, tiny_disk, log, answer)
    assert "No space left" in log.problem
    assert log.accepting
    for _ in range(100):
        answer()
    assert log.lost > 0
    ballast.unlink()
    wait_until(lambda: log.problem is None)
    answer()
    log.stop()
    assert "answers are not in the prediction log" in caplog.text
    assert len(logged(settings)) + log.lost == answered
    compact(settings)
    assert len(logged(settings)) + log.lost == answered
    assert [(loss.killed, loss.unwritten) for loss in losses(settings)] == [(0, log.lost)]


def test_a_full_disk_refuses_where_that_is_the_policy_until_there_is_room(tiny_disk):
    settings = LogSettings(tiny_disk / "p", fast_milliseconds=5, mode="strict", on_failure="refuse")
    log = started(settings)
    answered, refused = [], []

    def request() -> None:
        one, told = new_prediction_id(time.time()), threading.Event()

        def done(error: Exception | None) -> None:
            (answered if error is None else refused).append(one)
            told.set()

        log.commit([(1, orjson.dumps(entry(one, time.time())))], done)
        assert told.wait(10)

    request()
    ballast = full(settings, tiny_disk, log, request)
    assert not log.accepting
    assert "No space left" in log.problem
    request()
    assert refused
    ballast.unlink()
    wait_until(lambda: log.accepting)
    request()
    log.stop()
    assert log.lost == 0
    assert sorted(row["prediction_id"] for row in logged(settings)) == sorted(answered)
    request()  # after the end: refused, never left waiting
    assert len(refused) >= 3


def test_a_log_that_can_never_be_written_counts_everything(tmp_path, monkeypatch):
    monkeypatch.setattr("serving.prediction_log.STOP_SECONDS", 0.5)
    (tmp_path / "predictions").write_text("a file where a folder should be")
    log = started(LogSettings(tmp_path / "predictions"), buffer_bytes=1000)
    for _ in range(10):
        assert write_entry(log, entry(new_prediction_id(0), 0))
    assert log.problem
    log.stop()
    assert log.lost == 10


def test_journals_that_wait_for_a_dead_store_have_a_bound(log_of):
    settings = replace(log_of, max_local_bytes=20_000, on_failure="refuse", segment_seconds=0.2)
    log = started(settings)
    end = time.monotonic() + 20
    while log.accepting:
        assert time.monotonic() < end
        for _ in range(10):
            write_entry(log, entry(new_prediction_id(time.time()), time.time()))
        time.sleep(0.02)
    assert "EVERGREEN_LOG_MAX_LOCAL_BYTES" in log.problem
    compact(settings)
    wait_until(lambda: log.accepting)
    log.stop()
    assert log.lost == 0


def test_a_server_that_takes_a_name_again_gets_one_of_its_own(log_of):
    for _ in range(2):
        log = started(log_of)
        write_entry(log, entry(new_prediction_id(time.time()), time.time()))
        log.stop()
    assert len({segment.server for segment in segments(log_of.journal)}) == 2
    assert len(logged(log_of)) == 2


def test_handing_over_costs_a_microsecond_or_so(log_of):
    log = started(replace(log_of, fast_milliseconds=50))
    one = b"x" * 500
    best = 1.0
    for _ in range(20):
        begun = time.perf_counter()
        for _ in range(1000):
            log.write(1, one)
        best = min(best, (time.perf_counter() - begun) / 1000)
        time.sleep(0.06)
    log.stop()
    assert best < 5e-6
    assert log.lost == 0


def test_a_count_that_was_cut_off_is_no_reason_to_stop(log_of):
    log_of.journal.mkdir(parents=True)
    (log_of.journal / "gone.count").write_bytes(struct.pack("<H", 7))
    compact(log_of)
    assert not list(log_of.journal.iterdir())


def test_wrong_settings_are_refused_by_name():
    for name, value in (("LOG_MODE", "quick"), ("LOG_ON_FAILURE", "shrug"), ("LOG_FAST_MILLISECONDS", "soon"),
                        ("LOG_RETAIN_DAYS", "0"), ("STORAGE_URL", "s3://"), ("STORAGE_ENDPOINT_URL", "minio:9000"),
                        ("LOG_MAX_LOCAL_BYTES", "12")):  # fmt: skip
        with pytest.raises(BadConfiguration, match=f"EVERGREEN_{name}"):
            log_settings({f"EVERGREEN_{name}": value})
