"""The handle that ``send()`` returns."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from flask_taskq import current_job
from flask_taskq import Status
from flask_taskq.actors.job import Job
from flask_taskq.errors import JobNotFound
from flask_taskq.errors import ResultFailure
from flask_taskq.errors import ResultMissing
from flask_taskq.errors import ResultTimeout
from flask_taskq.jobs.encoding import JOB_ID
from tests.support.apps import declare
from tests.support.apps import Line
from tests.support.apps import make_broker
from tests.support.apps import once
from tests.support.machine_time import machine_seconds


@pytest.fixture
def line(clock):
    return Line(make_broker(clock))


@pytest.fixture
def add(line):
    @declare(line.broker)
    def add(a, b):
        return a + b

    return add


@pytest.fixture
def fail(line):
    @declare(line.broker, **once())
    def fail():
        raise ValueError("no such month")

    return fail


def test_the_id_is_32_hex_digits(add):
    """They are the only key to the job over HTTP."""
    assert JOB_ID.fullmatch(add.send(1, 2).id)


def test_the_status_after_sending_is_queued(add):
    """It is known without reading anything back."""
    assert add.send(1, 2).status is Status.QUEUED


def test_the_status_after_sending_with_a_delay_is_scheduled(add):
    """It may not run before its time."""
    assert add.send_with_options(args=(1, 2), delay=1).status is Status.SCHEDULED


@pytest.mark.needs("CurrentJob")
def test_the_progress_is_the_last_that_was_seen(line):
    """Looking again costs a read, and is for the caller to say."""
    actor = declare(line.broker, lambda: current_job.progress(3, 4), actor_name="load")
    job = actor.send()
    line.run_next()

    assert job.progress is None
    assert job.refresh().progress.fraction == 0.75


@pytest.mark.needs("Retries")
def test_the_first_record_is_the_one_that_the_engine_wrote(add):
    """The handle makes it up without a read, so the two must not drift apart."""
    for delay in (None, 0, 5_000):
        job = add.send_with_options(args=(1, 2), delay=delay, max_retries=7)
        made_up = job.record
        assert job.refresh().record == made_up


def test_the_message_is_what_was_sent_as_json_has_it(add):
    """Read from the record that the handle has."""
    job = add.send_with_options(args=((1, 2),), kwargs={"b": "hour"}, priority=3)
    message = job.message
    assert (message.message_id, message.actor_name) == (job.id, "add")
    assert (message.args, message.kwargs) == (([1, 2],), {"b": "hour"})
    assert message.options == {"priority": 3}


def test_the_status_is_not_read_behind_the_callers_back(line, add):
    """A property does no I/O."""
    job = add.send(1, 2)
    line.run_next()
    assert job.status is Status.QUEUED


def test_refreshing_reads_the_record_and_returns_the_handle(line, add):
    """It can be chained."""
    job = add.send(1, 2)
    line.run_next()
    assert job.refresh() is job
    assert job.status is Status.SUCCEEDED


def test_the_result_is_what_the_actor_returned(line, add):
    """It has made the way through JSON."""
    job = add.send(1, 2)
    line.run_next()
    assert job.get_result() == 3


def test_a_result_of_none_is_none(line):
    """None is a result, and not the lack of one."""
    nothing = declare(line.broker, lambda: None, actor_name="nothing")
    job = nothing.send()
    line.run_next()
    assert job.get_result() is None


def test_the_result_of_a_job_that_has_not_finished_is_missing(add):
    """Without block nothing waits."""
    job = add.send(1, 2)
    with pytest.raises(ResultMissing, match=f"{job.id}.*'add' is queued"):
        job.get_result()


def test_waiting_for_a_result_ends_when_its_time_is_over(clock, add):
    """The text says how long it was."""
    job = add.send(1, 2)
    with pytest.raises(ResultTimeout, match="after 0 ms"):
        job.get_result(block=True, timeout=0)


def test_the_time_to_wait_can_be_a_timedelta(add):
    """As every duration of the package can."""
    with pytest.raises(ResultTimeout, match="after 0 ms"):
        add.send(1, 2).get_result(block=True, timeout=timedelta(0))


def test_waiting_for_a_result_ends_when_the_job_does(line, add):
    """Another thread runs the job meanwhile."""
    job = add.send(1, 2)
    runner = threading.Thread(target=line.run_next)
    runner.start()
    assert job.get_result(block=True, timeout=None) == 3
    runner.join()


def test_the_result_of_a_failed_job_is_an_error_with_what_the_actor_raised(line, fail):
    """As text: the class of the exception is not looked up."""
    job = fail.send()
    line.run_next()
    with pytest.raises(ResultFailure, match="actor 'fail' raised ValueError: no") as caught:
        job.get_result()
    assert caught.value.orig_exc_type == "ValueError"
    assert caught.value.orig_exc_msg == "no such month"


def test_the_result_of_a_cancelled_job_is_an_error(add):
    """It will never have one."""
    job = add.send(1, 2).cancel()
    with pytest.raises(ResultFailure, match="is cancelled"):
        job.get_result()


def test_a_job_that_is_waiting_can_be_cancelled(add):
    """The handle is refreshed by it."""
    assert add.send(1, 2).cancel().status is Status.CANCELLED


def test_a_job_past_its_retention_is_not_found(clock, line, add):
    """Its handle knows only that."""
    job = add.send(1, 2)
    line.run_next()
    clock.advance(line.broker.settings.result_ttl)
    for ask in (job.refresh, job.get_result, job.cancel):
        with pytest.raises(JobNotFound, match=job.id):
            ask()


def test_a_coroutine_can_wait_for_a_result(line, add):
    """The event loop is free while it waits."""

    async def main():
        waiting = asyncio.ensure_future(job.result())
        await asyncio.to_thread(line.run_next)
        return await waiting

    job = add.send(1, 2)
    assert asyncio.run(main()) == 3


def test_a_coroutine_gets_the_error_of_a_failed_job(line, fail):
    """The same as without a coroutine."""
    job = fail.send()
    line.run_next()
    with pytest.raises(ResultFailure, match="no such month"):
        asyncio.run(job.result())


@pytest.mark.parametrize("timeout", [0, timedelta(0)])
def test_a_coroutine_stops_waiting_when_its_time_is_over(add, timeout):
    """The unit is milliseconds here, too."""
    with pytest.raises(ResultTimeout, match="after 0 ms"):
        asyncio.run(add.send(1, 2).result(timeout=timeout))


def test_the_text_form_says_which_job_and_how_it_is(add):
    """For logs: no argument is in it."""
    job = add.send(1, 2)
    assert repr(job) == f"<Job {job.id} add queued>"


def test_a_handle_reads_nothing_when_it_is_made(add):
    """A record is enough to make one."""
    job = add.send(1, 2)
    assert Job(job.record, source=None).status is Status.QUEUED


def test_a_thousand_coroutines_stop_waiting_in_time(add):
    """They share a few threads, and none keeps one for itself."""

    waits = []

    async def wait(job):
        began = time.monotonic()
        with pytest.raises(ResultTimeout):
            await job.result(timeout=1_000)
        waits.append((time.monotonic() - began, began))

    async def main():
        await asyncio.gather(*(wait(job) for job in sent))

    sent = [add.send(n, 1) for n in range(1_000)]
    asyncio.run(main())
    longest, began = max(waits)
    assert machine_seconds(began, began + longest) < 2


def test_a_thousand_coroutines_get_their_results(line, add):
    """Each soon after its job has ended."""

    async def main():
        waiting = [asyncio.ensure_future(job.result(timeout=60_000)) for job in sent]
        for _ in sent:
            await asyncio.to_thread(line.run_next)
        return await asyncio.gather(*waiting)

    sent = [add.send(n, 1) for n in range(1_000)]
    assert asyncio.run(main()) == list(range(1, 1_001))


def test_a_coroutine_stops_waiting_though_all_threads_are_busy(add):
    """With what the app does in them."""

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = asyncio.ensure_future(asyncio.to_thread(go_on.wait, 60))
        with pytest.raises(ResultTimeout):
            await add.send(1, 2).result(timeout=100)
        assert not busy.done()
        go_on.set()
        await busy

    go_on = threading.Event()
    asyncio.run(main())


def test_an_engine_that_is_out_of_reach_is_told_to_a_coroutine(line, add):
    """It does not look like a wait that was too long."""

    def gone(job_id, timeout):
        raise TimeoutError("by the engine")

    job = add.send(1, 2)
    line.engine.jobs.wait = gone
    with pytest.raises(TimeoutError, match="by the engine"):
        asyncio.run(job.result(timeout=60_000))
