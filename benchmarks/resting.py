"""Little or nothing is done, and jobs wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

from .bench import Bench
from .bench import PATIENCE
from .machine import cpu_seconds
from .machine import proportional
from .machine import resident
from .rounds import Sizes
from .table import Row

#: How long a worker is given to become idle, in seconds.
SETTLING: Final = 3.0

SECOND: Final = 1.0

#: When delayed jobs are due, in milliseconds: not while anything is measured.
LATER: Final = 3_600_000


def measure_idle(sizes: Sizes) -> Iterator[Row]:
    """The CPU of a worker that has nothing to do: its supervisor and one process."""
    found: dict[str, list[float]] = {}
    with Bench(sizes.url) as bench, bench.worker() as worker:
        worker.wait_until_ready()
        time.sleep(min(SETTLING, sizes.seconds))
        watched = {"worker": [worker.supervisor, *worker.children]}
        if bench.storage.server is not None:
            watched["server"] = [bench.storage.server]
        for _ in range(sizes.rounds):
            before = {name: cpu_seconds(*pids) for name, pids in watched.items()}
            time.sleep(sizes.seconds)
            for name, pids in watched.items():
                used = cpu_seconds(*pids) - before[name]
                found.setdefault(name, []).append(100 * used / sizes.seconds)
    for name, values in found.items():
        yield Row("idle", f"idle: CPU of the {name}", "%", values)


def measure_seldom(sizes: Sizes) -> Iterator[Row]:
    """The CPU of a worker that gets one job a second, with all its processes."""
    for name, processes in [("of one process", 1), ("by default", None)]:
        found = []
        with Bench(sizes.url) as bench, bench.worker(processes=processes) as worker:
            worker.wait_until_ready()
            time.sleep(min(SETTLING, sizes.seconds))
            watched = [worker.supervisor, *worker.children]
            for _ in range(sizes.rounds):
                before = cpu_seconds(*watched)
                began = time.monotonic()
                _send_one_a_second(bench, began + sizes.seconds)
                used, took = cpu_seconds(*watched) - before, time.monotonic() - began
                found.append(100 * used / took)
        yield Row("seldom", f"a job a second: CPU of a worker {name}", "%", found)


def _send_one_a_second(bench: Bench, until: float) -> None:
    due = time.monotonic()
    while due < until:
        bench.send(1)
        due += SECOND
        time.sleep(max(0.0, min(due, until) - time.monotonic()))


def measure_memory(sizes: Sizes) -> Iterator[Row]:
    """What a worker's processes take, and whether jobs that are due later take more."""
    process, supervisor, growth, bare, both, anew = [], [], [], [], [], []
    for _ in range(sizes.rounds):
        with Bench(sizes.url) as bench:
            bare.append(_bare_memory(bench.storage.driver))
            with bench.worker() as worker:
                worker.wait_until_ready()
                supervisor.append(resident(worker.supervisor))
                [child] = worker.children
                process.append(resident(child))
                both.append(proportional(worker.supervisor, child))
                bench.fill(sizes.delayed, delay=LATER)
                # One more job, so that it has looked at what waits.
                worker.wait_until_ready()
                growth.append(resident(child) - process[-1])
                os.kill(child, signal.SIGKILL)
                worker.wait_until_ready()
                anew.append(proportional(worker.supervisor, *worker.children))
    yield Row("memory", "a worker's process", "MiB", process, bare)
    yield Row("memory", f"... more beside {sizes.delayed:,} delayed jobs", "MiB", growth)
    yield Row("memory", "its supervisor", "MiB", supervisor)
    yield Row("memory", "both, what they share counted once", "MiB", both)
    yield Row("memory", "... when the process was replaced", "MiB", anew)


def measure_start(sizes: Sizes) -> Iterator[Row]:
    """From the command to the end of the first job, which waits for it."""
    took = []
    for _ in range(sizes.rounds):
        with Bench(sizes.url) as bench:
            [job] = bench.send_many(1)
            began = time.monotonic()
            with bench.worker():
                bench.broker.wait_for_record(job.id, PATIENCE)
                took.append(1000 * (time.monotonic() - began))
    yield Row("start", "from the command to the first result", "ms", took)


def _bare_memory(driver: str) -> float:
    """Of a process that has imported Flask and the driver, and nothing of ours."""
    code = (
        f"import flask, {driver}, pathlib;"
        "print(pathlib.Path('/proc/self/statm').read_text().split()[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return int(done.stdout) * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure_room(sizes: Sizes) -> Iterator[Row]:
    """How much room a job takes while it waits. The baseline is its message alone."""
    found, bare = [], []
    for _ in range(sizes.rounds):
        with Bench(sizes.url) as bench:
            before = bench.storage.bytes_used()
            bench.fill(sizes.delayed)
            found.append((bench.storage.bytes_used() - before) / sizes.delayed)
            bare.append(float(len(bench.message)))
    yield Row("room", "a waiting job", "bytes", found, bare)
