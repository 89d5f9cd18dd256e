"""Async actors, many at once on one loop."""

import asyncio
import contextvars
import threading
from functools import partial

import pytest

from flask_taskq import current_job
from flask_taskq import Middleware
from flask_taskq import Status
from flask_taskq.clock import Clock
from flask_taskq.worker.threads.worker import Worker
from tests.support.apps import declare

PATIENCE = 20
LONG = 20_000


@pytest.fixture
def broker(new_broker):
    return new_broker(Clock(), min_backoff=0, async_concurrency=20)


@pytest.fixture
def start(start_worker, broker):
    return partial(start_worker, broker)


class Crowd:
    """Coroutines that wait for each other: they end when so many of them are there."""

    def __init__(self, broker, size):
        self.size = size
        self.there = 0
        self.most = 0
        self.full = None
        self.threads = set()
        self.actor = declare(broker, self.join, actor_name="join")

    async def join(self, n):
        self.full = self.full or asyncio.Event()
        self.threads.add(threading.current_thread().name)
        self.there += 1
        self.most = max(self.most, self.there)
        if self.there == self.size:
            self.full.set()
        await self.full.wait()
        await asyncio.sleep(0)
        self.there -= 1
        return n


@pytest.mark.every_engine
def test_more_coroutines_run_at_once_than_there_are_threads(broker, start, final):
    """All of them in one thread."""
    crowd = Crowd(broker, 20)
    start(threads=2)
    jobs = broker.enqueue_many(crowd.actor.message(n) for n in range(20))
    assert [final(job).result for job in jobs] == [str(n).encode() for n in range(20)]
    assert crowd.threads == {"taskq-loop"}


@pytest.mark.every_engine
def test_no_more_run_at_once_than_the_setting_says(broker, start, final):
    """The others wait for their turn, and come to it."""
    crowd = Crowd(broker, 20)
    start(threads=2)
    jobs = broker.enqueue_many(crowd.actor.message(n) for n in range(200))
    assert {final(job).status for job in jobs} == {Status.SUCCEEDED}
    assert crowd.most == 20


def test_threads_and_coroutines_do_not_wait_for_each_other(broker, start, final):
    """A full loop leaves the threads their jobs, as long as it takes no more in."""
    crowd = Crowd(broker, 12)
    plain = declare(broker, lambda: "done", actor_name="plain")
    start(threads=1)
    waiting = [crowd.actor.send(n) for n in range(11)]
    assert final(plain.send()).result == b'"done"'
    crowd.actor.send(11)
    assert {final(job).status for job in waiting} == {Status.SUCCEEDED}


@pytest.mark.needs("CurrentJob")
def test_each_coroutine_has_a_context_of_its_own(broker, start, final):
    """What one sets, no other sees; and each sees its own job after it has waited."""
    variable = contextvars.ContextVar("variable", default="unset")

    @declare(broker)
    async def look(n):
        before = variable.get()
        variable.set(n)
        await asyncio.sleep(0)
        return [before, variable.get(), current_job.id]

    start()
    jobs = broker.enqueue_many(look.message(n) for n in range(50))
    for n, job in enumerate(jobs):
        final(job)
        assert job.get_result(block=True) == ["unset", n, job.id]


@pytest.mark.needs("Retries")
def test_contexts_and_hooks_are_around_the_coroutine(broker, start, final):
    """As they are around a function."""
    seen = []

    class Noting(Middleware):
        def before_process_message(self, broker, message):
            seen.append("before")

        def after_process_message(self, broker, message, *, result=None, exception=None):
            seen.append(("after", result, type(exception).__name__))

    broker.add_middleware(Noting())

    @declare(broker, max_retries=0)
    async def act(fails):
        seen.append("actor")
        await asyncio.sleep(0)
        if fails:
            raise LookupError
        return "value"

    start()
    assert final(act.send(False)).status is Status.SUCCEEDED
    assert final(act.send(True)).error.type == "LookupError"
    assert seen == [
        "before",
        "actor",
        ("after", "value", "NoneType"),
        "before",
        "actor",
        ("after", None, "LookupError"),
    ]


def test_a_coroutine_can_send_jobs(broker, start, final):
    """The engine is asked in the loop's own thread."""

    @declare(broker)
    async def inner():
        return "inner"

    @declare(broker)
    async def outer():
        return await inner.send().result()

    start()
    assert final(outer.send()).result == b'"inner"'


def test_coroutines_may_finish_when_the_worker_stops(broker, start):
    """Within the grace time."""
    begun, go = threading.Event(), threading.Event()

    @declare(broker)
    async def finishes():
        begun.set()
        await asyncio.get_running_loop().run_in_executor(None, go.wait, PATIENCE)
        return "finished"

    worker = start()
    job = finishes.send()
    assert begun.wait(PATIENCE)
    stopping = threading.Thread(target=worker.stop, args=(LONG,))
    stopping.start()
    go.set()
    stopping.join(PATIENCE)
    assert job.refresh().record.result == b'"finished"'


