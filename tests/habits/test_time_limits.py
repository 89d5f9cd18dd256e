"""Runs that take too long, and what they are told."""

import asyncio
import ctypes
import io
import logging
import os
import random
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager

import pytest

from flask_taskq import current_job
from flask_taskq import Status
from flask_taskq.actors.hooks import Middleware
from flask_taskq.actors.job import Job
from flask_taskq.clock import Clock
from flask_taskq.errors import Shutdown
from flask_taskq.errors import TimeLimitExceeded
from tests.support.apps import declare
from tests.support.apps import messages
from tests.support.machine_time import machine_seconds

pytestmark = pytest.mark.needs("TimeLimit")

#: Longer than anything here takes, in seconds and in milliseconds.
PATIENCE = 20
LONG = 20_000

#: How many time limits are raised at random moments. Ten thousand take a quarter of a minute.
INTERRUPTS = int(os.environ.get("TASKQ_TEST_INTERRUPTS", "500"))

#: Up to how many milliseconds a job that does nothing but log may take.
LIMITS_OF_LOGGING = 30


@pytest.fixture
def make(request, new_broker):
    """Makes brokers on the machine's clock."""
    return lambda **settings: new_broker(Clock(), **{"min_backoff": 0, **settings})


@pytest.fixture
def start(start_worker):
    return start_worker


def spin():
    while True:
        pass


# The soft limit


@pytest.mark.every_engine
def test_a_run_that_takes_too_long_is_interrupted(make, start, final):
    """It has failed like any other run, and the thread takes the next job."""
    broker = make(max_retries=0)
    slow = declare(broker, spin, time_limit=50)
    quick = declare(broker, lambda: "done", actor_name="quick")
    start(broker, threads=1)
    slow_record, quick_record = final(slow.send()), final(quick.send())
    assert (slow_record.status, slow_record.error.code) == (Status.FAILED, "time_limit")
    assert slow_record.error.type == "TimeLimitExceeded"
    assert slow_record.error.message == "it had not ended after its time limit of 50 ms"
    assert "in spin" in slow_record.error.traceback
    assert quick_record.status is Status.SUCCEEDED


@pytest.mark.every_engine
@pytest.mark.needs("CurrentJob", "Retries")
def test_a_run_over_its_limit_is_retried(make, start, final):
    """The limit holds for each run, not for the job."""
    broker = make()

    @declare(broker, time_limit=100)
    def slow_at_first():
        if current_job.attempt == 1:
            spin()
        return current_job.attempt

    start(broker)
    record = final(slow_at_first.send())
    assert (record.status, record.result) == (Status.SUCCEEDED, b"2")
    assert [one.error.code for one in record.attempts] == ["time_limit"]


def test_an_actor_may_clean_up_when_its_time_is_over(make, start, final):
    """The exception is one like others, but no ``Exception``."""
    broker = make(max_retries=0)
    seen = []

    @declare(broker, time_limit=50)
    def careful():
        try:
            spin()
        except Exception:
            seen.append("too much")
        except TimeLimitExceeded:
            seen.append("cleaned up")
            return "part"

    start(broker)
    record = final(careful.send())
    assert (record.status, record.result) == (Status.SUCCEEDED, b'"part"')
    assert seen == ["cleaned up"]


def test_a_coroutine_that_takes_too_long_is_cancelled(make, start, final):
    """Its neighbours on the loop go on."""
    broker = make(max_retries=0)

    @declare(broker, time_limit=50)
    async def waits():
        await asyncio.Event().wait()

    start(broker)
    record = final(waits.send())
    assert (record.status, record.error.code) == (Status.FAILED, "time_limit")
    assert "await asyncio.Event().wait()" in record.error.traceback


