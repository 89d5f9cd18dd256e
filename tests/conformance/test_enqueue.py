"""What an engine owes to a sender."""

from __future__ import annotations

import threading

import pytest

from flask_taskq.clock import Clock
from flask_taskq.clock import END_OF_TIME
from flask_taskq.jobs.record import JobRecord
from flask_taskq.jobs.record import Status
from tests.support.bench import Bench
from tests.support.bench import done

ODD_BYTES = [
    b"",
    b"\x00",
    bytes(range(256)),
    b"\xff\xfe not text",
    b'{"half": ',
    b"\x80\x04K\x01.",
    b"x" * 300_000,
]


def test_a_job_has_a_record_as_soon_as_it_is_enqueued(bench: Bench) -> None:
    """The record says what the envelope said, and that the job may run."""
    now = bench.clock.now()
    job_id = bench.send(
        queue="mail", actor="greet", priority=-3, message=b"[1]", max_attempts=4
    )

    assert bench.record(job_id) == JobRecord(
        id=job_id,
        queue="mail",
        actor="greet",
        priority=-3,
        status=Status.QUEUED,
        message=b"[1]",
        created_at=now,
        updated_at=now,
        max_attempts=4,
    )


def test_a_job_with_a_delay_is_scheduled(bench: Bench) -> None:
    """The record says when it is due."""
    job_id = bench.send(delay=5_000)

    record = bench.record(job_id)
    assert record.status is Status.SCHEDULED
    assert record.scheduled_for == bench.clock.now() + 5_000


@pytest.mark.parametrize("delay", [0, -1, -100_000])
def test_a_job_that_is_due_already_is_queued(bench: Bench, delay: int) -> None:
    """A time that is over is no reason to wait."""
    job_id = bench.send(delay=delay)

    record = bench.record(job_id)
    assert (record.status, record.scheduled_for) == (Status.QUEUED, None)


def test_a_job_may_wait_until_a_moment(bench: Bench) -> None:
    """By the engine's clock."""
    moment = bench.engine.now() + 5_000
    job_id = bench.send(due_at=moment)
    over = bench.send(due_at=bench.engine.now())

    assert bench.record(job_id).scheduled_for == moment
    assert bench.status(over) is Status.QUEUED


def test_a_job_does_not_wait_longer_than_dates_can_say(bench: Bench) -> None:
    """The latest moment is the end of the year 9999."""
    job_id = bench.send(delay=10**17)

    assert bench.record(job_id).scheduled_for == END_OF_TIME


def test_enqueueing_tells_the_time_of_the_engine(bench: Bench) -> None:
    """So that the sender knows what stands in the new record."""
    envelope = bench.envelope(delay=1_000)
    [stored] = bench.engine.enqueue([envelope])

    record = bench.record(envelope.id)
    assert stored.at == record.created_at == bench.clock.now()
    assert stored == (envelope.id, Status.SCHEDULED, record.scheduled_for, None, stored.at)


def test_enqueueing_again_tells_what_the_job_is_now(bench: Bench) -> None:
    """The sender of a message that is sent twice learns that it is not new."""
    first, second = bench.envelope(), bench.envelope()
    bench.engine.enqueue([first])
    bench.settle(done(bench.claim()))

    again, new = bench.engine.enqueue([first, second])

    assert (again.id, again.status, again.reason) == (first.id, Status.SUCCEEDED, "id")
    assert not again.is_new
    assert (new.id, new.status, new.is_new) == (second.id, Status.QUEUED, True)


def test_of_two_messages_with_one_id_in_a_call_the_first_is_stored(bench: Bench) -> None:
    """As if they had come one after the other."""
    one = bench.envelope(message=b"1")
    other = bench.envelope(id=one.id, message=b"2", priority=3)

    stored = bench.engine.enqueue([one, other])

    assert [each.reason for each in stored] == [None, "id"]
    assert bench.record(one.id).message == b"1"


def test_a_job_that_was_sent_long_ago_keeps_that_time(bench: Bench) -> None:
    """The engine adds when it stored the job."""
    record = bench.record(bench.send(created_at=12_345))

    assert (record.created_at, record.updated_at) == (12_345, bench.clock.now())


