"""What waits, and what wakes it. On the machine's clock, with real threads.

No test here depends on how long something takes: the times given are nets, so long that
who falls into one has hung.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from flask_taskq.clock import Clock
from flask_taskq.jobs.record import Status
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import released

NET = 60_000
NET_SECONDS = 20


def in_thread(function: Callable[..., Any], *args: Any) -> Future[Any]:
    """Call it in a thread that has begun; its outcome as a future."""
    future: Future[Any] = Future()
    begun = threading.Event()

    def run() -> None:
        begun.set()
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    begun.wait()
    return future


def test_a_fetch_that_waits_is_woken_by_an_enqueue(live: Bench) -> None:
    """Another thread's job ends the wait."""
    fetching = in_thread(live.worker().fetch, 1, NET)

    job_id = live.send()

    assert [delivery.id for delivery in fetching.result(NET_SECONDS)] == [job_id]


def test_a_fetch_that_waits_is_woken_by_a_job_given_back(live: Bench) -> None:
    """A job need not be new to be waited for."""
    delivery = live.running("w1")
    fetching = in_thread(live.worker("w2").fetch, 1, NET)

    live.settle(released(delivery))

    assert [again.id for again in fetching.result(NET_SECONDS)] == [delivery.id]


def test_a_fetch_that_waits_is_woken_by_jobs_handed_back(live: Bench) -> None:
    """What a dead worker held goes to those that wait."""
    delivery = live.running("w1")
    fetching = in_thread(live.worker("w2").fetch, 1, NET)

    live.engine.workers.hand_back("w1", [delivery.id], "killed by signal 9")

    assert [again.id for again in fetching.result(NET_SECONDS)] == [delivery.id]


def test_a_fetch_that_waits_sees_a_job_become_due(live: Bench) -> None:
    """Time alone wakes it."""
    job_id = live.send(delay=50)

    assert [delivery.id for delivery in live.worker().fetch(1, NET)] == [job_id]


def test_each_of_many_jobs_wakes_some_waiting_worker(live: Bench) -> None:
    """None is left over, though all wait for the same."""
    fetching = [in_thread(live.worker(f"w{n}").fetch, 1, NET) for n in range(4)]

    ids = [live.send() for _ in range(4)]

    fetched = [future.result(NET_SECONDS)[0].id for future in fetching]
    assert sorted(fetched) == ids


def test_a_fetch_ends_when_its_time_is_over(live: Bench) -> None:
    """It brings nothing, and did not return before."""
    consumer = live.worker()
    began = live.clock.monotonic()

    assert consumer.fetch(1, 50) == []
    assert live.clock.monotonic() - began >= 49


def test_a_job_of_another_queue_does_not_end_the_wait(live: Bench) -> None:
    """The fetch goes on until one of its own comes."""
    fetching = in_thread(live.worker(queues=["mine"]).fetch, 1, NET)

    live.send(queue="other")
    mine = live.send(queue="mine")

    assert [delivery.id for delivery in fetching.result(NET_SECONDS)] == [mine]


def test_an_interrupt_ends_a_fetch_that_waits(live: Bench) -> None:
    """It returns at once, with nothing."""
    consumer = live.worker()
    fetching = in_thread(consumer.fetch, 1, NET)

    consumer.interrupt()

    assert fetching.result(NET_SECONDS) == []


def test_an_interrupt_is_kept_for_the_next_fetch(live: Bench) -> None:
    """One that comes between two fetches is not lost."""
    consumer = live.worker()
    consumer.interrupt()

    assert in_thread(consumer.fetch, 1, NET).result(NET_SECONDS) == []


def test_an_interrupt_ends_one_fetch_only(live: Bench) -> None:
    """The one after it waits again."""
    consumer = live.worker()
    consumer.interrupt()
    consumer.fetch(1, NET)
    began = live.clock.monotonic()

    assert consumer.fetch(1, 50) == []
    assert live.clock.monotonic() - began >= 49


def test_an_interrupt_leaves_other_consumers_alone(live: Bench) -> None:
    """It is for one reading end."""
    other = in_thread(live.worker("w2").fetch, 1, NET)
    live.worker("w1").interrupt()

    job_id = live.send()

    assert [delivery.id for delivery in other.result(NET_SECONDS)] == [job_id]