@pytest.mark.needs("CurrentJob")
def test_the_setting_is_for_actors_that_say_nothing(make, start, final):
    """An actor's and a message's own option is over it."""
    broker = make(max_retries=0, time_limit=50)
    slow = declare(broker, spin)

    @declare(broker, time_limit=None)
    def unlimited():
        return current_job.time_limit

    @declare(broker, time_limit=70_000)
    def limited():
        return current_job.time_limit

    start(broker)
    assert final(slow.send()).error.code == "time_limit"
    assert final(unlimited.send()).result == b"null"
    assert final(limited.send()).result == b"70000"
    assert final(limited.send_with_options(time_limit=80_000)).result == b"80000"
    assert final(limited.send_with_options(time_limit=float("inf"))).result == b"null"
    assert final(limited.send_with_options(time_limit=None)).result == b"70000"


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "1s"])
def test_a_limit_that_cannot_be_is_refused(make, limit):
    """Where it is declared, and where it is sent."""
    broker = make()
    with pytest.raises(ValueError, match="time_limit is .*milliseconds as an int from 1"):
        declare(broker, spin, time_limit=limit)
    actor = declare(broker, spin)
    with pytest.raises(ValueError, match="time_limit"):
        actor.send_with_options(time_limit=limit)


@pytest.mark.needs("CurrentJob")
def test_a_cooperative_actor_is_only_told(make, start, final):
    """It finds out where it asks, and nowhere else."""
    broker = make(max_retries=0)
    asked = threading.Event()

    @declare(broker, time_limit=50, cooperative=True)
    def polls():
        until = time.monotonic() + PATIENCE
        while current_job.interrupted_by is None and time.monotonic() < until:
            pass
        for _ in range(100_000):
            pass  # an exception would have come by now
        asked.set()
        current_job.check_cancelled()

    start(broker)
    record = final(polls.send())
    assert asked.is_set()
    assert record.error.code == "time_limit"


@pytest.mark.needs("CurrentJob")
def test_nothing_is_heard_while_all_is_well(make, start, final):
    """Asking costs nothing and raises nothing."""
    broker = make()
    actor = declare(broker, lambda: current_job.check_cancelled(), actor_name="asks")
    start(broker)
    assert final(actor.send()).status is Status.SUCCEEDED


# The hard limit


class Stuck:
    """An actor that swallows whatever is raised in it, until it is let go."""

    def __init__(self, broker, **options):
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.actor = declare(broker, self.hold_on, actor_name="stuck", **options)

    def hold_on(self):
        self.begun.release()
        while not self.go.is_set():
            try:
                self.go.wait(PATIENCE)
            except TimeLimitExceeded:
                pass


@pytest.fixture
def stuck_broker(make):
    broker = make(max_retries=0, hard_limit_grace=100)
    stuck = Stuck(broker, time_limit=50)
    yield broker, stuck
    stuck.go.set()


def test_a_run_that_does_not_end_is_given_up(stuck_broker, start, caplog, final):
    """Its job fails, with the place where it was; its late outcome is refused."""
    broker, stuck = stuck_broker
    worker = start(broker, threads=1)
    job = stuck.actor.send()
    record = final(job)
    assert (record.status, record.error.code) == (Status.FAILED, "time_limit")
    assert "in hold_on" in record.error.traceback
    [line] = [line for line in messages(caplog) if "does not end though" in line]
    assert f"job {job.id} of actor 'stuck'" in line and "in hold_on" in line
    # Nobody replaces a process here, and so it goes on with what threads it has.
    stuck.go.set()
    quick = declare(broker, lambda: "done", actor_name="quick")
    assert final(quick.send()).status is Status.SUCCEEDED
    worker.stop(LONG)
    assert job.refresh().record == record
    assert f"job {job.id}: the settlement came too late" in caplog.text


@pytest.mark.needs("Retries")
def test_a_run_that_does_not_end_is_retried(make, start, final):
    """As after any other failure."""
    broker = make(hard_limit_grace=50)
    stuck = Stuck(broker, time_limit=50, max_retries=1)
    start(broker, threads=2)
    job = stuck.actor.send()
    try:
        record = final(job)
        assert (record.status, record.attempt) == (Status.FAILED, 2)
    finally:
        stuck.go.set()


