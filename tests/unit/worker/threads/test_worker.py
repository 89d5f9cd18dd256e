"""The threads of one process, on the memory engine and the machine's clock."""

import asyncio
import ctypes
import itertools
import logging
import threading
import time
from collections import Counter

import pytest

from flask_taskq import current_job
from flask_taskq import Message
from flask_taskq import Status
from flask_taskq.actors.hooks import Middleware
from flask_taskq.clock import Clock
from flask_taskq.errors import ConnectionClosed
from flask_taskq.errors import MiddlewareError
from flask_taskq.errors import Shutdown
from flask_taskq.jobs.delivery import Delivery
from flask_taskq.jobs.delivery import Released
from flask_taskq.jobs.delivery import Succeeded
from flask_taskq.worker.threads.worker import Worker
from tests.support.apps import declare
from tests.support.apps import Line
from tests.support.apps import make_broker
from tests.support.apps import messages
from tests.support.apps import once
from tests.support.apps import Watcher

#: Longer than anything here takes, in seconds and in milliseconds.
PATIENCE = 10
LONG = 10_000


@pytest.fixture
def watcher():
    return Watcher()


@pytest.fixture
def broker(watcher):
    return make_broker(Clock(), watcher, min_backoff=0)


@pytest.fixture
def start(broker):
    """Starts workers that are stopped with the test."""
    workers = []

    def start(threads=2, broker=broker, **options):
        worker = Worker(broker, worker_threads=threads, **options)
        worker.start()
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        if worker._fetcher.is_alive() or worker._settler.is_alive():
            worker.stop(0)


class Holding:
    """An actor that stays until it is let go, and tells when it has begun."""

    def __init__(self, broker, **options):
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.ran = Counter()
        self.actor = declare(broker, self._run, actor_name="hold", **options)

    def _run(self, n=0):
        self.ran[n] += 1
        self.begun.release()
        assert self.go.wait(PATIENCE)
        return n

    def wait_until_begun(self, count=1):
        for _ in range(count):
            assert self.begun.acquire(timeout=PATIENCE)


@pytest.fixture
def hold(broker):
    holding = Holding(broker)
    yield holding
    holding.go.set()


@pytest.fixture
def add(broker):
    return declare(broker, lambda a, b: a + b, actor_name="add")


def result(job):
    return job.get_result(block=True, timeout=LONG)


def stopping(worker, grace):
    """Stop a worker in another thread, which has begun to when this returns."""
    begun = threading.Event()

    class Noting(Middleware):
        def before_worker_shutdown(self, broker, worker):
            begun.set()

    worker.broker.add_middleware(Noting())
    thread = threading.Thread(target=worker.stop, args=(grace,))
    thread.start()
    assert begun.wait(PATIENCE)
    return thread


# Running jobs


def test_jobs_sent_before_it_started_are_run(start, add):
    """The queue was there first."""
    jobs = [add.send(n, n) for n in range(20)]
    start()
    assert [result(job) for job in jobs] == [2 * n for n in range(20)]


def test_jobs_sent_while_it_waits_are_run(start, add):
    """Nothing polls: a new job wakes the fetcher."""
    start()
    for n in range(20):
        assert result(add.send(n, 1)) == n + 1


@pytest.mark.parametrize("threads", [1, 8])
def test_many_short_jobs_are_each_run_once(start, broker, threads):
    """Whatever is prefetched."""
    ran = Counter()
    lock = threading.Lock()

    @declare(broker)
    def count(n):
        with lock:
            ran[n] += 1

    start(threads)
    jobs = broker.enqueue_many([count.message(n) for n in range(1_000)])
    for job in jobs:
        result(job)
    assert ran == Counter(range(1_000))


def test_long_jobs_run_at_the_same_time(start, hold):
    """As many as there are threads."""
    start(threads=3)
    jobs = [hold.actor.send(n) for n in range(3)]
    hold.wait_until_begun(3)
    hold.go.set()
    assert [result(job) for job in jobs] == [0, 1, 2]


