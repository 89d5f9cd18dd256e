"""Runs queued jobs in the thread of a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from typing import Final

from flask import Flask

from ..actors.broker import Broker
from ..actors.job import Job
from ..app.extension import TaskQ
from ..config import redact_url
from ..engines.memory import MemoryEngine
from ..errors import ConfigurationError
from ..jobs.record import Status
from ..worker.inline import InlineWorker
from ..worker.inline import Ran
from ..worker.inline_event_loop import inline_loop

#: How many of the jobs that failed are named.
_MAX_SHOWN: Final = 10


class JobFailed(AssertionError):
    """Jobs that ran have failed. The cause is what the actor of the first one raised.

    :param jobs: handles on those that failed, in the order in which they ended.
    """

    def __init__(self, jobs: Sequence[Job[Any]]) -> None:
        #: Handles on the jobs that failed, in the order in which they ended.
        self.jobs = list(jobs)
        count = "1 job has" if len(jobs) == 1 else f"{len(jobs)} jobs have"
        shown = [_describe(job) for job in self.jobs[:_MAX_SHOWN]]
        if len(jobs) > _MAX_SHOWN:
            shown.append(f"and {len(jobs) - _MAX_SHOWN} more")
        text = "".join(f"\n    {line}" for line in shown)
        super().__init__(
            f"{count} failed; raise_failures=False leaves that to the test:\n{text}"
        )


def _describe(job: Job[Any]) -> str:
    error = job.record.error
    text = "" if error is None else f": {error.type}: {error.message}"
    return f"{job.message}, job {job.id}, attempt {job.record.attempt}{text}"


def drain(app: Flask, *, raise_failures: bool = True) -> list[Job[Any]]:
    """Run every job that may run now, in this thread, until none is left.

    Jobs go through the encoder, the hooks and the app context as in a worker. Those that
    they send are run too; delayed ones, and those that wait for a retry, stay: no clock is
    moved. :meth:`JobTester.drain` runs these, too.

    :param app: an app with ``TASKQ_BROKER_URL`` set to ``memory://``.
    :param raise_failures: when all have run, raise what has failed for good.
    :return: handles on the jobs, in the order in which they ended.
    :raises ConfigurationError: the app's engine is another.
    :raises JobFailed: a job has failed for good.
    """
    __tracebackhide__ = True
    broker = find_broker(app)
    worker = InlineWorker(broker, get_engine(broker))
    awaited = broker.run_awaited
    if awaited is None:
        broker.run_awaited = worker.run_awaited
    try:
        with worker.collecting() as ran:
            while worker.run_next() is not None:
                pass
    finally:
        broker.run_awaited = awaited
        inline_loop.clear()
    return finish(broker, ran, raise_failures)


def finish(broker: Broker, ran: Sequence[Ran], raise_failures: bool) -> list[Job[Any]]:
    """Handles on the jobs that have run.

    :param raise_failures: raise what has failed for good.
    :raises JobFailed: a job has.
    """
    __tracebackhide__ = True
    failed = [one for one in ran if one.record.status is Status.FAILED]
    if failed and raise_failures:
        raise JobFailed([Job(one.record, broker) for one in failed]) from failed[0].error
    return [Job(one.record, broker) for one in ran]


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