def test_the_process_is_to_be_replaced(stuck_broker, start, final):
    """It fetches nothing any more, says why, and its neighbours may finish."""
    broker, stuck = stuck_broker
    reasons, told = [], threading.Event()

    def note(reason):
        reasons.append(reason)
        told.set()

    neighbour_may_end = threading.Event()

    @declare(broker)
    def neighbour():
        assert neighbour_may_end.wait(PATIENCE)
        return "finished"

    worker = start(broker, threads=3, on_replace=note)
    beside = neighbour.send()
    job = stuck.actor.send()
    assert told.wait(PATIENCE)
    assert reasons == [
        f"job {job.id} of actor 'stuck' does not end though it is 100 ms over its time limit"
    ]
    later = neighbour.send()
    stopping = threading.Thread(target=worker.stop, args=(LONG,))
    stopping.start()
    neighbour_may_end.set()
    stopping.join(PATIENCE)
    stopped_before = not stopping.is_alive()
    stuck.go.set()
    assert stopped_before, "it has waited for the run that does not end"
    assert final(beside).result == b'"finished"'
    assert later.refresh().status is Status.QUEUED


def test_a_run_whose_context_does_not_close_is_given_up(new_broker, start, final):
    """Nothing is raised in it there, and it is not asked for ever whether that is possible."""
    go = threading.Event()

    class Closing(Middleware):
        @contextmanager
        def around_process_message(self, broker, message):
            yield
            if threading.current_thread().name.startswith("taskq-runner"):
                go.wait(PATIENCE)

    broker = new_broker(Clock(), Closing(), max_retries=0, hard_limit_grace=100)
    quick = declare(broker, lambda: "done", actor_name="quick", time_limit=50)
    start(broker)
    job = quick.send()
    try:
        record = final(job)
        assert (record.status, record.error.code) == (Status.FAILED, "time_limit")
        assert "go.wait(PATIENCE)" in record.error.traceback
    finally:
        go.set()


def test_a_run_is_given_up_though_its_contexts_cannot_be_opened(new_broker, start, final):
    """After hooks hear of it without them, as of a run whose contexts fail."""
    reasons, told = [], threading.Event()

    class Opening(Middleware):
        def around_process_message(self, broker, message):
            if threading.current_thread().name.startswith("taskq-interrupter"):
                raise ConnectionError("no database")

    def note(reason):
        reasons.append(reason)
        told.set()

    broker = new_broker(Clock(), Opening(), max_retries=0, hard_limit_grace=100)
    stuck = Stuck(broker, time_limit=50)
    start(broker, on_replace=note)
    job = stuck.actor.send()
    try:
        assert final(job).error.message == "no database"
        assert told.wait(PATIENCE) and job.id in reasons[0]
    finally:
        stuck.go.set()


def test_stopping_does_not_wait_for_a_run_that_is_given_up_meanwhile(make, start):
    """Nobody else has to end."""
    broker = make(max_retries=0, hard_limit_grace=200)
    stuck = Stuck(broker, time_limit=200)
    worker = start(broker)
    stuck.actor.send()
    assert stuck.begun.acquire(timeout=PATIENCE)
    stopping = threading.Thread(target=worker.stop, args=(LONG * 10,))
    stopping.start()
    try:
        stopping.join(PATIENCE)
        assert not stopping.is_alive()
    finally:
        stuck.go.set()


def test_a_coroutine_that_blocks_the_loop_is_given_up(make, start, final):
    """No exception reaches it: the loop never gets to cancel it."""
    broker = make(max_retries=0, hard_limit_grace=100)
    go = threading.Event()

    @declare(broker, time_limit=50)
    async def blocks():
        go.wait(PATIENCE)

    start(broker)
    job = blocks.send()
    try:
        record = final(job)
        assert record.error.code == "time_limit"
        assert "go.wait(PATIENCE)" in record.error.traceback
    finally:
        go.set()