def test_a_long_job_does_not_hold_up_short_ones(start, hold, add):
    """They run in the other thread."""
    start(threads=2)
    hold.actor.send()
    hold.wait_until_begun()
    for n in range(50):
        assert result(add.send(n, 0)) == n


@pytest.mark.needs("Retries")
def test_a_job_in_backoff_does_not_hold_up_others(start, broker, add):
    """Also with one thread."""
    fail = declare(broker, lambda: 1 / 0, actor_name="fail", min_backoff=3_600_000)
    start(threads=1)
    failing = fail.send()
    assert result(add.send(1, 2)) == 3
    assert failing.refresh().status is Status.SCHEDULED


@pytest.mark.needs("Retries")
def test_a_failed_job_is_retried(start, broker):
    """By the same worker, without being sent again."""
    attempts = iter([ValueError("no"), ValueError("no"), None])

    @declare(broker)
    def flaky():
        error = next(attempts)
        if error:
            raise error
        return "at last"

    start()
    job = flaky.send()
    assert result(job) == "at last"
    assert job.record.attempt == 3


def test_the_queues_are_those_of_the_actors(start, broker):
    """Unless others are given."""
    slow = declare(broker, lambda: 1, actor_name="slow", queue_name="slow")
    worker = start()
    assert worker.queues == ["slow"]
    assert result(slow.send()) == 1


def test_jobs_of_other_queues_are_left(start, broker, add):
    """Another worker runs them."""
    slow = declare(broker, lambda: 1, actor_name="slow", queue_name="slow")
    start(queues=["default"])
    job = slow.send()
    assert result(add.send(1, 1)) == 2
    assert job.refresh().status is Status.QUEUED


def test_damaged_bytes_do_not_stop_it(start, broker, add, watcher):
    """They have no message for the hooks of an outcome; the outcome is stored."""
    job_id = Line(broker).put(add.message(1, 2), message=b"\x00")
    start(threads=1)
    assert broker.wait_for_record(job_id, LONG).error.code == "malformed"
    assert result(add.send(1, 2)) == 3
    assert "before_nack" not in watcher.seen


def test_an_actor_that_exits_does_not_cost_a_thread(start, broker, add):
    """Not with one thread, either."""

    def leave():
        raise SystemExit

    start(threads=1)
    declare(broker, leave, actor_name="leave", **once()).send()
    assert result(add.send(1, 2)) == 3


def test_a_defect_of_the_runner_costs_neither_thread_nor_job(start, broker, add, monkeypatch):
    """The job is failed, and the next one runs."""
    worker = start(threads=1)
    [runner] = worker._runners
    run = runner.run

    def broken(delivery, now):
        monkeypatch.setattr(runner, "run", run)
        raise RuntimeError("defect")

    monkeypatch.setattr(runner, "run", broken)
    record = broker.wait_for_record(add.send(1, 2).id, LONG)
    assert (record.status, record.error.code) == (Status.FAILED, "internal")
    assert result(add.send(1, 2)) == 3


# Prefetching


def test_it_takes_no_more_slow_jobs_than_it_can_start(start, broker, monkeypatch):
    """Another process may be free."""
    # Short as the jobs of this test are, none counts as one that ended just now.
    monkeypatch.setattr("flask_taskq.worker.threads.prefetch._WINDOW", 0)
    begun = threading.Semaphore(0)
    gates = [threading.Event() for _ in range(5)]

    @declare(broker)
    def hold(n):
        begun.release()
        assert gates[n].wait(PATIENCE)

    jobs = broker.enqueue_many([hold.message(n) for n in range(5)])
    start(threads=1)
    for gate in gates:
        assert begun.acquire(timeout=PATIENCE)
        statuses = Counter(job.refresh().status for job in jobs)
        assert statuses[Status.RUNNING] == 1
        gate.set()
    result(jobs[-1])


@pytest.fixture
def still(clock):
    """A worker that is not started, on a clock that the test moves."""
    return Worker(make_broker(clock), worker_threads=4)