def test_settling_goes_on_while_another_thread_fetches(live: Bench) -> None:
    """The two threads of a worker do not wait for each other."""
    delivery = live.running()
    consumer = live.worker()
    fetching = in_thread(consumer.fetch, 1, NET)

    settling = in_thread(consumer.settle_if_held, [done(delivery)])

    assert None not in settling.result(NET_SECONDS).outcomes
    assert live.status(delivery.id) is Status.SUCCEEDED
    consumer.interrupt()
    fetching.result(NET_SECONDS)


def test_waiting_for_a_job_ends_when_it_is_over(live: Bench) -> None:
    """The record comes with the result."""
    delivery = live.running()
    waiting = in_thread(live.engine.jobs.wait, delivery.id, NET)

    live.settle(done(delivery, b"42"))

    record = waiting.result(NET_SECONDS)
    assert (record.status, record.result) == (Status.SUCCEEDED, b"42")


def test_waiting_without_a_limit_ends_when_the_job_is_over(live: Bench) -> None:
    """No timeout means no timeout."""
    delivery = live.running()
    waiting = in_thread(live.engine.jobs.wait, delivery.id, None)

    live.settle(done(delivery))

    assert waiting.result(NET_SECONDS).status is Status.SUCCEEDED


def test_waiting_for_a_job_ends_when_it_is_cancelled(live: Bench) -> None:
    """Every final status counts."""
    job_id = live.send()
    waiting = in_thread(live.engine.jobs.wait, job_id, NET)

    live.engine.jobs.cancel(job_id)

    assert waiting.result(NET_SECONDS).status is Status.CANCELLED


def test_waiting_for_a_job_ends_when_it_is_buried(
    new_bench: Callable[..., Bench],
) -> None:
    """A job may also be failed by a supervisor."""
    live = new_bench(Clock(), max_crashes=1)
    delivery = live.running("w1")
    waiting = in_thread(live.engine.jobs.wait, delivery.id, NET)

    live.engine.workers.hand_back("w1", [delivery.id], "killed by signal 9")

    assert waiting.result(NET_SECONDS).status is Status.FAILED


def test_waiting_for_a_job_ends_when_it_is_purged(live: Bench) -> None:
    """A job that is gone will never be over."""
    job_id = live.send()
    waiting = in_thread(live.engine.jobs.wait, job_id, NET)

    live.engine.queues.purge("default")

    assert waiting.result(NET_SECONDS) is None


def test_waiting_for_a_job_that_is_over_returns_at_once(live: Bench) -> None:
    """There is nothing to wait for."""
    delivery = live.running()
    live.settle(done(delivery))

    waiting = in_thread(live.engine.jobs.wait, delivery.id, NET)

    assert waiting.result(NET_SECONDS) == live.record(delivery.id)


def test_waiting_brings_the_record_as_it_is_when_the_time_is_over(live: Bench) -> None:
    """Who asks gets an answer, though it is not the last word."""
    job_id = live.send()

    assert live.engine.jobs.wait(job_id, 30) == live.record(job_id)
    assert live.engine.jobs.wait(job_id, 0) == live.record(job_id)


def test_waiting_for_an_unknown_job_returns_at_once(live: Bench) -> None:
    """It may never come, so there is nothing to wait for."""
    waiting = in_thread(live.engine.jobs.wait, "0" * 32, NET)

    assert waiting.result(NET_SECONDS) is None


def test_two_workers_in_a_hurry_share_the_jobs(live: Bench) -> None:
    """Each job is delivered once, and none is left behind."""
    ids = live.send_many(200)
    consumers = [live.worker("w1"), live.worker("w2")]

    def drain(consumer) -> list[str]:
        seen = []
        deliveries = consumer.fetch(7, 0)
        while deliveries:
            seen += [delivery.id for delivery in deliveries]
            settlements = [done(delivery) for delivery in deliveries]
            deliveries = consumer.settle_if_held(settlements, 7).deliveries
        return seen

    draining = [in_thread(drain, consumer) for consumer in consumers]

    assert sorted(sum((future.result(NET_SECONDS) for future in draining), [])) == ids


def test_a_waiting_consumer_hears_of_a_resume(live: Bench) -> None:
    """It need not look again by itself."""
    live.engine.queues.pause("default")
    job_id = live.send()
    waiting = in_thread(live.worker().fetch, 1, NET)
    live.engine.queues.resume("default")

    assert [delivery.id for delivery in waiting.result(NET_SECONDS)] == [job_id]
