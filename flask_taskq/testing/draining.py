"""Run what is queued, here and now."""

from __future__ import annotations

from typing import Any
from typing import Final

from flask import Flask

from ..errors import ConfigurationError
from ..errors import Interrupt
from ..extension import TaskQ
from ..job import Job
from ..worker.runner import emit_outcomes
from ..worker.runner import Runner
from ..worker.worker import generate_worker_id

_MEMORY_ONLY: Final = (
    "drain() runs jobs of memory:// only; set TASKQ_BROKER_URL to it in the app of the tests"
)


def drain(app: Flask) -> list[Job[Any]]:
    """Run every job that may run now, in this thread, until none is left.

    Jobs go through the encoder, the hooks and the app context as in a worker. Those that
    they send are run too; delayed ones, and those that wait for a retry, stay.

    :param app: an app with ``TASKQ_BROKER_URL`` set to ``memory://``.
    :return: handles on the jobs, in the order in which they ran.
    :raises ConfigurationError: the app's engine is another.
    """
    taskq: TaskQ = app.extensions["taskq"]
    broker = taskq.broker_for(app)
    if broker.engine.is_shared:
        raise ConfigurationError(_MEMORY_ONLY)
    worker = generate_worker_id()
    consumer = broker.engine.consumer(sorted(broker.get_declared_queues()), worker)
    # Ctrl-C, and what a test runner raises to end a test, is not for the job's record.
    runner = Runner(broker, catches=(Exception, Interrupt, SystemExit))
    jobs: list[Job[Any]] = []
    try:
        while True:
            # Each time, because a test may move the clock beyond the lease.
            broker.engine.workers.register(worker)
            deliveries = consumer.fetch(1, timeout=0)
            if not deliveries:
                return jobs
            settlements = [runner.run(deliveries[0])]
            emit_outcomes(broker, "before", settlements)
            consumer.settle_if_held(settlements)
            emit_outcomes(broker, "after", settlements)
            jobs.append(Job(broker.get_record(deliveries[0].id), broker))
    finally:
        consumer.close()
        broker.engine.workers.hand_back(worker, (), "stopped")
