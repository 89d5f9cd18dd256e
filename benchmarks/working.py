"""Jobs are run."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Final
from typing import NamedTuple

from flask_taskq.jobs.delivery import Succeeded
from flask_taskq.jobs.message import generate_id
from flask_taskq.jobs.record import Status

from . import app as bench_app
from .bench import Bench
from .bench import MANY
from .bench import PATIENCE
from .machine import cpu_seconds
from .rounds import opened
from .rounds import percentile
from .rounds import rate
from .rounds import Sizes
from .storages import Bare
from .table import Row

#: How long the system is left alone before each job of the latency, in seconds.
PAUSE: Final = 0.02

#: How many jobs are settled and fetched in a step beside a backlog, and how many steps.
STEP: Final = 8
STEPS: Final = 200

#: How many jobs wait in a short queue.
SHORT: Final = 10_000


class _Drained(NamedTuple):
    """How a full queue was emptied.

    :param rate: jobs a second.
    :param bare: likewise, on the baseline.
    :param worker: CPU of the worker's processes, in microseconds for each job.
    :param server: likewise, of the server; None if there is none to be watched.
    """

    rate: float
    bare: float
    worker: float
    server: float | None


def measure_drain(sizes: Sizes) -> Iterator[Row]:
    """A worker of one process and eight threads empties a full queue."""
    levels = ("warning", "info")
    found: dict[str, list[_Drained]] = {level: [] for level in levels}
    for _ in range(sizes.rounds):
        for level in levels:
            found[level].append(_drain(sizes, level))
    for level, rounds in found.items():
        name = f"drain, --log-level {level}"
        yield Row("drain", name, "jobs/s", [x.rate for x in rounds], [x.bare for x in rounds])
    for level, rounds in found.items():
        name = f"drain, --log-level {level}: CPU of the worker"
        yield Row("drain", name, "us/job", [x.worker for x in rounds])
    servers = [x.server for x in found["warning"] if x.server is not None]
    if servers:
        yield Row("drain", "drain: CPU of the server", "us/job", servers)


def _drain(sizes: Sizes, log_level: str) -> _Drained:
    with Bench(sizes.url) as bench, opened(bench, 1) as [baseline]:
        for _ in range(0, sizes.jobs, MANY):
            baseline.send_many(MANY)
        bare = rate(-(-sizes.jobs // MANY) * MANY, baseline.drain)
        engine = bench.broker.engine
        # So that the start of the worker is no part of what is measured.
        engine.queues.pause("default")
        jobs = bench.send_many(sizes.jobs)
        with bench.worker(log_level) as worker:
            worker.wait_until_registered(bench)
            watched = [worker.supervisor, *worker.children]
            server = bench.storage.server
            used = _Used(watched), _Used([] if server is None else [server])
            engine.queues.resume("default")
            # Seldom enough to cost the worker nothing.
            while engine.queues.depths():
                time.sleep(0.2)
            for job in jobs[-MANY:]:
                bench.broker.wait_for_record(job.id, PATIENCE)
            per_job = [1e6 * one.seconds / len(jobs) for one in used]
        records = [job.refresh().record for job in jobs]
        assert all(record.status is Status.SUCCEEDED for record in records)
    # By the records: the looking on is not part of it.
    began = min(record.started_at or 0 for record in records)
    ended = max(record.finished_at or 0 for record in records)
    return _Drained(
        rate=1000 * len(jobs) / max(ended - began, 1),
        bare=bare,
        worker=per_job[0],
        server=None if server is None else per_job[1],
    )


class _Used:
    """What processes use from now on."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._before = cpu_seconds(*pids)

    @property
    def seconds(self) -> float:
        return cpu_seconds(*self._pids) - self._before


def measure_backlog(sizes: Sizes) -> Iterator[Row]:
    """Whether a full queue makes a worker's step slower. The baseline is a short queue."""
    full, short = [], []
    with Bench(sizes.url) as beside, Bench(sizes.url) as bench:
        beside.fill(SHORT)
        bench.fill(sizes.waiting)
        for _ in range(sizes.rounds):
            short.append(_step(beside))
            full.append(_step(bench))
    name = f"settle {STEP} and fetch {STEP} of {sizes.waiting:,}"
    yield Row("backlog", name, "ms", full, short)


def _step(bench: Bench) -> float:
    """The median of so many steps, in milliseconds."""
    bench.fill(STEP * (STEPS + 1))
    engine, worker = bench.broker.engine, generate_id()
    engine.workers.register(worker)
    consumer = engine.consumer(["default"], worker)
    deliveries = consumer.fetch(STEP, 0)
    took = []
    for _ in range(STEPS):
        before = time.monotonic()
        done = [Succeeded(delivery=delivery, result=b"null") for delivery in deliveries]
        deliveries = consumer.settle_if_held(done, STEP).deliveries
        took.append(1000 * (time.monotonic() - before))
        assert len(deliveries) == STEP
    consumer.close()
    engine.workers.hand_back(worker, (), "stopped")
    return statistics.median(took)


# --- Latency ---


class _Sample(NamedTuple):
    """The way of one job, in nanoseconds on the monotonic clock."""

    called: int
    returned: int
    began: int

    @property
    def from_call(self) -> float:
        return (self.began - self.called) / 1e6

    @property
    def from_return(self) -> float:
        return (self.began - self.returned) / 1e6


def measure_latency(sizes: Sizes) -> Iterator[Row]:
    """From ``send()`` to the first line of the actor, on a worker with nothing else to do."""
    ours: list[list[_Sample]] = []
    bare: list[list[_Sample]] = []
    with Bench(sizes.url) as bench, bench.worker() as worker:
        worker.wait_until_ready()
        with _listener(bench, sizes.rounds * sizes.samples) as take_sample:
            for _ in range(sizes.rounds):
                bare.append([take_sample() for _ in range(sizes.samples)])
                ours.append([_take_sample() for _ in range(sizes.samples)])
    for since, name in [("from_return", "the return"), ("from_call", "the call")]:
        for percent in (50, 99):
            yield Row(
                "latency",
                f"idle: from {name} of send(), p{percent}",
                "ms",
                [percentile([getattr(one, since) for one in some], percent) for some in ours],
                [percentile([getattr(one, since) for one in some], percent) for some in bare],
            )


def _take_sample() -> _Sample:
    time.sleep(PAUSE)
    called = time.monotonic_ns()
    job = bench_app.tell_time.send()
    returned = time.monotonic_ns()
    return _Sample(called, returned, job.get_result(block=True, timeout=PATIENCE))


@contextmanager
def _listener(bench: Bench, count: int) -> Iterator[Callable[[], _Sample]]:
    """A process that waits on the baseline, and what sends a job there."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_listen, args=(bench.bare, count, theirs), daemon=True)
    process.start()
    theirs.close()
    ours.recv()
    baseline = bench.bare()

    def take_sample() -> _Sample:
        time.sleep(PAUSE)
        called = time.monotonic_ns()
        baseline.send_and_wake()
        returned = time.monotonic_ns()
        return _Sample(called, returned, ours.recv())

    try:
        yield take_sample
    finally:
        baseline.close()
        process.terminate()
        process.join()
        ours.close()


def _listen(make: Callable[[], Bare], count: int, answers: Connection) -> None:
    baseline = make()
    baseline.listen()
    answers.send(None)
    for _ in range(count):
        answers.send(baseline.wait_and_claim())
    baseline.close()