def test_a_thread_in_a_call_of_c_code_is_given_up(make, start, final):
    """An exception would be seen only when the call returns."""
    broker = make(max_retries=0, hard_limit_grace=100)
    libc = ctypes.CDLL(None)

    @declare(broker, time_limit=50)
    def in_c():
        libc.usleep(1_500_000)

    start(broker)
    record = final(in_c.send())
    assert record.error.code == "time_limit"
    assert "libc.usleep" in record.error.traceback


# Shutdown


@pytest.mark.needs("ShutdownNotifications")
def test_jobs_that_want_to_know_are_told_at_once_that_the_worker_stops(make, start):
    """The others have the grace time to end."""
    broker = make()
    begun = threading.Semaphore(0)
    may_end = threading.Event()

    @declare(broker, notify_shutdown=True)
    def told():
        begun.release()
        try:
            spin()
        except Shutdown:
            may_end.set()
            raise

    @declare(broker)
    def left_alone():
        begun.release()
        assert may_end.wait(PATIENCE)
        return "ended"

    worker = start(broker)
    jobs = told.send(), left_alone.send()
    assert begun.acquire(timeout=PATIENCE) and begun.acquire(timeout=PATIENCE)
    worker.stop(LONG)
    assert jobs[0].refresh().status is Status.QUEUED
    assert jobs[0].record.attempt == 0
    assert jobs[1].refresh().record.result == b'"ended"'


@pytest.mark.needs("ShutdownNotifications")
def test_a_message_may_want_to_know(make, start):
    """Its option is over the actor's."""
    broker = make()
    begun = threading.Event()

    @declare(broker)
    def stays():
        begun.set()
        spin()

    worker = start(broker)
    job = stays.send_with_options(notify_shutdown=True)
    assert begun.wait(PATIENCE)
    worker.stop(LONG)
    assert job.refresh().status is Status.QUEUED


@pytest.mark.needs("CurrentJob", "ShutdownNotifications")
@pytest.mark.parametrize("option", ["notify_shutdown", "cooperative"])
def test_an_option_that_is_neither_true_nor_false_is_refused(make, option):
    """Where it is declared."""
    with pytest.raises(ValueError, match=f"{option} is 1; it is True or False"):
        declare(make(), spin, **{option: 1})


@pytest.mark.needs("ShutdownNotifications")
def test_a_coroutine_that_wants_to_know_is_cancelled(make, start):
    """And is released."""
    broker = make()
    begun = threading.Event()

    @declare(broker, notify_shutdown=True)
    async def waits():
        begun.set()
        await asyncio.Event().wait()

    worker = start(broker)
    job = waits.send()
    assert begun.wait(PATIENCE)
    worker.stop(LONG)
    assert job.refresh().status is Status.QUEUED


def test_a_job_that_swallowed_its_time_limit_still_gets_the_shutdown(make, start):
    """At the end of the grace time."""
    broker = make()
    swallowed = threading.Event()

    @declare(broker, time_limit=50)
    def stubborn():
        try:
            spin()
        except TimeLimitExceeded:
            swallowed.set()
        spin()

    worker = start(broker)
    job = stubborn.send()
    assert swallowed.wait(PATIENCE)
    worker.stop(0)
    assert job.refresh().status is Status.QUEUED


# Whatever the moment


