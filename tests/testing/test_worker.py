"""A worker in threads of a test, on each engine."""

from __future__ import annotations

import asyncio
import threading

import pytest
from flask import current_app
from flask import Flask

from flask_taskq import Status
from flask_taskq.errors import ConfigurationError
from flask_taskq.testing import Worker
from tests.support.apps import make_app
from tests.support.apps import once
from tests.support.engines import ENGINES

PATIENCE = 10


@pytest.fixture(params=ENGINES)
def app(request, taskq, tmp_path):
    """With each engine."""
    app = Flask("app")
    app.config["TASKQ_BROKER_URL"] = ENGINES[request.param](tmp_path)
    app.config["TASKQ_MIN_BACKOFF"] = 1
    taskq.init_app(app)
    yield app
    taskq.broker_for(app).close()


@pytest.fixture
def add(taskq):
    return taskq.actor(lambda a, b: a + b, actor_name="add")


def test_a_worker_is_started_joined_and_stopped(app, taskq, add):
    """As in tests of Dramatiq."""
    worker = Worker(app)
    worker.start()
    with app.app_context():
        jobs = [add.send(n, n) for n in range(20)]
        worker.join()
        worker.stop()
        assert [job.refresh().get_result() for job in jobs] == [2 * n for n in range(20)]


def test_a_worker_is_a_context_manager(app, taskq, add):
    """At the end of its block it has stopped; the job has the app's context."""
    look = taskq.actor(lambda: current_app.name, actor_name="look")
    with app.app_context(), Worker(app, worker_threads=1) as worker:
        job = look.send()
        worker.join()
    with app.app_context():
        assert job.refresh().get_result() == "app"


def test_joining_waits_for_all_that_follows(app, taskq, ran):
    """What jobs send, also for later."""

    @taskq.actor
    def count(n):
        ran.append(n)
        if n:
            count.send_with_options(args=(n - 1,), delay=1 if n % 2 else None)

    with app.app_context(), Worker(app) as worker:
        for _ in range(5):
            ran.clear()
            count.send(5)
            worker.join()
            assert ran == [5, 4, 3, 2, 1, 0]


@pytest.mark.needs("Retries")
def test_joining_waits_for_retries(app, taskq):
    """Until the job is done."""
    attempts = []

    @taskq.actor(max_retries=2, min_backoff=1, max_backoff=20)
    def fail():
        attempts.append(1)
        raise ValueError

    with app.app_context(), Worker(app) as worker:
        job = fail.send()
        worker.join()
        assert job.refresh().status is Status.FAILED
    assert len(attempts) == 3


def test_joining_waits_for_a_job_that_runs(app, taskq):
    """Though none waits any more."""
    begun, go = threading.Event(), threading.Event()

    @taskq.actor
    def hold():
        begun.set()
        assert go.wait(PATIENCE)

    with app.app_context(), Worker(app) as worker:
        job = hold.send()
        assert begun.wait(PATIENCE)
        with pytest.raises(AssertionError, match="not ended after 50 ms; .*some are running"):
            worker.join(timeout=50)
        go.set()
        worker.join()
        assert job.refresh().status is Status.SUCCEEDED


def test_joining_that_takes_too_long_fails(app, taskq, add):
    """And says what waits."""
    with app.app_context(), Worker(app) as worker:
        add.send_with_options(args=(1, 2), delay=3_600_000)
        with pytest.raises(AssertionError, match="after 50 ms; waiting: 1 in 'default'"):
            worker.join(timeout=50)


def test_a_worker_serves_the_queues_that_it_is_given(app, taskq, add):
    """And waits for those alone."""
    slow = taskq.actor(lambda: "slow", actor_name="slow", queue_name="slow")
    with app.app_context(), Worker(app, queues=["slow"]) as worker:
        other, mine = add.send(1, 2), slow.send()
        worker.join()
        assert mine.refresh().get_result() == "slow"
        assert other.refresh().status is Status.QUEUED


def test_async_jobs_share_the_loop_of_the_worker(app, taskq):
    """As in a process of its own."""
    limit = asyncio.Semaphore(1)

    @taskq.actor(**once())
    async def fetch():
        async with limit:
            await asyncio.sleep(0.001)

    with app.app_context(), Worker(app) as worker:
        jobs = [fetch.send() for _ in range(4)]
        worker.join()
        assert {job.refresh().status for job in jobs} == {Status.SUCCEEDED}


def test_a_worker_can_be_started_again(app, taskq, add):
    """It is another one for the engine."""
    worker = Worker(app)
    for n in range(2):
        with app.app_context(), worker:
            job = add.send(n, 1)
            worker.join()
            assert job.refresh().get_result() == n + 1


def test_a_worker_is_started_once(app):
    """And is joined while it runs."""
    worker = Worker(app)
    with pytest.raises(RuntimeError, match="not started"):
        worker.join()
    with worker, pytest.raises(RuntimeError, match="started already"):
        worker.start()
    worker.stop()


def test_an_app_that_runs_jobs_where_they_are_sent_has_no_worker(taskq):
    """It would have nothing to do."""
    with pytest.raises(ConfigurationError, match="TASKQ_EAGER is on"):
        Worker(make_app(taskq, eager=True))
