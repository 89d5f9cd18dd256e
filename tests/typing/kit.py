"""What type checkers make of the test kit. Checked, and never run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from typing import assert_type

from flask import Flask
from werkzeug.test import TestResponse

from flask_taskq import GenericActor
from flask_taskq import Job
from flask_taskq import TaskQ
from flask_taskq.testing import drain
from flask_taskq.testing import JobFailed
from flask_taskq.testing import JobTester
from flask_taskq.testing import ManualClock
from flask_taskq.testing import MovableClock
from flask_taskq.testing import ThreadedWorker
from flask_taskq.testing import Worker

taskq = TaskQ()


@taskq.actor
def bare(month: int, *, draft: bool = False) -> dict[str, int]:
    return {"month": month}


@taskq.actor
async def bare_async(name: str) -> int:
    return len(name)


class Add(GenericActor, taskq=taskq):
    def perform(self, a: int, b: int = 2) -> str:
        return str(a + b)


class AddAsync(GenericActor, taskq=taskq):
    async def perform(self, a: int, b: int = 2) -> str:
        return str(a + b)


def check_enqueued(jobs: JobTester) -> None:
    """What is found knows what its actor returns."""
    assert_type(jobs.assert_enqueued(bare, args=(1,)), Job[dict[str, int]])
    assert_type(jobs.assert_enqueued(bare_async, kwargs={"name": "a"}, count=1), Job[int])
    assert_type(jobs.assert_enqueued("bare", queue="mail"), Job[Any])
    assert_type(jobs.assert_enqueued(Add, delay=timedelta(hours=1)), Job[Any])
    assert_type(jobs.enqueued(bare), list[Job[Any]])
    jobs.refute_enqueued(Add)
    jobs.refute_enqueued(5)  # type: ignore[arg-type]


def check_running(jobs: JobTester) -> None:
    """An actor is performed with its own arguments."""
    assert_type(jobs.perform(bare, 1, draft=True), dict[str, int])
    assert_type(jobs.perform(bare_async, "a"), int)
    assert_type(jobs.perform(Add, 1, b=3), str)
    assert_type(jobs.perform(AddAsync, 1), str)
    jobs.perform(bare, "x")  # type: ignore[call-overload]
    assert_type(jobs.run_next(), Job[Any])
    assert_type(jobs.drain(within=timedelta(minutes=1)), list[Job[Any]])
    assert_type(jobs.drain(raise_failures=False), list[Job[Any]])
    jobs.join("mail", timeout=1_000)
    jobs.join(1)  # type: ignore[arg-type]
    jobs.advance(timedelta(hours=1))
    jobs.fail_next(ValueError)
    jobs.fail_next(ValueError("no"), bare)
    jobs.fail_next("no")  # type: ignore[arg-type]
    jobs.crash_next(Add)


def check_app(app: Flask) -> None:
    """As in a test without pytest."""
    with JobTester(app, clock=ManualClock()) as jobs:
        assert_type(jobs, JobTester)
        assert_type(jobs.clock, MovableClock)
        client = app.test_client()
        assert_type(jobs.follow(client, client.post("/reports")), TestResponse)
        with jobs.worker(threads=4) as worker:
            assert_type(worker, ThreadedWorker)
            worker.wait_until_idle()
    assert_type(drain(app), list[Job[Any]])


def check_worker(app: Flask) -> None:
    """For any engine."""
    with Worker(app, queues=["mail"], worker_threads=2) as worker:
        assert_type(worker, Worker)
        worker.join(timeout=None)
    try:
        drain(app, raise_failures=True)
    except JobFailed as error:
        assert_type(error.jobs, list[Job[Any]])
