"""What people see of many jobs: pages, counts, and the states of queues."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Iterator
from functools import partial
from typing import Any
from typing import Final

from flask_taskq.engines.listing import Filter
from flask_taskq.jobs.delivery import Failed
from flask_taskq.jobs.delivery import Succeeded
from flask_taskq.jobs.message import generate_id
from flask_taskq.jobs.record import JobError
from flask_taskq.jobs.record import Status

from .bench import Bench
from .rounds import Sizes
from .table import Row

#: How many jobs are settled and fetched in one call to make records of jobs that are over.
AT_ONCE: Final = 500

#: How many jobs a page has.
LIMIT: Final = 50

#: How far into a list the deep page is, in pages.
DEEP: Final = 20

ERROR: Final = JobError(type="ValueError", message="no")


def measure_lists(sizes: Sizes) -> Iterator[Row]:
    """A page and the counts beside as many jobs that wait, and as many that are over. The
    baseline is the same beside a hundredth of them."""
    ours: dict[str, list[float]] = {}
    baseline: dict[str, list[float]] = {}
    with Bench(sizes.url) as beside, Bench(sizes.url) as bench:
        for one, count in ((beside, sizes.waiting // 100), (bench, sizes.waiting)):
            _end(one, count)
            one.fill(count)
        for _ in range(sizes.rounds):
            for one, found in ((beside, baseline), (bench, ours)):
                for name, call in _calls(one):
                    began = time.perf_counter()
                    call()
                    took = 1000 * (time.perf_counter() - began)
                    found.setdefault(name, []).append(took)
    for name, values in ours.items():
        yield Row("lists", f"{name}, {sizes.waiting:,} twice", "ms", values, baseline[name])


def _end(bench: Bench, count: int) -> None:
    """Let so many jobs have ended, a tenth of them with an error."""
    engine, worker = bench.broker.engine, generate_id()
    bench.fill(count)
    engine.workers.register(worker)
    consumer = engine.consumer(["default"], worker)
    deliveries = consumer.fetch(AT_ONCE, 0)
    while deliveries:
        engine.workers.register(worker)
        settlements: list[Any] = [
            Succeeded(delivery=one, result=b"null")
            if n % 10
            else Failed(delivery=one, error=ERROR)
            for n, one in enumerate(deliveries)
        ]
        deliveries = consumer.settle_if_held(settlements, AT_ONCE).deliveries
    consumer.close()
    engine.workers.hand_back(worker, (), "stopped")


def _calls(bench: Bench) -> Iterator[tuple[str, Callable[[], object]]]:
    jobs = bench.broker.engine.jobs
    waiting = Filter(statuses=(Status.QUEUED, Status.SCHEDULED))
    over = Filter(statuses=(Status.SUCCEEDED, Status.FAILED))
    yield "first page", lambda: jobs.page(Filter(), None, LIMIT)
    for name, wanted in (("waiting", waiting), ("over", over)):
        cursor = None
        for _ in range(DEEP):
            _, cursor = jobs.page(wanted, cursor, LIMIT)
        yield f"page {DEEP + 1}, {name}", partial(jobs.page, wanted, cursor, LIMIT)
    yield "page of a rare actor", lambda: jobs.page(Filter(actor="rare"), None, LIMIT)
    yield "counts", lambda: jobs.counts(Filter())
    yield "counts of an actor", lambda: jobs.counts(Filter(actor="noop"))
    yield "states of queues", bench.broker.engine.queues.states
