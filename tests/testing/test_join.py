"""``join()``: until all jobs of a queue are done."""

from __future__ import annotations

import threading
import time

import pytest

from flask_taskq import Status
from flask_taskq.testing import JobFailed
from flask_taskq.testing import Worker
from tests.support.apps import once

HOUR = 3_600_000
PATIENCE = 10


@pytest.fixture(params=["nobody", "block", "worker"])
def served(request, app, jobs, note):
    """Jobs run in the thread of the test, or in those of a worker of their queue."""
    if request.param == "nobody":
        yield
    else:
        with jobs.worker() if request.param == "block" else Worker(app):
            yield


@pytest.fixture
def other(taskq, app, ran):
    """Sends a job to another queue."""
    actor = taskq.actor(ran.append, actor_name="other", queue_name="other")

    def send(value, **options):
        with app.app_context():
            return actor.send_with_options(args=(value,), **options)

    return send


def test_a_queue_is_joined_when_its_jobs_have_run(served, jobs, note, ran):
    """All of them."""
    for n in range(20):
        note(n)
    jobs.join("default")
    assert sorted(ran) == list(range(20))


def test_joining_waits_for_jobs_for_later(served, jobs, note, ran):
    """The clock moves on, from one to the next."""
    began = jobs.clock.now()
    note("b", delay=2 * HOUR)
    note("a", delay=HOUR)
    jobs.join("default")
    assert ran == ["a", "b"]
    assert began + 2 * HOUR <= jobs.clock.now() < began + 3 * HOUR


@pytest.mark.needs("Retries")
def test_joining_waits_for_retries(served, jobs, note, ran):
    """With their backoff."""
    jobs.fail_next(ValueError)
    job = note("a")
    jobs.join("default")
    assert (job.refresh().status, job.record.attempt) == (Status.SUCCEEDED, 2)


def test_joining_waits_for_jobs_that_jobs_send(served, jobs, taskq, app, ran):
    """Into the same queue."""

    @taskq.actor
    def count(n):
        ran.append(n)
        if n:
            count.send_with_options(args=(n - 1,), delay=HOUR)

    with app.app_context():
        count.send(3)
    jobs.join("default")
    assert ran == [3, 2, 1, 0]


def test_joining_leaves_the_jobs_of_other_queues(jobs, note, other, ran):
    """And the time until they are due."""
    note("mine", delay=2 * HOUR)
    other("not mine", delay=HOUR)
    other("nor this")
    jobs.join("default")
    assert ran == ["mine"]
    assert len(jobs.enqueued(queue="other")) == 2


def test_joining_raises_what_has_failed(served, jobs, taskq, app, note):
    """All of the queue have run before."""
    fail = taskq.actor(lambda: 1 / 0, actor_name="fail", **once())
    with app.app_context():
        job = fail.send()
    good = note("a")
    with pytest.raises(JobFailed, match="ZeroDivisionError") as caught:
        jobs.join("default")
    assert [one.id for one in caught.value.jobs] == [job.id]
    assert good.refresh().get_result() == "a"


def test_the_cause_of_a_failure_in_the_threads_of_the_test_is_there(jobs, taskq, app):
    """As in a drain."""
    fail = taskq.actor(lambda: 1 / 0, actor_name="fail", **once())
    with app.app_context():
        fail.send()
    with pytest.raises(JobFailed) as caught:
        jobs.join("default")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_failure_is_told_once(served, jobs, taskq, app):
    """The test has heard of it, or did not want to."""
    fail = taskq.actor(lambda: 1 / 0, actor_name="fail", **once())
    with app.app_context():
        fail.send()
        with pytest.raises(JobFailed):
            jobs.join("default")
        jobs.join("default")
        fail.send()
        jobs.join("default", raise_failures=False)
        jobs.join("default")


def test_a_failure_that_a_drain_has_told_of_is_not_told_again(jobs, taskq, app):
    """Nor one that it was to leave to the test."""
    fail = taskq.actor(lambda: 1 / 0, actor_name="fail", **once())
    with app.app_context():
        fail.send()
    jobs.drain(raise_failures=False)
    jobs.join("default")


def test_a_queue_that_is_not_done_in_time_fails_the_test(jobs, taskq, app):
    """It says what is left."""
    begun, go = threading.Event(), threading.Event()

    @taskq.actor
    def hold():
        begun.set()
        assert go.wait(PATIENCE)

    with jobs.worker(), app.app_context():
        hold.send()
        assert begun.wait(PATIENCE)
        expected = r"1 jobs of queue 'default' have not ended after 50 ms: hold \(running\)"
        with pytest.raises(AssertionError, match=expected):
            jobs.join("default", timeout=50)
        go.set()


def test_a_queue_that_nobody_has_cannot_be_joined(jobs, note):
    """It would be done at once, whatever the app does."""
    with pytest.raises(
        ValueError, match=r"no queue is named 'elsewhere'; there are \['default'\]"
    ):
        jobs.join("elsewhere")


def test_an_empty_queue_is_joined_at_once(served, jobs, note):
    """Nobody waits."""
    began = time.monotonic()
    jobs.join("default")
    assert time.monotonic() - began < PATIENCE


def test_a_test_runs_no_jobs_beside_a_worker(jobs, app, note):
    """Which of the two had a job would be chance."""
    with Worker(app):
        for run in (jobs.run_next, jobs.drain, jobs.worker().__enter__):
            with pytest.raises(RuntimeError, match="a worker is running the jobs already"):
                run()
