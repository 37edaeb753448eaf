"""A server that does nothing but answer, as fast as it can, until it is killed.

`python -m tests.serving.log_writer HOME ANSWERED fast|strict`: ANSWERED is a file of numbers of 8 bytes: how many were
answered, and of each the microseconds since 1970.
"""

from __future__ import annotations

import mmap
import sys
import threading
import time
from pathlib import Path

import orjson

from pipeline.log_settings import log_settings
from serving.prediction_log import PredictionLog, new_prediction_id
from tests.predictions import entry

MOST = 4_000_000


def main() -> None:
    home, answered, mode = sys.argv[1:]
    settings = log_settings({"EVERGREEN_HOME": home, "EVERGREEN_LOG_MODE": mode})
    with Path(answered).open("w+b") as file:
        file.truncate(8 * (MOST + 1))
        numbers = memoryview(mmap.mmap(file.fileno(), 8 * (MOST + 1))).cast("Q")
    log = PredictionLog(settings, "writer")
    log.start()
    print("ready", flush=True)
    (fast if mode == "fast" else strict)(log, numbers)


def payload(number: int) -> bytes:
    now = time.time()
    return orjson.dumps(entry(new_prediction_id(now), now, features={"number": number}))


def fast(log: PredictionLog, numbers: memoryview) -> None:
    """Some 50,000 a second, twice what a worker answers; as an event loop does, it rests where nothing waits."""
    for number in range(MOST):
        if number % 50 == 0:
            time.sleep(0.001)
        assert log.write(1, payload(number))
        numbers[number + 1] = time.time_ns() // 1000
        numbers[0] = number + 1


def strict(log: PredictionLog, numbers: memoryview) -> None:
    """64 connections, each with one request under way."""
    free = threading.Semaphore(64)

    def done(number: int, error: Exception | None) -> None:
        assert error is None
        numbers[number + 1] = 1
        numbers[0] += 1
        free.release()

    for number in range(MOST):
        free.acquire()
        log.commit([(1, payload(number))], lambda error, number=number: done(number, error))


if __name__ == "__main__":
    main()
