"""How fast a job goes its way on SQLite: sending, draining, and doing nothing.

    python benchmarks/spine.py [--jobs N] [--rounds N] [--only NAME]

Beside each figure of sending stands a bare floor: the same row written with sqlite3 and
nothing else, in the same run, in turns. Absolute figures of two machines, or of two hours,
do not compare; ratios within one run do.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from flask import Flask

sys.path.insert(0, str(Path(__file__).parent))

import app as bench_app

from flask_taskq.message import generate_id

PAYLOAD = "x" * 100


class Bench:
    """A fresh database, and an app on it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bench"))
        self.database = self.folder / "taskq.sqlite3"
        os.environ["BENCH_FOLDER"] = str(self.folder)
        self.app: Flask = bench_app.create_app()
        self.broker = bench_app.taskq.broker_for(self.app)
        self.broker.engine.connect()

    def close(self) -> None:
        self.broker.close()
        shutil.rmtree(self.folder)

    def query(self, sql: str) -> tuple[int, ...]:
        connection = sqlite3.connect(self.database, timeout=30)
        try:
            row: tuple[int, ...] = connection.execute(sql).fetchone()
            return row
        finally:
            connection.close()


def per_second(count: int, action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return count / (time.perf_counter() - began)


def bare_inserter(path: Path) -> Callable[[], None]:
    """One row with the columns of a job's, in a transaction of its own, fsynced."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE job (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, queue TEXT, actor TEXT,"
        " priority INT, status TEXT, place INT, message BLOB, created_at INT)"
    )
    connection.execute("CREATE INDEX ready ON job (queue, priority, place)")
    message = json.dumps({"args": [PAYLOAD]}).encode()

    def insert() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO job VALUES (NULL, ?, 'default', 'noop', 0, 'queued', 1, ?, 1)",
            (generate_id(), message),
        )
        connection.execute("COMMIT")

    return insert


def send(count: int) -> None:
    for _ in range(count):
        bench_app.noop.send(PAYLOAD)


def measure_send(rounds: int) -> dict[str, float]:
    """One thread, one job at a time, against a bare INSERT; then eight threads."""
    bench = Bench()
    count = 500
    insert = bare_inserter(bench.folder / "bare.sqlite3")
    ours, bare, eight = [], [], []

    def send_in_context() -> None:
        with bench.app.app_context():
            send(count // 2)

    def send_from_eight_threads() -> None:
        threads = [threading.Thread(target=send_in_context) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with bench.app.app_context():
        send(50)
        for _ in range(rounds):
            bare.append(per_second(count, lambda: [insert() for _ in range(count)]))
            ours.append(per_second(count, lambda: send(count)))
            eight.append(per_second(8 * (count // 2), send_from_eight_threads))
    bench.close()
    return {
        "send(), one thread, per second": statistics.median(ours),
        "bare INSERT, synchronous=FULL, per second": statistics.median(bare),
        "send() / bare INSERT": statistics.median(
            a / b for a, b in zip(ours, bare, strict=True)
        ),
        "send(), eight threads, per second": statistics.median(eight),
        "eight threads / one thread": statistics.median(
            a / b for a, b in zip(eight, ours, strict=True)
        ),
    }


def measure_send_many(rounds: int) -> dict[str, float]:
    """A thousand messages at a time."""
    bench = Bench()
    figures = []
    with bench.app.app_context():
        for _ in range(rounds * 2):

            def send_thousand() -> None:
                bench_app.taskq.send_many(
                    [bench_app.noop.message(PAYLOAD) for _ in range(1000)]
                )

            figures.append(per_second(1000, send_thousand))
    bench.close()
    return {"send_many(), 1000 at a time, per second": statistics.median(figures)}


def start_worker(log_level: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flask", "--app", f"{bench_app.__file__}:create_app"]
    options = ["-p", "1", "-t", "8", "--log-level", log_level]
    return subprocess.Popen([*command, "taskq", "worker", *options], stderr=subprocess.DEVNULL)


def stop_worker(worker: subprocess.Popen[bytes]) -> None:
    worker.send_signal(signal.SIGTERM)
    worker.wait()


def drain(jobs: int, log_level: str) -> float:
    bench = Bench()
    with bench.app.app_context():
        for _ in range(jobs // 1000):
            bench_app.taskq.send_many([bench_app.noop.message(PAYLOAD) for _ in range(1000)])
    worker = start_worker(log_level)
    left = "SELECT count(*) FROM taskq_job WHERE status IN ('queued', 'running')"
    while bench.query(left)[0]:
        time.sleep(0.2)
    stop_worker(worker)
    began, ended = bench.query("SELECT min(started_at), max(finished_at) FROM taskq_job")
    succeeded = bench.query("SELECT count(*) FROM taskq_job WHERE status = 'succeeded'")[0]
    assert succeeded == jobs // 1000 * 1000, f"{succeeded} of {jobs} succeeded"
    bench.close()
    return succeeded / ((ended - began) / 1000)


def measure_drain(rounds: int, jobs: int) -> dict[str, float]:
    """One process of eight threads empties a full queue."""
    figures: dict[str, list[float]] = {"warning": [], "info": []}
    for _ in range(rounds):
        for level, values in figures.items():
            values.append(drain(jobs, level))
    return {
        f"drain, 1 process of 8 threads, --log-level {level}, per second": (
            statistics.median(values)
        )
        for level, values in figures.items()
    }


def cpu_seconds(root: int) -> float:
    """What a process and its descendants have used so far."""
    ticks, parents = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(stat.parent.name)
        parents[pid], ticks[pid] = int(fields[1]), int(fields[11]) + int(fields[12])
    tree = {root}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return sum(ticks.get(pid, 0) for pid in tree) / os.sysconf("SC_CLK_TCK")


def measure_idle(seconds: float = 15) -> dict[str, float]:
    """A worker with nothing to do: supervisor and one process of eight threads."""
    bench = Bench()
    with bench.app.app_context():
        worker = start_worker("warning")
        bench_app.noop.send(PAYLOAD).get_result(block=True, timeout=30_000)
        time.sleep(3)
        before = cpu_seconds(worker.pid)
        time.sleep(seconds)
        used = cpu_seconds(worker.pid) - before
    stop_worker(worker)
    bench.close()
    return {"idle worker, percent of a core": 100 * used / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=30_000, help="jobs to drain")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["send", "many", "drain", "idle"])
    arguments = parser.parse_args()
    measures: dict[str, Callable[[], dict[str, float]]] = {
        "send": lambda: measure_send(arguments.rounds),
        "many": lambda: measure_send_many(arguments.rounds),
        "drain": lambda: measure_drain(arguments.rounds, arguments.jobs),
        "idle": measure_idle,
    }
    for name, measure in measures.items():
        if arguments.only in (None, name):
            for what, figure in measure().items():
                shown = f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}"
                print(f"{shown:>10}  {what}", flush=True)


if __name__ == "__main__":
    main()
