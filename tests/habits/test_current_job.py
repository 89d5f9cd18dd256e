"""``current_job``: what an actor knows of its job."""

import asyncio
import threading

import pytest

from flask_taskq import current_job
from tests.support.apps import declare
from tests.support.apps import Line

pytestmark = pytest.mark.needs("CurrentJob")


@pytest.fixture
def line(clock, new_broker):
    return Line(new_broker(clock))


@pytest.mark.every_engine
def test_an_actor_sees_its_job(line):
    """Its id, its run, and its message."""

    @declare(line.broker)
    def look(x):
        return [
            current_job.id,
            current_job.attempt,
            current_job.message.args,
            bool(current_job),
        ]

    job = look.send(5)
    line.run(job)
    assert job.get_result() == [job.id, 1, [5], True]


@pytest.mark.every_engine
@pytest.mark.needs("Retries")
def test_an_actor_sees_which_run_it_is(line, clock):
    """The second one has the number 2."""
    seen = []

    @declare(line.broker, min_backoff=0)
    def look():
        seen.append(current_job.attempt)
        raise ValueError

    job = look.send()
    line.run(job)
    line.run(job)
    assert seen == [1, 2]


def test_an_async_actor_sees_its_job(line):
    """Also after it was suspended, and in tasks of its own."""

    async def identify():
        await asyncio.sleep(0)
        return current_job.id

    @declare(line.broker)
    async def look():
        return await asyncio.gather(identify(), asyncio.create_task(identify()))

    job = look.send()
    line.run(job)
    assert job.get_result() == [job.id, job.id]


def test_outside_of_a_job_there_is_none():
    """The error says where it can be used."""
    assert not current_job
    with pytest.raises(RuntimeError, match="Working outside of a job"):
        current_job.id  # noqa: B018


def test_an_actor_that_is_called_as_a_function_has_no_job(line):
    """Nobody sent one."""

    @declare(line.broker)
    def look():
        return bool(current_job)

    assert look() is False


@pytest.mark.parametrize("raised", [None, ValueError, SystemExit])
def test_after_a_job_there_is_none_again(line, raised):
    """However the job ended."""

    @declare(line.broker)
    def end():
        if raised:
            raise raised

    line.run(end.send())
    assert not current_job


def test_a_job_within_a_job_hides_it(line):
    """An actor that drains the queue, as a test might, gets its own back."""
    seen = []

    @declare(line.broker)
    def inner():
        seen.append(current_job.message.actor_name)

    @declare(line.broker)
    def outer():
        inner.send()
        Line(line.broker, "w2").run_next()
        seen.append(current_job.message.actor_name)

    line.run(outer.send())
    assert seen == ["inner", "outer"]


def test_jobs_in_different_threads_see_their_own(line):
    """Both run at the same time."""
    both = threading.Barrier(2, timeout=10)

    @declare(line.broker)
    def look():
        both.wait()
        return current_job.id

    jobs = [look.send(), look.send()]
    threads = [
        threading.Thread(target=Line(line.broker, worker).run_next) for worker in ("w1", "w2")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [job.get_result() for job in jobs] == [job.id for job in jobs]