def test_many_jobs_keep_the_order_in_which_they_are_given(bench: Bench) -> None:
    """Within one call, too, first in is first out."""
    ids = bench.send_many(100)

    assert bench.claim_all() == ids


def test_enqueueing_nothing_does_nothing(bench: Bench) -> None:
    """An empty batch is no error."""
    bench.engine.enqueue([])

    assert bench.engine.queues.depths() == {}


def test_an_id_that_exists_is_passed_over(bench: Bench) -> None:
    """A call whose outcome is unknown can be repeated without harm."""
    first = bench.envelope(message=b"first")
    bench.engine.enqueue([first])
    before = bench.record(first.id)
    bench.clock.advance(1)

    bench.engine.enqueue([bench.envelope(id=first.id, message=b"second", queue="other")])

    assert bench.record(first.id) == before
    assert bench.engine.queues.depths() == {"default": 1}


def test_the_new_ones_beside_an_id_that_exists_are_stored(bench: Bench) -> None:
    """A batch of which a part was stored before is completed."""
    old, new = bench.envelope(), bench.envelope()
    bench.engine.enqueue([old])

    bench.engine.enqueue([old, new, new])

    assert bench.claim_all() == [old.id, new.id]


def test_a_job_that_runs_or_is_over_is_not_enqueued_again(bench: Bench) -> None:
    """Its id exists, whatever its status."""
    envelope = bench.envelope()
    bench.engine.enqueue([envelope])
    delivery = bench.claim()
    bench.engine.enqueue([envelope])
    assert bench.claim_all() == []

    bench.settle(done(delivery))
    bench.engine.enqueue([envelope])

    assert bench.status(envelope.id) is Status.SUCCEEDED
    assert bench.claim_all() == []


def test_a_batch_becomes_visible_all_at_once(new_bench) -> None:
    """Nobody sees a part of it, however often they look."""
    bench = new_bench(Clock())
    stop = threading.Event()

    def send() -> None:
        for _ in range(20):
            bench.send_many(50)
        stop.set()

    sender = threading.Thread(target=send)
    sender.start()
    seen = set()
    while not stop.is_set():
        seen.add(bench.engine.queues.depths().get("default", 0))
    sender.join()

    assert all(depth % 50 == 0 for depth in seen)
    assert bench.engine.queues.depths() == {"default": 1_000}


def test_threads_that_send_at_once_lose_nothing(live: Bench) -> None:
    """Each envelope of each of them is stored, once."""
    batches = [[live.envelope() for _ in range(25)] for _ in range(8)]
    shared = live.envelope()

    def send(batch) -> None:
        for envelope in batch:
            live.engine.enqueue([envelope, shared])

    threads = [threading.Thread(target=send, args=(batch,)) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    expected = [envelope.id for batch in batches for envelope in batch] + [shared.id]
    assert sorted(live.claim_all()) == sorted(expected)


@pytest.mark.parametrize("data", ODD_BYTES, ids=range(len(ODD_BYTES)))
def test_a_message_is_bytes_that_the_engine_does_not_read(bench: Bench, data: bytes) -> None:
    """Whatever they are, the delivery and the record have the same."""
    job_id = bench.send(message=data)

    assert bench.record(job_id).message == data
    assert bench.claim().message == data


@pytest.mark.parametrize("data", ODD_BYTES, ids=range(len(ODD_BYTES)))
def test_a_result_is_bytes_that_the_engine_does_not_read(bench: Bench, data: bytes) -> None:
    """Whatever they are, the record has the same."""
    delivery = bench.running()

    bench.settle(done(delivery, data))

    assert bench.record(delivery.id).result == data


@pytest.mark.parametrize("priority", [-9, -1, 0, 1, 9])
def test_every_priority_is_kept(bench: Bench, priority: int) -> None:
    """The record and the delivery name the one that was sent."""
    job_id = bench.send(priority=priority)

    assert bench.record(job_id).priority == priority
    assert bench.claim().priority == priority
