"""How many functions are called for one job."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from types import CodeType
from types import FrameType
from typing import Any
from typing import Final

from flask_taskq.worker.threads.worker import Worker

from .bench import Bench
from .bench import PATIENCE
from .rounds import Sizes
from .table import Row

#: How many jobs wait in the backlog of which one is counted.
BACKLOG: Final = 1_000


class Calls:
    """Counts calls of Python functions, in the threads in which it was started."""

    def __init__(self) -> None:
        self._counts: Counter[CodeType] = Counter()

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        """For :func:`sys.setprofile`. Functions of C code are not counted."""
        if event == "call":
            self._counts[frame.f_code] += 1

    def rows(self, name: str, jobs: int) -> Iterator[Row]:
        """What each of so many jobs has taken. A function that hardly any job calls is left
        out."""
        often = {code: n for code, n in self._counts.items() if n >= jobs / 2}
        files = {code.co_filename for code in often}
        yield Row("calls", f"{name}: calls", "", [sum(self._counts.values()) / jobs])
        yield Row("calls", f"{name}: functions", "", [float(len(often))])
        yield Row("calls", f"{name}: files", "", [float(len(files))])


def measure_calls(sizes: Sizes) -> Iterator[Row]:
    """Calls of Python functions, of which C code makes none: the same each time."""
    with Bench(sizes.url) as bench:
        bench.send(1)  # what is found out once
        calls = Calls()
        sys.setprofile(calls.note)
        try:
            bench.send(1)
        finally:
            sys.setprofile(None)
        yield from calls.rows("one send()", 1)
        bench.broker.engine.queues.purge("default")
    yield from _count_runs(sizes, "one job of a backlog", BACKLOG)
    yield from _count_runs(sizes, "one job, on an idle worker", 1)


def _count_runs(sizes: Sizes, name: str, jobs: int) -> Iterator[Row]:
    with Bench(sizes.url) as bench:
        calls = Calls()
        worker = Worker(bench.broker, worker_threads=8)
        _in_its_threads(worker.start, calls)
        try:
            first = bench.send_many(8)
            for job in first:
                bench.broker.wait_for_record(job.id, PATIENCE)
            calls._counts.clear()
            bench.broker.engine.queues.pause("default")
            sent = bench.send_many(jobs)
            bench.broker.engine.queues.resume("default")
            for job in sent:
                bench.broker.wait_for_record(job.id, PATIENCE)
        finally:
            worker.stop(0)
    yield from calls.rows(name, jobs)


def _in_its_threads(start: Callable[[], None], calls: Calls) -> None:
    threading.setprofile(calls.note)
    try:
        start()
    finally:
        threading.setprofile(None)
