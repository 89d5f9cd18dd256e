"""Every habit of a job is tested on each engine."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_taskq import middleware
from flask_taskq.actors.broker import Broker
from flask_taskq.actors.hooks import Middleware
from flask_taskq.actors.job import Job
from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from flask_taskq.jobs.record import JobRecord
from flask_taskq.worker.threads.worker import Worker
from tests.support.engines import ENGINES

#: Longer than anything takes, in milliseconds.
LONG = 20_000


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Habits do not depend on the engine, so most tests run on memory. Those that are marked
    ``every_engine`` show that nothing is missing between a habit and another engine."""
    if "new_broker" in metafunc.fixturenames:
        is_marked = metafunc.definition.get_closest_marker("every_engine") is not None
        metafunc.parametrize("new_broker", ENGINES if is_marked else ["memory"], indirect=True)


@pytest.fixture
def new_broker(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., Broker]]:
    """Makes brokers without an app: the default middleware, and what is given after it."""
    numbers = itertools.count(1)
    brokers = []

    def make(clock: Clock, *extra: Middleware, habits: Any = None, **settings: Any) -> Broker:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        checked = Settings(broker_url=ENGINES[request.param](folder), **settings)
        chosen = middleware.DEFAULT if habits is None else habits
        chain = [*(habit() for habit in chosen), *extra]
        brokers.append(Broker(make_engine(checked, clock), checked, clock, chain))
        return brokers[-1]

    yield make
    for broker in brokers:
        broker.close()


@pytest.fixture
def start_worker(new_broker: object) -> Iterator[Callable[..., Worker]]:
    """Starts workers that are stopped with the test, before their engine is closed."""
    workers = []

    def start(broker: Broker, threads: int = 2, **options: Any) -> Worker:
        worker = Worker(broker, worker_threads=threads, **options)
        worker.start()
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        if worker._fetcher.is_alive() or worker._settler.is_alive():
            worker.stop(0)


@pytest.fixture
def final() -> Callable[[Job[Any]], JobRecord]:
    """Waits for a job to end; its record then."""
    return lambda job: job._source.wait_for_record(job.id, LONG)