def test_coroutines_are_cancelled_when_the_grace_time_is_over(broker, start):
    """They are released, and so are those that had not started."""
    begun = threading.Semaphore(0)

    @declare(broker)
    async def waits():
        begun.release()
        await asyncio.Event().wait()

    worker = start()
    jobs = broker.enqueue_many(waits.message() for _ in range(25))
    for _ in range(20):
        assert begun.acquire(timeout=PATIENCE)
    worker.stop(0)
    assert {job.refresh().status for job in jobs} == {Status.QUEUED}
    assert {job.record.attempt for job in jobs} == {0}
    assert not any(thread.name == "taskq-loop" for thread in threading.enumerate())


def test_an_async_actor_that_was_declared_late_runs_on_the_loop_too(broker, start, final):
    """Where it can be cancelled: a thread that waits for a loop of its own cannot be."""
    Crowd(broker, 1)
    start()

    @declare(broker)
    async def late():
        return threading.current_thread().name

    job = late.send()
    assert final(job).result == b'"taskq-loop"'


def test_what_a_coroutine_left_running_ends_with_the_worker(broker, start, final):
    """It is cancelled, as asyncio.run() does."""
    cancelled = threading.Event()

    async def background():
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    kept = []

    @declare(broker)
    async def leaves():
        kept.append(asyncio.create_task(background()))
        await asyncio.sleep(0)

    worker = start()
    final(leaves.send())
    worker.stop(LONG)
    assert cancelled.is_set()


def test_a_worker_without_async_actors_has_no_loop(broker, start):
    """Nothing is paid for what is not used."""
    declare(broker, lambda: None, actor_name="plain")
    worker = start()
    assert "taskq-loop" not in [thread.name for thread in threading.enumerate()]
    assert len(worker.slots.slots) == worker.worker_threads


def test_the_slot_table_shows_the_coroutines_that_run(broker, start, final):
    """The supervisor knows which jobs to blame when the process dies."""
    begun = threading.Semaphore(0)
    go = threading.Event()

    @declare(broker)
    async def stays():
        begun.release()
        await asyncio.get_running_loop().run_in_executor(None, go.wait, PATIENCE)

    worker = start()
    jobs = [stays.send() for _ in range(3)]
    for _ in jobs:
        assert begun.acquire(timeout=PATIENCE)
    assert {one.job_id for one in worker.slots.started()} == {job.id for job in jobs}
    go.set()
    assert {final(job).status for job in jobs} == {Status.SUCCEEDED}
    worker.stop(LONG)
    assert worker.slots.started() == []


def test_a_coroutine_sees_nothing_of_where_the_worker_was_made(broker, start, final):
    """A worker that a test makes within a request, or within a job, is no part of it."""
    variable = contextvars.ContextVar("variable", default="unset")

    @declare(broker)
    async def look():
        return variable.get()

    variable.set("made here")
    start()
    job = look.send()
    assert final(job).result == b'"unset"'


@pytest.mark.parametrize("how", ["exits", "stops the loop"])
def test_what_a_job_leaves_on_the_loop_ends_no_other(broker, start, caplog, how, final):
    """Neither an exit in a task of its own, nor a call that stops the loop."""
    crowd = Crowd(broker, 2)

    async def leave():
        raise SystemExit(3)

    @declare(broker)
    async def rude():
        if how == "exits":
            await asyncio.wait([asyncio.create_task(leave())])
        else:
            asyncio.get_running_loop().stop()

    worker = start()
    beside = crowd.actor.send(1)
    assert final(rude.send()).status is Status.SUCCEEDED
    crowd.actor.send(2)
    assert final(beside).result == b"1"
    assert not worker.is_broken
    own = [
        record
        for record in caplog.records
        if record.name == "flask_taskq.worker.threads.event_loop"
    ]
    assert len(own) == (how == "exits")


def test_jobs_that_come_when_the_loop_is_closed_go_back(broker, start, monkeypatch):
    """A settlement that was on its way while the worker stopped has brought them."""
    monkeypatch.setattr("flask_taskq.worker.threads.worker._FLUSH_TIME", LONG)

    @declare(broker)
    async def nothing():
        pass

    worker = Worker(broker, worker_threads=2)
    in_flight, go = threading.Event(), threading.Event()
    settle = worker._consumer.settle_if_held

    def settle_slowly(settlements, then_fetch=0):
        in_flight.set()
        assert go.wait(PATIENCE)
        return settle(settlements, 1)

    worker._consumer.settle_if_held = settle_slowly

    worker.start()
    nothing.send()
    assert in_flight.wait(PATIENCE)
    stopping = threading.Thread(target=worker.stop, args=(LONG,))
    stopping.start()
    worker._loop._thread.join(PATIENCE)
    late = nothing.send()
    go.set()
    stopping.join(PATIENCE)
    assert late.refresh().status is Status.QUEUED
