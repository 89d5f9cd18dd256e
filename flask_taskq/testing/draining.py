"""Run what is queued, here and now."""

from __future__ import annotations

import functools
from typing import Any

from flask import Flask

from ..broker import Broker
from ..config import redact_url
from ..engines.memory import MemoryEngine
from ..errors import ConfigurationError
from ..errors import Interrupt
from ..extension import TaskQ
from ..job import Job
from ..worker.runner import emit_outcomes
from ..worker.runner import Runner
from ..worker.worker import generate_worker_id


class InlineWorker:
    """Runs jobs one by one, in the thread that calls it.

    :param broker: of the app whose actors run.
    :param engine: the broker's.
    """

    def __init__(self, broker: Broker, engine: MemoryEngine) -> None:
        self._broker = broker
        self._engine = engine

    # Made when it is first needed: until then a test may give the broker another clock.
    @functools.cached_property
    def _runner(self) -> Runner:
        # Ctrl-C, and what a test runner raises to end a test, is not for the job's record.
        return Runner(
            self._broker, catches=(Exception, Interrupt, SystemExit), may_put_off=False
        )

    def run_next(self, only: str | None = None) -> Job[Any] | None:
        """Run the next job that may run now.

        :param only: the id of the job to run, whichever is next.
        :return: a handle on it; None if there is none.
        """
        # A worker for each job: a test may move the clock beyond the lease of one, or kill it.
        worker = generate_worker_id()
        workers = self._engine.workers
        workers.register(worker)
        try:
            return self._run_next(worker, only)
        finally:
            workers.hand_back(worker, (), "stopped")

    def _run_next(self, worker: str, only: str | None) -> Job[Any] | None:
        queues = sorted(self._broker.get_declared_queues())
        for isolated in (False, True):
            consumer = self._engine.consumer(queues, worker, isolated=isolated, only=only)
            deliveries = consumer.fetch(1, timeout=0)
            if deliveries:
                settlements = [self._runner.run(deliveries[0])]
                emit_outcomes(self._broker, "before", settlements)
                if not consumer.settle_if_held(settlements).stale:
                    emit_outcomes(self._broker, "after", settlements)
                # Not by the broker: a record may be past its retention as soon as it is final.
                return Job(self._engine.store.table[deliveries[0].id].record, self._broker)
        return None


def drain(app: Flask) -> list[Job[Any]]:
    """Run every job that may run now, in this thread, until none is left.

    Jobs go through the encoder, the hooks and the app context as in a worker. Those that
    they send are run too; delayed ones, and those that wait for a retry, stay: no clock is
    moved. :meth:`JobTester.drain` runs these, too.

    :param app: an app with ``TASKQ_BROKER_URL`` set to ``memory://``.
    :return: handles on the jobs, in the order in which they ran.
    :raises ConfigurationError: the app's engine is another.
    """
    broker = find_broker(app)
    worker = InlineWorker(broker, get_engine(broker))
    jobs: list[Job[Any]] = []
    while (job := worker.run_next()) is not None:
        jobs.append(job)
    return jobs


def find_broker(app: Flask) -> Broker:
    """The broker of an app.

    :raises ConfigurationError: it has none.
    """
    taskq = app.extensions.get("taskq")
    if not isinstance(taskq, TaskQ):
        raise ConfigurationError(
            f"the app {app.name!r} has no TaskQ, and so no jobs to test: call TaskQ(app) or"
            " taskq.init_app(app)"
        )
    return taskq.broker_for(app)


def get_engine(broker: Broker) -> MemoryEngine:
    """The engine of a broker, if it is one that tests may run the jobs of.

    :raises ConfigurationError: it is another.
    """
    engine = broker.engine
    if isinstance(engine, MemoryEngine):
        return engine
    raise ConfigurationError(
        "tests run the jobs of memory:// only, so that they never touch real ones, and"
        f" TASKQ_BROKER_URL is {redact_url(broker.settings.broker_url)}: set TASKQ_BROKER_URL"
        ' to "memory://" in the app of the tests, before init_app()'
    )
