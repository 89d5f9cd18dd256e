"""Jobs come in."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from . import app as bench_app
from .bench import Bench
from .bench import MANY
from .bench import PATIENCE
from .bench import PAYLOAD
from .rounds import at_once
from .rounds import opened
from .rounds import percentile
from .rounds import rate
from .rounds import Sizes
from .table import Row


def measure_send(sizes: Sizes) -> Iterator[Row]:
    """One job at a time, each stored when ``send()`` returns."""
    ours, bare, eight, bare_eight = [], [], [], []
    each = max(sizes.sent // 2, 1)
    with Bench(sizes.url) as bench, opened(bench, sizes.at_once) as baselines:
        sending = [partial(_send, bench, each)] * sizes.at_once
        sending_bare = [partial(baseline.send, each) for baseline in baselines]
        bench.send(50)
        for _ in range(sizes.rounds):
            bare.append(rate(sizes.sent, lambda: baselines[0].send(sizes.sent)))
            ours.append(rate(sizes.sent, lambda: bench.send(sizes.sent)))
            bare_eight.append(rate(sizes.at_once * each, lambda: at_once(sending_bare)))
            eight.append(rate(sizes.at_once * each, lambda: at_once(sending)))
    yield Row("send", "send(), one thread", "jobs/s", ours, bare)
    yield Row("send", f"send(), {sizes.at_once} threads", "jobs/s", eight, bare_eight)


def measure_many(sizes: Sizes) -> Iterator[Row]:
    """A thousand jobs in one step."""
    ours, bare = [], []
    with Bench(sizes.url) as bench, opened(bench, 1) as [baseline]:
        bench.send(50)
        baseline.send(50)
        for _ in range(2 * sizes.rounds):
            bare.append(rate(MANY, lambda: baseline.send_many(MANY)))
            ours.append(rate(MANY, lambda: bench.send_many(MANY)))
    yield Row("many", f"send_many(), {MANY:,} at a time", "jobs/s", ours, bare)


def _send(bench: Bench, count: int) -> None:
    with bench.context():
        bench.send(count)


def measure_processes(sizes: Sizes) -> Iterator[Row]:
    """Processes that send at the same time, as those of a web server do."""
    rates, slow, slowest = [], [], []
    with Bench(sizes.url):
        for _ in range(sizes.rounds):
            took, each = _send_from_processes(sizes.at_once, sizes.sent)
            rates.append(len(each) / took)
            slow.append(percentile(each, 99))
            slowest.append(max(each))
    yield Row("processes", f"send(), {sizes.at_once} processes", "jobs/s", rates)
    yield Row("processes", "... a single one, p99", "ms", slow)
    yield Row("processes", "... the slowest one", "ms", slowest)


def _send_from_processes(number: int, count: int) -> tuple[float, list[float]]:
    """How long all of it took, in seconds, and each ``send()``, in milliseconds."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(number), context.Queue()
    processes = [
        context.Process(target=_send_alone, args=(count, barrier, answers), daemon=True)
        for _ in range(number)
    ]
    for process in processes:
        process.start()
    found = [answers.get(timeout=PATIENCE / 1000) for _ in processes]
    for process in processes:
        process.join()
    took = max(ended for _, ended, _ in found) - min(began for began, _, _ in found)
    return took, [value for _, _, values in found for value in values]


def _send_alone(
    count: int, barrier: Barrier, answers: Queue[tuple[float, float, list[float]]]
) -> None:
    app = bench_app.create_app()
    each = []
    with app.app_context():
        bench_app.taskq.broker.engine.connect()
        barrier.wait()
        began = before = time.monotonic()
        for _ in range(count):
            bench_app.noop.send(PAYLOAD)
            now = time.monotonic()
            each.append(1000 * (now - before))
            before = now
    answers.put((began, before, each))
