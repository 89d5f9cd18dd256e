"""A drain in which a job fails for good fails its test."""

from __future__ import annotations

import textwrap
import traceback

import pytest

from flask_taskq import Status
from flask_taskq.errors import Cancel
from flask_taskq.errors import SkipMessage
from flask_taskq.jobs.message import Message
from flask_taskq.testing import drain
from flask_taskq.testing import JobFailed
from tests.support.apps import once


@pytest.fixture(params=["tester", "function"])
def run(request, app, jobs):
    """Both of them."""
    return jobs.drain if request.param == "tester" else lambda **options: drain(app, **options)


@pytest.fixture
def fail(taskq, app):
    """Sends a job that fails with this error."""
    errors = []

    @taskq.actor(**once())
    def fail(number):
        raise errors[number]

    def send(error):
        errors.append(error)
        with app.app_context():
            return fail.send(len(errors) - 1)

    return send


def test_a_failure_is_raised_with_what_the_actor_raised(run, fail):
    """By name, with the job; the cause has the actor's frames, and none of this package."""
    job = fail(ValueError("no such month"))
    with pytest.raises(JobFailed) as caught:
        run()
    assert str(caught.value) == textwrap.dedent(
        f"""\
        1 job has failed; raise_failures=False leaves that to the test:

            fail(0), job {job.id}, attempt 1: ValueError: no such month"""
    )
    assert [one.id for one in caught.value.jobs] == [job.id]
    cause = caught.value.__cause__
    assert isinstance(cause, ValueError)
    assert [frame.name for frame in traceback.extract_tb(cause.__traceback__)] == ["fail"]


def test_a_failure_is_one_of_an_assertion(run, fail):
    """So unittest counts it as a failure of the test."""
    fail(ValueError())
    with pytest.raises(AssertionError):
        run()


def test_all_jobs_run_before_a_failure_is_raised(run, fail, note, ran):
    """And all that have failed are named; the cause is the first one's."""
    fail(ValueError("first"))
    note("between")
    fail(LookupError("second"))
    note("last")
    with pytest.raises(
        JobFailed, match="2 jobs have failed(.|\n)*first(.|\n)*second"
    ) as caught:
        run()
    assert ran == ["between", "last"]
    assert str(caught.value.__cause__) == "first"


def test_a_failure_can_be_what_the_test_is_about(run, fail):
    """Then it looks at the jobs."""
    fail(ValueError())
    assert [job.status for job in run(raise_failures=False)] == [Status.FAILED]


def test_a_failure_of_an_earlier_drain_is_not_raised_again(run, fail, note):
    """Each drain tells of its own."""
    fail(ValueError())
    run(raise_failures=False)
    note("next")
    assert len(run()) == 1


@pytest.mark.parametrize("error", [Cancel("no"), SkipMessage("done")])
def test_a_job_that_was_given_up_or_skipped_has_not_failed(run, fail, error):
    """The actor says so itself."""
    fail(error)
    assert len(run()) == 1


@pytest.mark.needs("Retries")
def test_a_job_that_succeeds_at_a_later_attempt_has_not_failed(jobs, note):
    """Only what runs no more counts."""
    note("a")
    jobs.fail_next(ValueError)
    assert [job.status for job in jobs.drain()] == [Status.SCHEDULED, Status.SUCCEEDED]


@pytest.mark.needs("Retries")
def test_an_expected_exception_is_a_failure_all_the_same(jobs, taskq, app):
    """The actor expects it, and the test has not said so."""

    @taskq.actor(throws=LookupError)
    def fail():
        raise LookupError("nobody")

    with app.app_context():
        fail.send()
    with pytest.raises(JobFailed, match="LookupError: nobody"):
        jobs.drain()


def test_a_job_whose_worker_died_too_often_has_failed(jobs, note):
    """Though no actor has raised anything."""
    note("a")
    for _ in range(3):
        jobs.crash_next()
    with pytest.raises(JobFailed, match="WorkerLost") as caught:
        jobs.drain()
    assert caught.value.__cause__ is None


def test_a_job_of_an_unknown_actor_fails_at_once(run, jobs, app, taskq):
    """No other worker will come that knows it."""
    with app.app_context():
        taskq.broker.enqueue(Message("default", "nobody", (), {}, {}))
    began = jobs.clock.now()
    with pytest.raises(JobFailed, match="no actor is named 'nobody'"):
        run()
    assert jobs.clock.now() == began


def test_only_some_of_many_failures_are_named(run, fail):
    """The others are counted."""
    for _ in range(12):
        fail(ValueError())
    with pytest.raises(JobFailed, match="and 2 more$"):
        run()