def delivery(n=0):
    return Delivery(
        id=f"{n:032x}",
        queue="default",
        actor="add",
        priority=0,
        message=b"{}",
        worker="w",
        attempt=1,
        claim=1,
        created_at=0,
    )


def done(n=0):
    return Succeeded(delivery=delivery(n), result=b"1")


def test_settlements_form_batches_by_themselves(still):
    """All that came while a call was in flight go with the next one, in order."""
    for n in range(20):
        still._settler.put(done(n))
    batch, is_last = still._settler._collect()
    assert batch == [done(n) for n in range(20)]
    assert not is_last


def test_a_batch_has_a_bound(still, monkeypatch):
    """No call of the engine blocks others for long."""
    monkeypatch.setattr("flask_taskq.worker.threads.settler._MAX_BATCH", 3)
    for n in range(4):
        still._settler.put(done(n))
    still._settler.end()
    assert [len(still._settler._collect()[0]) for _ in range(2)] == [3, 1]


def test_jobs_that_wait_behind_long_ones_are_given_back(start, broker, hold, monkeypatch):
    """They were fetched when jobs were short."""
    monkeypatch.setattr("flask_taskq.worker.threads.worker._HOARDING", 0)
    worker = start(threads=1)
    hold.actor.send(0)
    hold.wait_until_begun()
    # As if it had been fetched with many others.
    job = hold.actor.send(1)
    worker._accept(worker._consumer.fetch(1, 0))
    assert job.refresh().status is Status.RUNNING
    worker.tick()
    other = start(threads=1)
    hold.wait_until_begun()
    assert other.slots.started()[0].job_id == job.id
    assert job.refresh().record.attempt == 1
    hold.go.set()
    assert result(job) == 1


def test_a_settlement_wakes_a_fetcher_that_went_to_sleep(start, broker, hold, add):
    """Its fetch had come back empty while the settlement was under way."""
    worker = start(threads=1)
    hold.actor.send()
    hold.wait_until_begun()
    # The fetcher is asleep, because all threads are busy; and the settler believes that
    # it is asking already.
    worker._prefetch._asked = 1
    settle = worker._consumer.settle_if_held

    def fetch_returns_meanwhile(batch, limit):
        worker._prefetch.answered()
        return settle(batch, limit)

    worker._consumer.settle_if_held = fetch_returns_meanwhile
    hold.go.set()
    assert result(add.send(1, 2)) == 3


# Trouble with the engine


def test_a_settlement_that_the_engine_refuses_once_is_tried_again(start, broker, add, caplog):
    """It is not given up while the worker lives; the job does not run again."""
    make = broker.engine.consumer
    errors = iter([ConnectionClosed("gone"), RuntimeError("odd")])

    def consumer(*args, **kwargs):
        consumer = make(*args, **kwargs)
        settle = consumer.settle_if_held

        def flaky(*args):
            for error in errors:
                raise error
            return settle(*args)

        consumer.settle_if_held = flaky
        return consumer

    broker.engine.consumer = consumer
    start(threads=1)
    job = add.send(1, 2)
    assert result(job) == 3
    assert job.record.attempt == 1
    texts = messages(caplog, logging.ERROR)
    assert "cannot settle, will try again: gone" in texts[0]
    assert "RuntimeError: odd" in texts[1]


def test_a_settlement_that_can_never_be_stored_holds_up_no_other(start, broker, add, caplog):
    """After a few tries its job fails instead, and says so."""
    make = broker.engine.consumer
    culprit = add.send(0, 0)

    def consumer(*args, **kwargs):
        consumer = make(*args, **kwargs)
        settle = consumer.settle_if_held

        def picky(settlements, *args):
            if any(
                isinstance(s, Succeeded) and s.delivery.id == culprit.id for s in settlements
            ):
                raise ValueError("not this one")
            return settle(settlements, *args)

        consumer.settle_if_held = picky
        return consumer

    broker.engine.consumer = consumer
    start(threads=2)
    others = [add.send(n, 1) for n in range(10)]
    assert [result(job) for job in others] == list(range(1, 11))
    record = broker.wait_for_record(culprit.id, 20_000)
    assert record.status is Status.FAILED
    assert (record.error.code, record.error.message) == ("internal", "not this one")


