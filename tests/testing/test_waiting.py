"""Code that waits for a job: in a job, in a view, and in the test itself."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from flask_taskq import current_job
from flask_taskq import Status
from flask_taskq.errors import ResultFailure
from flask_taskq.errors import ResultTimeout
from flask_taskq.testing import drain
from flask_taskq.testing import JobTester
from tests.support.apps import make_app
from tests.support.apps import once

HOUR = 3_600_000

#: The machine's time, in seconds, in which what nobody waits for is over.
AT_ONCE = 8


@pytest.fixture(autouse=True)
def in_no_time():
    """No test here waits for a time limit, of which each is longer."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < AT_ONCE


@pytest.fixture
def half(taskq):
    return taskq.actor(lambda n: n // 2, actor_name="half")


@pytest.fixture(params=["tester", "function"])
def run(request, app):
    """``drain()`` in both forms."""
    if request.param == "function":
        yield lambda: drain(app)
    else:
        with JobTester(app) as jobs:
            yield jobs.drain


def test_a_job_can_wait_for_a_job_that_it_sends(run, taskq, app, half):
    """It runs inside of the one that waits, and ends before it."""

    @taskq.actor
    def outer():
        return half.send(4).get_result(block=True, timeout=None)

    with app.app_context():
        outer.send()
    assert [(job.record.actor, job.get_result()) for job in run()] == [
        ("half", 2),
        ("outer", 2),
    ]


def test_an_async_job_can_wait_for_jobs_that_it_sends(run, taskq, app, half):
    """Async ones are in the loop of the one that waits."""
    limit = asyncio.Semaphore(1)

    @taskq.actor
    async def inner(n):
        async with limit:
            await asyncio.sleep(0)
        return n

    @taskq.actor
    async def outer():
        async with limit:
            jobs = [inner.send(1), inner.send(2), half.send(6)]
            await asyncio.sleep(0)
        return await asyncio.gather(*(job.result() for job in jobs))

    with app.app_context():
        job = outer.send()
    run()
    assert job.get_result() == [1, 2, 3]


def test_jobs_share_what_belongs_to_a_loop(run, taskq, app):
    """Also those of several drains."""
    limit = asyncio.Semaphore(1)

    @taskq.actor
    async def fetch():
        async def one():
            async with limit:
                await asyncio.sleep(0)

        await asyncio.gather(one(), one())

    for _ in range(2):
        with app.app_context():
            fetch.send()
            fetch.send()
        assert [job.status for job in run()] == [Status.SUCCEEDED] * 2


def test_jobs_of_several_tests_share_what_belongs_to_a_loop(taskq):
    """A module has it, and lives longer than an app."""
    limit = asyncio.Semaphore(1)

    @taskq.actor
    async def fetch():
        async def one():
            async with limit:
                await asyncio.sleep(0)

        await asyncio.gather(one(), one())

    for _ in range(2):
        app = make_app(taskq)
        with JobTester(app) as jobs:
            jobs.perform(fetch)


def test_what_jobs_leave_running_ends_with_the_test(app, taskq):
    """It is cancelled, and the threads that they used are gone."""
    ended = []

    async def stay():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    @taskq.actor
    async def leave():
        leave.kept = asyncio.create_task(stay())
        return await asyncio.to_thread(threading.get_ident)

    with JobTester(app) as jobs:
        ident = jobs.perform(leave)
        assert ident in {thread.ident for thread in threading.enumerate()}
        assert ended == []
    assert ended == [1]
    assert ident not in {thread.ident for thread in threading.enumerate()}


def test_a_job_is_told_of_a_failure_that_it_waits_for(jobs, taskq, app):
    """As in a worker. Both have failed, and the test hears of both."""
    fail = taskq.actor(lambda: 1 / 0, actor_name="fail", **once())

    @taskq.actor
    def outer():
        with pytest.raises(ResultFailure, match="ZeroDivisionError"):
            fail.send().get_result(block=True)

    with app.app_context():
        outer.send()
    statuses = [job.status for job in jobs.drain(raise_failures=False)]
    assert statuses == [Status.FAILED, Status.SUCCEEDED]


def test_the_time_moves_on_for_a_job_that_waits(jobs, taskq, app, half):
    """Until the other one may run, and nobody waits for it in truth."""

    @taskq.actor
    def outer():
        return half.send_with_options(args=(4,), delay=HOUR).get_result(
            block=True, timeout=HOUR
        )

    began = jobs.clock.now()
    assert jobs.perform(outer) == 2
    assert jobs.clock.now() == began + HOUR


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_a_wait_that_is_too_short_is_over_at_once(jobs, taskq, app, half, kind):
    """When the time has moved on by as much."""

    def send():
        return half.send_with_options(args=(4,), delay=HOUR)

    @taskq.actor
    def blocking():
        send().get_result(block=True, timeout=HOUR - 5)

    @taskq.actor
    async def awaiting():
        await send().result(timeout=HOUR - 5)

    began = jobs.clock.now()
    with pytest.raises(ResultTimeout, match="is scheduled after 3,599,995 ms .* 5 ms later"):
        jobs.perform(blocking if kind == "blocking" else awaiting)
    assert jobs.clock.now() == began + HOUR - 5


@pytest.mark.needs("Retries")
def test_a_job_that_is_waited_for_is_retried(jobs, taskq, app):
    """With its backoff, for which the time moves on."""
    attempts = []

    @taskq.actor
    def second():
        attempts.append(jobs.clock.now())
        if len(attempts) == 1:
            raise ValueError
        return "done"

    @taskq.actor
    def outer():
        return second.send().get_result(block=True, timeout=None)

    assert jobs.perform(outer) == "done"
    assert attempts[1] - attempts[0] >= 30_000


def test_no_time_moves_on_for_a_drain_without_a_tester(app, taskq, half):
    """It says who would do it."""

    @taskq.actor(**once())
    def outer():
        half.send_with_options(args=(4,), delay=HOUR).get_result(block=True, timeout=None)

    with app.app_context():
        job = outer.send()
    drain(app, raise_failures=False)
    assert "nobody moves the time on until then" in job.refresh().record.error.message


@pytest.mark.needs("CurrentJob")
def test_a_job_that_waits_for_itself_is_told(jobs, taskq):
    """It would never end."""

    @taskq.actor
    def wait():
        taskq.job(current_job.id).get_result(block=True, timeout=None)

    with pytest.raises(ResultTimeout, match="of actor 'wait' waits for itself"):
        jobs.perform(wait)


@pytest.mark.needs("CurrentJob")
def test_an_async_job_that_waits_for_itself_is_told(jobs, taskq):
    """Though the thread that waits is another."""

    @taskq.actor
    async def wait():
        await taskq.job(current_job.id).result()

    with pytest.raises(ResultTimeout, match="of actor 'wait' waits for itself"):
        jobs.perform(wait)


@pytest.mark.needs("CurrentJob")
def test_jobs_that_wait_for_each_other_are_told(jobs, taskq):
    """The inner one, which could never get what it waits for."""

    @taskq.actor
    def inner(job_id):
        with pytest.raises(ResultTimeout, match="waits for the job that waits for it here"):
            taskq.job(job_id).get_result(block=True, timeout=None)
        return "told"

    @taskq.actor
    def outer():
        return inner.send(current_job.id).get_result(block=True)

    assert jobs.perform(outer) == "told"


def test_a_job_that_holds_up_the_loop_of_the_job_it_waits_for_is_told(jobs, taskq):
    """It should await it."""

    @taskq.actor
    async def inner():
        pass

    @taskq.actor
    async def outer():
        inner.send().get_result(block=True, timeout=None)

    with pytest.raises(ResultTimeout, match=r"await job.result\(\) in place of get_result"):
        jobs.perform(outer)


def test_jobs_that_send_themselves_and_wait_for_it_are_told(jobs, taskq):
    """Before the stack overflows."""

    @taskq.actor(**once())
    def again():
        again.send().get_result(block=True, timeout=None)

    with pytest.raises(ResultFailure, match="does one send itself again, and wait for that?"):
        jobs.perform(again)


def test_a_view_that_waits_for_a_job_gets_its_result(jobs, taskq, app, half, note, ran):
    """Nobody drains meanwhile, so that one job runs where it is waited for."""

    @app.get("/half/<int:n>")
    def show(n):
        return {"half": half.send(n).get_result(block=True)}

    note("other")
    assert app.test_client().get("/half/8").json == {"half": 4}
    assert ran == []
    jobs.assert_enqueued("note")


def test_an_async_test_can_await_a_job(jobs, app, half):
    """As an async view can."""

    async def main():
        with app.app_context():
            return await half.send(8).result(timeout=HOUR)

    assert asyncio.run(main()) == 4


def test_a_job_of_a_worker_in_threads_is_waited_for(jobs, app, half):
    """The worker has it, and no other thread."""
    with jobs.worker(), app.app_context():
        job = half.send(4)
        assert job.get_result(block=True) == 2
    assert not job.refresh().record.worker.startswith("inline")


def test_a_wait_that_was_cut_off_leaves_the_job_to_its_thread(jobs, app, taskq):
    """It ends as it ends."""
    go = threading.Event()

    @taskq.actor
    def hold():
        assert go.wait(AT_ONCE)
        return "held"

    async def main():
        with app.app_context():
            job = hold.send()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job.result(), 0.01)
        go.set()
        return await job.result()

    assert asyncio.run(main()) == "held"