@pytest.mark.usefixtures("no_garbage")
def test_limits_at_random_moments_harm_no_thread(make, start, caplog, final):
    """They hit the actor or nothing: no thread dies, no job is left, all is settled."""
    caplog.set_level(logging.CRITICAL, "flask_taskq.jobs")
    # Nobody renews the lease of a worker that is not in a process of its own.
    broker = make(max_retries=0, lease=3_600_000)
    rng = random.Random(1)

    @declare(broker)
    def endless():
        while True:
            len("")

    @declare(broker)
    def short(rounds):
        for _ in range(rounds):
            len("")

    ended = Counter()

    class Counting(Middleware):
        def after_ack(self, broker, message):
            ended["jobs"] += 1

        after_nack = after_ack

    broker.add_middleware(Counting())
    interrupted = broker.enqueue_many(endless.message() for _ in range(INTERRUPTS))
    others = broker.enqueue_many(short.message(rng.randrange(2_000)) for _ in range(1_000))
    worker = start(broker, threads=2)
    threads = worker.threads
    sent = 0
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        while ended["jobs"] < INTERRUPTS + 1_000:
            for runner in worker._runners:
                run = runner.current
                if run is not None:
                    sent += runner.interrupt(run, TimeLimitExceeded)
            for _ in range(rng.randrange(300)):
                pass
    finally:
        sys.setswitchinterval(interval)
    assert sent >= INTERRUPTS
    assert {final(job).error.code for job in interrupted} == {"time_limit"}
    errors = [final(job).error for job in others]
    assert {None, "time_limit"} == {error and error.code for error in errors}
    assert worker.threads == threads and all(one.is_alive() for one in threads)
    assert not worker.is_broken and worker.slots.started() == []


@pytest.mark.usefixtures("no_garbage")
def test_limits_at_random_moments_leave_the_log_open(make, start, final):
    """A job that is interrupted in the midst of logging must not silence all the others."""
    log = logging.getLogger("chatter")
    handler = logging.StreamHandler(io.StringIO())
    log.addHandler(handler)
    log.propagate = False
    broker = make(max_retries=0, hard_limit_grace=10 * LONG)

    @declare(broker)
    def chatter():
        while True:
            log.warning("row")

    try:
        start(broker, threads=2)
        jobs = [
            chatter.send_with_options(time_limit=limit) for limit in range(1, LIMITS_OF_LOGGING)
        ]
        assert {final(job).status for job in jobs} == {Status.FAILED}
    finally:
        log.removeHandler(handler)
        log.propagate = True


# A job that waits for another one


@pytest.fixture
def waiting(make, start):
    """A worker with a job that waits long for another one, which nobody runs."""
    broker = make(max_retries=0, hard_limit_grace=60_000)
    begun = threading.Semaphore(0)

    def wait(job_id):
        begun.release()
        return Job(broker.get_record(job_id), broker).get_result(block=True, timeout=None)

    declare(broker, lambda: None, actor_name="never", queue_name="nobody")
    actor = declare(broker, wait, time_limit=None)

    def send(**options):
        job_id = broker.actors["never"].send().id
        job = actor.send_with_options(args=(job_id,), **options)
        assert begun.acquire(timeout=PATIENCE)
        return job, time.monotonic()

    worker = start(broker, threads=1, queues=["default"])
    return broker, worker, send


def test_a_job_that_waits_for_another_hears_its_time_limit(waiting, final):
    """It does not take the end of its process to end it."""
    _, _, send = waiting
    job, began = send(time_limit=200)
    record = final(job)
    assert (record.status, record.error.code) == (Status.FAILED, "time_limit")
    assert machine_seconds(began) < 1
    assert "get_result" in record.error.traceback


def test_a_job_that_waits_for_another_hears_that_it_was_cancelled(waiting, final):
    """At once when its worker knows: there is no better place to end than a wait."""
    _, worker, send = waiting
    job, _ = send()
    job.cancel()
    began = time.monotonic()
    worker.tick()
    record = final(job)
    assert (record.status, record.error.type) == (Status.CANCELLED, "JobCancelled")
    assert machine_seconds(began) < 0.5


def test_a_job_that_waits_for_another_hears_that_its_worker_stops(waiting):
    """It is released, and the worker ends."""
    _, worker, send = waiting
    job, _ = send()
    began = time.monotonic()
    worker.stop(0)
    assert machine_seconds(began) < 1.5
    record = job.refresh().record
    assert (record.status, record.attempt) == (Status.QUEUED, 0)


def test_waits_that_were_given_up_keep_no_other_job_waiting(waiting, final):
    """Each has left the engine a call that goes on for a while."""
    _, _, send = waiting
    for _ in range(3):
        job, began = send(time_limit=50)
        assert final(job).error.code == "time_limit"
        assert machine_seconds(began) < 1