def test_a_fetch_that_fails_is_tried_again(start, broker, add, caplog):
    """The worker stays up."""
    make = broker.engine.consumer
    errors = iter([ConnectionClosed("gone"), RuntimeError("odd")])

    def consumer(*args, **kwargs):
        consumer = make(*args, **kwargs)
        fetch = consumer.fetch

        def flaky(*args):
            for error in errors:
                raise error
            return fetch(*args)

        consumer.fetch = flaky
        return consumer

    broker.engine.consumer = consumer
    start(threads=1)
    assert result(add.send(1, 2)) == 3
    texts = messages(caplog, logging.ERROR)
    assert "cannot fetch, will try again: gone" in texts[0]
    assert "RuntimeError: odd" in texts[1]


def test_a_lost_lease_is_recovered(start, broker, add, caplog):
    """It registers again and goes on."""
    worker = start()
    broker.engine.workers.hand_back(worker.id, (), "taken for dead")
    assert result(add.send(1, 2)) == 3
    assert f"worker {worker.id} lost its lease" in messages(caplog)[0]


@pytest.mark.needs("CurrentJob")
def test_a_settlement_after_a_lost_lease_changes_nothing(start, broker, watcher):
    """The job runs elsewhere by now, and that run counts: no hook hears of this one."""
    begun, gates, refused = threading.Semaphore(0), {}, threading.Event()

    @declare(broker)
    def hold():
        gate = gates[current_job.crashes]
        begun.release()
        assert gate.wait(PATIENCE)
        return current_job.crashes

    gates.update({0: threading.Event(), 1: threading.Event()})
    worker = start(threads=1)
    settle = worker._consumer.settle_if_held

    def noting(*args):
        outcome = settle(*args)
        if None in outcome.outcomes:
            refused.set()
        return outcome

    worker._consumer.settle_if_held = noting
    job = hold.send()
    assert begun.acquire(timeout=PATIENCE)
    broker.engine.workers.hand_back(worker.id, [job.id], "taken for dead")
    second = start(threads=1)
    assert begun.acquire(timeout=PATIENCE)
    gates[0].set()
    assert refused.wait(PATIENCE)
    assert job.refresh().record.worker == second.id
    assert watcher.seen.count("after_ack") == 0
    gates[1].set()
    assert result(job) == 1


def test_a_lease_that_nobody_renews_is_renewed(start, broker):
    """Its supervisor is stopped or dead."""
    worker = start()
    leases = broker.engine.store.leases
    worker.slots.renewed_at -= 25_000
    before = leases[worker.id]
    worker.tick()
    assert leases[worker.id] >= before
    assert worker._clock.monotonic() - worker.slots.renewed_at < LONG


def test_a_lease_that_was_renewed_is_left_alone(start, broker, monkeypatch):
    """The supervisor does it for all."""
    worker = start()
    monkeypatch.setattr(broker.engine.workers, "renew", None)
    worker.tick()


