"""How fast the SQLite engine is, beside a bare INSERT in the same run.

    python benchmarks/sqlite_engine.py [folder]

Every figure is the median of several rounds; on a busy machine read them as ratios. The
folder says which disk is measured; by default it is the one of temporary files.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from flask_taskq.engines.base import Done
from flask_taskq.engines.base import Engine
from flask_taskq.engines.base import Envelope

ROUNDS = 5
MESSAGE = b"x" * 200


def new_engine(path: Path) -> Engine:
    engine = make_engine(Settings(broker_url=f"sqlite:///{path}"), Clock())
    engine.connect()
    return engine


def envelopes(count: int) -> list[Envelope]:
    now = int(time.time() * 1000)
    return [
        Envelope(
            id=os.urandom(16).hex(),
            queue="default",
            actor="add",
            priority=0,
            message=MESSAGE,
            created_at=now,
        )
        for _ in range(count)
    ]


def rate(count: int, work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def bare_insert(path: Path, count: int) -> float:
    """One row per commit, a log, and nothing else of ours."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("PRAGMA synchronous = full")
    connection.execute("CREATE TABLE IF NOT EXISTS job (id TEXT PRIMARY KEY, message BLOB)")
    rows = [(envelope.id, envelope.message) for envelope in envelopes(count)]

    def insert() -> None:
        for row in rows:
            connection.execute("INSERT INTO job VALUES (?, ?)", row)

    result = rate(count, insert)
    connection.close()
    return result


def one_by_one(engine: Engine, count: int) -> float:
    jobs = envelopes(count)

    def send() -> None:
        for job in jobs:
            engine.enqueue([job])

    return rate(count, send)


def threads(engine: Engine, number: int, count: int) -> float:
    jobs = envelopes(count)

    def send(own: list[Envelope]) -> None:
        for job in own:
            engine.enqueue([job])

    def run() -> None:
        running = [
            threading.Thread(target=send, args=(jobs[n::number],)) for n in range(number)
        ]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    return rate(count, run)


def batches(engine: Engine, size: int, count: int) -> float:
    jobs = envelopes(count)

    def send() -> None:
        for n in range(0, count, size):
            engine.enqueue(jobs[n : n + size])

    return rate(count, send)


def drain(engine: Engine, size: int = 64) -> float:
    """Everything that the other measurements have left in the queue."""
    engine.workers.register("bench")
    consumer = engine.consumer(["default"], "bench")

    def work() -> None:
        deliveries = consumer.fetch(size, 0)
        while deliveries:
            done = [Done(delivery=delivery, result=b"null") for delivery in deliveries]
            deliveries = consumer.settle_if_held(done, size).deliveries

    result = rate(engine.queues.depths()["default"], work)
    consumer.close()
    return result


def wake_up(engine: Engine, count: int) -> float:
    """Milliseconds from the beginning of enqueue() to the end of a fetch that waits."""
    engine.workers.register("wake")
    consumer = engine.consumer(["wake"], "wake")
    fetched = threading.Semaphore(0)
    ends = []

    def fetch() -> None:
        for _ in range(count):
            for delivery in consumer.fetch(1, 60_000):
                ends.append(time.perf_counter())
                consumer.settle_if_held([Done(delivery=delivery, result=b"null")])
            fetched.release()

    thread = threading.Thread(target=fetch)
    thread.start()
    took = []
    for n in range(count):
        time.sleep(0.02)
        began = time.perf_counter()
        job = envelopes(1)[0]
        engine.enqueue([Envelope(**{**_fields(job), "queue": "wake"})])
        fetched.acquire()
        took.append((ends[n] - began) * 1000)
    thread.join()
    consumer.close()
    return statistics.median(took)


def _fields(envelope: Envelope) -> dict[str, object]:
    return {name: getattr(envelope, name) for name in envelope.__struct_fields__}


def idle(engine: Engine, seconds: float) -> float:
    """Share of a core that a fetch takes while nothing happens, in per cent."""
    engine.workers.register("idle")
    consumer = engine.consumer(["idle"], "idle")
    consumer.fetch(1, 100)
    began = time.process_time()
    consumer.fetch(1, int(seconds * 1000))
    used = time.process_time() - began
    consumer.close()
    return 100 * used / seconds


def _write(path: Path, count: int, ready: Any, results: Any) -> None:
    engine = new_engine(path)
    took = []
    ready.wait()
    for job in envelopes(count):
        began = time.perf_counter()
        engine.enqueue([job])
        took.append((time.perf_counter() - began) * 1000)
    engine.close()
    results.put(took)


def processes(path: Path, number: int, count: int) -> tuple[float, float, float]:
    """Jobs a second that processes send together, the 99th percentile and the worst in ms."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    ready = context.Barrier(number)
    running = [
        context.Process(target=_write, args=(path, count, ready, results))
        for _ in range(number)
    ]
    for process in running:
        process.start()
    took = [value for _ in running for value in results.get()]
    for process in running:
        process.join()
    slowest = max(sum(took[n * count : (n + 1) * count]) for n in range(number)) / 1000
    return number * count / slowest, statistics.quantiles(took, n=100)[98], max(took)


def main(folder: Path) -> None:
    engine = new_engine(folder / "jobs.sqlite3")
    measurements: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        measurements.setdefault(name, []).append(value)

    for _ in range(ROUNDS):
        note("bare INSERT, one per commit", bare_insert(folder / "bare.sqlite3", 2_000))
        note("enqueue, one thread", one_by_one(engine, 2_000))
        note("enqueue, eight threads", threads(engine, 8, 8_000))
        note("enqueue, 1,000 at a time", batches(engine, 1_000, 30_000))
        note("settle 64 and fetch 64", drain(engine))
    bare = statistics.median(measurements["bare INSERT, one per commit"])
    for name, values in measurements.items():
        middle = statistics.median(values)
        print(f"{name:32} {middle:10,.0f} jobs/s {middle / bare:8.2f} x bare")
    print(f"{'wake-up, median':32} {wake_up(engine, 100):10.2f} ms")
    print(f"{'idle fetch':32} {idle(engine, 15):10.2f} % of a core")
    together, slow, slowest = processes(folder / "processes.sqlite3", 8, 1_000)
    print(f"{'8 processes, one by one':32} {together:10,.0f} jobs/s", end=", ")
    print(f"p99 {slow:.1f} ms, slowest {slowest:.0f} ms")
    engine.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).resolve())
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