def test_no_job_is_begun_under_a_lease_that_may_be_over(still, clock):
    """It is released: somebody else may hold it."""
    still._lease.begin()
    clock.advance(still.broker.settings.lease * 5 // 6)
    assert still._run(0, still._runners[0], delivery()) == Released(delivery=delivery())


def test_nothing_is_fetched_under_a_lease_that_may_be_over(start, broker, add):
    """Until it is renewed: it would not be started, and nobody else could have it."""
    worker = start()
    worker.slots.renewed_at -= broker.settings.lease * 5 / 6
    worker._consumer.interrupt()
    wait_for_answers(worker, 2)
    job = add.send(1, 2)
    wait_for_answers(worker, 2)
    assert job.refresh().status is Status.QUEUED

    worker.tick()
    assert result(job) == 3


def wait_for_answers(worker, count):
    """Until the fetcher has looked so many times whether it may ask for jobs."""
    nobody = threading.Event()
    until = time.monotonic() + PATIENCE
    before = worker._prefetch.answers
    while worker._prefetch.answers < before + count:
        assert time.monotonic() < until
        nobody.wait(0.01)


# Stopping


def test_stopping_lets_running_jobs_finish(start, hold):
    """Within the grace time."""
    worker = start(threads=1)
    job = hold.actor.send(5)
    hold.wait_until_begun()
    stop = stopping(worker, LONG)
    hold.go.set()
    stop.join(PATIENCE)
    assert not stop.is_alive()
    assert job.refresh().status is Status.SUCCEEDED


def test_stopping_gives_back_what_has_not_started(start, broker, hold):
    """Uncharged, and in the place that it had."""
    worker = start(threads=1)
    first = hold.actor.send(0)
    hold.wait_until_begun()
    held = [hold.actor.send(n) for n in (1, 2)]
    worker._accept(worker._consumer.fetch(2, 0))
    stop = stopping(worker, LONG)
    hold.go.set()
    stop.join(PATIENCE)
    assert first.refresh().status is Status.SUCCEEDED
    records = [job.refresh().record for job in held]
    assert [(r.status, r.attempt, r.crashes) for r in records] == [(Status.QUEUED, 0, 0)] * 2
    broker.engine.workers.register("next")
    fetched = broker.engine.consumer(["default"], "next").fetch(2, 0)
    assert [delivery.id for delivery in fetched] == [job.id for job in held]


def test_stopping_interrupts_jobs_after_the_grace_time(start, broker):
    """They see Shutdown, clean up, and are released uncharged."""
    begun, seen = threading.Event(), []

    @declare(broker)
    def endless():
        begun.set()
        try:
            for _ in itertools.count():
                threading.Event().wait(0.001)
        except Exception:
            seen.append("swallowed")
        except Shutdown:
            seen.append("cleaned up")
            raise

    worker = start(threads=1)
    job = endless.send()
    assert begun.wait(PATIENCE)
    worker.stop(0)
    record = job.refresh().record
    assert seen == ["cleaned up"]
    assert (record.status, record.attempt, record.crashes) == (Status.QUEUED, 0, 0)


def test_a_job_that_cannot_be_interrupted_is_given_back(start, hold, monkeypatch):
    """It sits in C code; its own end comes too late and is refused."""
    monkeypatch.setattr("flask_taskq.worker.threads.worker._INTERRUPT_TIME", 0)
    worker = start(threads=1)
    job = hold.actor.send()
    hold.wait_until_begun()
    worker.stop(0)
    record = job.refresh().record
    assert (record.status, record.attempt) == (Status.QUEUED, 0)


def test_hurrying_ends_the_grace_time(start, hold, monkeypatch):
    """A second signal."""
    monkeypatch.setattr("flask_taskq.worker.threads.worker._INTERRUPT_TIME", 0)
    worker = start(threads=1)
    job = hold.actor.send()
    hold.wait_until_begun()
    stop = stopping(worker, 3_600_000)
    worker.hurry()
    stop.join(PATIENCE)
    assert not stop.is_alive()
    assert job.refresh().status is Status.QUEUED


def test_stopping_while_idle_is_quick(start, broker):
    """A fetch that waits is interrupted."""
    worker = start()
    worker.stop(3_600_000)
    assert not worker._fetcher.is_alive()
    assert not worker._settler.is_alive()
    assert not any(thread.is_alive() for thread in worker._threads)


def test_nothing_is_started_while_hooks_hear_that_it_stops(start, broker, add):
    """However long they take."""

    class Late(Middleware):
        def before_worker_shutdown(self, broker, worker):
            job = add.send(1, 2)
            self.record = broker.wait_for_record(job.id, 200)

    late = Late()
    broker.add_middleware(late)
    worker = start()
    worker.stop(LONG)
    assert late.record.status is Status.QUEUED


def test_stopping_signs_off(start, broker):
    """Nobody waits for its lease to run out."""
    worker = start()
    worker.stop(0)
    assert worker.id not in broker.engine.store.leases


def test_a_stopped_worker_fetches_nothing(start, broker, add):
    """What is sent afterwards waits for another."""
    start().stop(0)
    job = add.send(1, 2)
    assert job.refresh().status is Status.QUEUED
    start()
    assert result(job) == 3


def test_stopping_ends_though_the_engine_is_gone(start, broker, hold, caplog, monkeypatch):
    """The last settlements are given up after a while."""
    monkeypatch.setattr("flask_taskq.worker.threads.worker._FLUSH_TIME", 0)
    worker = start(threads=1)
    hold.actor.send()
    hold.wait_until_begun()

    def gone(*args):
        raise ConnectionClosed("gone")

    worker._consumer.settle_if_held = gone
    hold.go.set()
    worker.stop(LONG)
    assert f"worker {worker.id}: the last settlements cannot be stored" in messages(caplog)


def test_stopping_ends_though_it_cannot_sign_off(start, broker, caplog, monkeypatch):
    """Its lease runs out by itself."""

    def gone(*args):
        raise ConnectionClosed("gone")

    worker = start(threads=1)
    monkeypatch.setattr(broker.engine.workers, "hand_back", gone)
    worker.stop(LONG)
    assert f"worker {worker.id} could not be signed off: gone" in messages(caplog)


@pytest.mark.needs("TimeLimit")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("name", ["fetcher", "settler", "runner-0", "runner-1", "interrupter"])
def test_it_is_broken_without_any_of_its_threads(start, broker, name):
    """Its process ends, so that its jobs do not stay under a lease that is renewed."""
    gone = threading.Event()
    # One that runs keeps its thread, so that the next one wakes the other runner.
    wait = PATIENCE if name.startswith("runner") else 0
    actor = declare(broker, lambda: gone.wait(wait), actor_name="work", time_limit=1_000)
    before = set(threading.enumerate())
    worker = start(threads=2)
    own = set(threading.enumerate()) - before
    [victim] = [thread for thread in own if thread.name == f"taskq-{name}"]
    assert not worker.is_broken
    raise_in(victim, SystemExit)
    for _ in range(10):
        # Whatever it waits for.
        actor.send()
    victim.join(PATIENCE)
    gone.set()
    assert worker.is_broken


def raise_in(thread, exception):
    """As a library may that ends what takes too long, and is late."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(exception)
    )


@pytest.mark.parametrize("error", [SystemExit(), asyncio.CancelledError(), KeyboardInterrupt()])
@pytest.mark.parametrize("hook", ["before_ack", "after_ack"])
def test_whatever_a_hook_raises_over_an_outcome_it_is_stored(start, broker, add, hook, error):
    """And the thread that stores outcomes goes on."""

    def fail(self, broker, message):
        raise error

    broker.add_middleware(type("Unlucky", (Middleware,), {hook: fail})())
    worker = start(threads=1)
    assert [result(add.send(n, 2)) for n in range(3)] == [2, 3, 4]
    assert not worker.is_broken


def test_it_is_idle_when_it_holds_nothing(start, hold):
    """What an isolated process waits for."""
    worker = start(threads=1)
    assert worker.is_idle
    job = hold.actor.send()
    hold.wait_until_begun()
    assert not worker.is_idle
    hold.go.set()
    result(job)
    worker.stop(LONG)
    assert worker.is_idle


# Hooks


def test_hooks_of_the_workers_life_come_in_dramatiqs_order(start, watcher):
    """Threads say so themselves."""
    worker = start(threads=1)
    worker.stop(LONG)
    life = [name for name in watcher.seen if "worker" in name or "consumer" in name]
    threads = {
        "after_worker_thread_boot",
        "after_consumer_thread_boot",
        "before_worker_thread_shutdown",
        "before_consumer_thread_shutdown",
    }
    assert [name for name in life if name not in threads] == [
        "before_worker_boot",
        "after_worker_boot",
        "before_worker_shutdown",
        "after_worker_shutdown",
    ]
    assert Counter(name for name in life if name in threads) == Counter(threads)
    assert watcher.given["before_worker_boot"] == ((worker,), {})
    for kind in ("worker", "consumer"):
        boot = life.index(f"after_{kind}_thread_boot")
        shutdown = life.index(f"before_{kind}_thread_shutdown")
        assert 0 < boot < shutdown < len(life) - 1


def test_thread_hooks_run_in_their_threads(start, broker):
    """What they set up may be local to the thread."""
    seen = []

    class Noting(Middleware):
        def after_worker_thread_boot(self, broker, thread):
            seen.append(thread is threading.current_thread())

        def before_worker_thread_shutdown(self, broker, thread):
            seen.append(thread is threading.current_thread())

        def after_consumer_thread_boot(self, broker, thread):
            seen.append(thread is threading.current_thread())

    broker.add_middleware(Noting())
    start(threads=3).stop(LONG)
    assert seen == [True] * 7


def test_hooks_of_a_job_come_in_dramatiqs_order(start, watcher, add):
    """From being sent to its outcome being stored."""
    worker = start(threads=1)
    result(add.send(1, 2))
    worker.stop(LONG)
    names = ("before_enqueue", "process_message", "skip_message", "ack", "enter", "leave")
    assert [name for name in watcher.seen if name.endswith(names)] == [
        "before_enqueue",
        "enter",
        "before_process_message",
        "after_process_message",
        "leave",
        "before_ack",
        "after_ack",
    ]


@pytest.mark.needs("Retries")
def test_a_job_that_fails_for_good_is_nacked(start, broker, watcher):
    """A retry is an ack, as in Dramatiq."""
    fail = declare(broker, lambda: 1 / 0, actor_name="fail", max_retries=1)
    worker = start(threads=1)
    job = fail.send()
    broker.wait_for_record(job.id, LONG)
    worker.stop(LONG)
    acks = [name for name in watcher.seen if name.endswith("ack")]
    assert acks == ["before_ack", "after_ack", "before_nack", "after_nack"]
    (message,), _ = watcher.given["after_nack"]
    assert (message.id, message.attempt, message.failed) == (job.id, 2, True)
    assert watcher.given["after_ack"][0][0].failed is False


def test_nothing_keeps_an_outcome_from_being_stored(start, broker, add, caplog):
    """Not a hook that refuses, either."""

    class Refusing(Middleware):
        def before_ack(self, broker, message):
            raise MiddlewareError("refused")

    broker.add_middleware(Refusing())
    start()
    assert result(add.send(1, 2)) == 3
    assert any(text.endswith("refused") for text in messages(caplog, logging.ERROR))


# Engine calls of jobs


def test_a_job_can_send_another_from_a_thread_that_is_not_its_own(start, broker, add):
    """An exception that is raised into it cannot hit a connection."""
    threads = []
    store = broker.engine.enqueue

    def noting(envelopes):
        threads.append(threading.get_ident())
        return store(envelopes)

    broker.engine.enqueue = noting

    @declare(broker)
    def parent():
        return [threading.get_ident(), add.send(1, 2).id]

    start(threads=1)
    own, child = result(parent.send())
    assert broker.wait_for_record(child, LONG).result == b"3"
    assert threads[0] == threading.get_ident()
    assert threads[1] not in (own, threading.get_ident())


def test_a_job_can_wait_for_another(start, broker, add):
    """In another thread of the same worker."""
    parent = declare(broker, lambda: result(add.send(1, 2)) + 1, actor_name="parent")
    start(threads=2)
    assert result(parent.send()) == 4


def test_a_job_sees_what_the_engine_says(start, broker, add):
    """Errors come through the other thread."""

    def refuse(envelopes):
        raise ConnectionClosed("gone")

    parent = declare(broker, lambda: add.send(1, 2), actor_name="parent", **once())
    job = parent.send()
    broker.engine.enqueue = refuse
    start()
    assert broker.wait_for_record(job.id, LONG).error.type == "ConnectionClosed"


def test_a_thread_of_the_apps_own_asks_the_engine_itself(start, broker, add):
    """Only jobs are interrupted."""
    start()
    called_in = []
    get = broker.engine.jobs.get

    def noting(job_id):
        called_in.append(threading.get_ident())
        return get(job_id)

    broker.engine.jobs.get = noting
    add.send(1, 2).refresh()
    assert called_in == [threading.get_ident()]


# What it says about itself


def test_the_slots_say_which_jobs_have_started(start, hold):
    """The supervisor reads them after the process has died."""
    worker = start(threads=2)
    job = hold.actor.send()
    hold.wait_until_begun()
    assert [started.job_id for started in worker.slots.started()] == [job.id]
    hold.go.set()
    result(job)
    worker.stop(LONG)
    assert worker.slots.started() == []


def test_every_worker_has_an_id_of_its_own(broker):
    """Two on one machine, or one after the other, are not taken for each other."""
    assert len({Worker(broker, worker_threads=1).id for _ in range(50)}) == 50


# Queues of actors that are declared late


def declare_late(broker):
    return declare(broker, lambda: "ran", actor_name="late", queue_name="late")


def test_a_queue_that_a_late_actor_brings_is_served(broker, add, start):
    """As by an import in a job. The supervisor is informed."""
    told = []
    worker = start(on_queues=told.append)
    late = declare_late(broker)
    worker.tick()
    assert result(late.send()) == "ran"
    assert result(add.send(1, 2)) == 3
    worker.tick()
    assert (told, worker.queues) == ([["late"]], ["default", "late"])


def test_a_late_actor_brings_no_queue_where_queues_were_named(broker, add, start):
    """Named queues are served, and no others."""
    told = []
    worker = start(queues=["default"], on_queues=told.append)
    late = declare_late(broker).send()
    worker.tick()
    assert result(add.send(1, 2)) == 3
    assert (told, worker.queues, late.refresh().status) == ([], ["default"], Status.QUEUED)


def test_a_queue_to_which_a_job_only_sends_is_not_served(broker, add, start):
    """It may be another app's."""
    worker = start()
    sent = broker.enqueue(Message("billing", "charge", (), {}, {}))
    declare(broker, lambda: None, actor_name="late")
    worker.tick()
    assert result(add.send(1, 2)) == 3
    assert (worker.queues, sent.refresh().status) == (["default"], Status.QUEUED)


def test_a_process_that_alone_cannot_reach_the_engine_asks_to_be_replaced(
    start, broker, add, monkeypatch
):
    """Its lease is renewed by its supervisor, and its jobs would be stuck for ever."""
    monkeypatch.setattr("flask_taskq.worker.threads.worker._CUT_OFF", 100)
    worn = []
    is_gone = threading.Event()
    worker = start(on_replace=worn.append)

    def gone(*args):
        is_gone.set()
        raise ConnectionClosed("no descriptor is left")

    worker._consumer.settle_if_held = gone
    add.send(1, 2)
    assert is_gone.wait(PATIENCE)
    worker.tick()
    assert worn == [], "the supervisor may not reach it either"
    until = time.monotonic() + PATIENCE
    nobody = threading.Event()
    while not worn and time.monotonic() < until:
        worker.slots.renewed_at = worker._clock.monotonic()  # as the supervisor does
        worker.tick()
        nobody.wait(0.01)
    assert worn == ["it cannot reach the engine, which its supervisor can"]


def test_a_process_that_reaches_the_engine_again_is_left_alone(start, broker, add, monkeypatch):
    """However long no process could: another one may be the first to reach it."""
    monkeypatch.setattr("flask_taskq.worker.threads.worker._CUT_OFF", 100)
    worn = []
    worker = start(on_replace=worn.append)
    settle = worker._consumer.settle_if_held
    failures = iter(range(4))

    def flaky(*args):
        for _ in failures:
            raise ConnectionClosed("the server starts")
        worker.slots.renewed_at = worker._clock.monotonic()
        return settle(*args)

    worker._consumer.settle_if_held = flaky
    job = add.send(1, 2)
    while not job.refresh().status.is_final:
        worker.tick()
    worker.tick()
    assert worn == []
