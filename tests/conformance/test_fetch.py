"""Which jobs a worker gets, and in which order."""

from __future__ import annotations

import pytest

from flask_taskq.errors import LeaseLost
from flask_taskq.jobs.delivery import Delivery
from flask_taskq.jobs.lifecycle import ISOLATION_DELAY
from flask_taskq.jobs.record import Lane
from flask_taskq.jobs.record import Status
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import failed
from tests.support.bench import released
from tests.support.bench import retry


def test_a_delivery_says_what_the_runner_needs(bench: Bench) -> None:
    """The message and its token, and nothing that must be looked up."""
    created_at = bench.clock.now()
    job_id = bench.send(actor="greet", priority=2, message=b"[1]")
    bench.clock.advance(7)

    delivery = bench.claim("w1")

    assert delivery == Delivery(
        id=job_id,
        queue="default",
        actor="greet",
        priority=2,
        message=b"[1]",
        worker="w1",
        attempt=1,
        claim=1,
        created_at=created_at,
        handle=delivery.handle,
    )


def test_a_claimed_job_runs_at_its_worker(bench: Bench) -> None:
    """The record names the worker, the attempt and the moment."""
    job_id = bench.send()
    bench.clock.advance(7)

    bench.claim("w1")

    record = bench.record(job_id)
    assert (record.status, record.worker, record.attempt) == (Status.RUNNING, "w1", 1)
    assert record.started_at == record.updated_at == bench.clock.now()


def test_jobs_of_one_priority_come_in_order(bench: Bench) -> None:
    """First in, first out, over any number of calls."""
    ids = [bench.send() for _ in range(10)]
    consumer = bench.worker()

    fetched = [delivery.id for _ in range(5) for delivery in consumer.fetch(2, 0)]

    assert fetched == ids


def test_a_lower_number_goes_first(bench: Bench) -> None:
    """Priorities run from -9, first, to 9, last."""
    order = [9, 0, -9, 5, -1, 0]
    ids = [bench.send(priority=priority) for priority in order]

    fetched = bench.claim_all()

    assert fetched == [ids[2], ids[4], ids[1], ids[5], ids[3], ids[0]]


def test_a_job_that_comes_later_with_a_lower_number_overtakes(bench: Bench) -> None:
    """Priority goes before age."""
    old = bench.send(priority=1)
    new = bench.send(priority=0)

    assert bench.claim_all() == [new, old]


def test_no_more_than_the_limit_are_claimed(bench: Bench) -> None:
    """What was not fetched still waits."""
    bench.send_many(5)

    assert len(bench.worker().fetch(3, 0)) == 3
    assert bench.engine.queues.depths() == {"default": 2}


def test_a_limit_above_what_waits_brings_what_waits(bench: Bench) -> None:
    """A fetch does not wait until its limit is reached."""
    ids = bench.send_many(2)

    assert [delivery.id for delivery in bench.worker().fetch(50, 60_000)] == ids


def test_an_empty_queue_brings_nothing(bench: Bench) -> None:
    """Without a timeout a fetch returns at once."""
    assert bench.worker().fetch(1, 0) == []


def test_a_job_is_delivered_to_one_worker_only(bench: Bench) -> None:
    """What one has claimed, the other does not see."""
    ids = bench.send_many(4)

    first = [delivery.id for delivery in bench.worker("w1").fetch(2, 0)]
    second = [delivery.id for delivery in bench.worker("w2").fetch(4, 0)]

    assert (first, second) == (ids[:2], ids[2:])


def test_only_jobs_of_the_consumer_s_queues_are_claimed(bench: Bench) -> None:
    """The others stay where they are."""
    mine, other = bench.send(queue="a"), bench.send(queue="b")

    assert bench.claim_all(queues=["a", "c"]) == [mine]
    assert bench.status(other) is Status.QUEUED


def test_a_consumer_of_many_queues_brings_jobs_of_all(bench: Bench) -> None:
    """Each queue keeps its own order."""
    sent = {name: bench.send_many(3, queue=name) for name in "abc"}

    fetched = bench.worker(queues="abc").fetch(100, 0)

    for name, ids in sent.items():
        assert [delivery.id for delivery in fetched if delivery.queue == name] == ids


@pytest.mark.parametrize("queues", [["busy", "quiet"], ["quiet", "busy"]])
def test_a_busy_queue_does_not_starve_a_quiet_one(bench: Bench, queues: list[str]) -> None:
    """A job gets its turn, though another queue never runs dry."""
    bench.send_many(10, queue="busy")
    quiet = bench.send(queue="quiet")
    consumer = bench.worker(queues=queues)

    for _ in range(30):
        [delivery] = consumer.fetch(1, 0)
        consumer.settle_if_held([done(delivery)])
        bench.send(queue="busy")

    assert bench.status(quiet) is Status.SUCCEEDED


def test_a_delayed_job_is_not_delivered_before_its_time(bench: Bench) -> None:
    """Not a millisecond early, and then at once."""
    job_id = bench.send(delay=1_000)

    bench.clock.advance(999)
    assert bench.claim_all() == []

    bench.clock.advance(1)
    assert bench.claim_all() == [job_id]


def test_a_job_that_becomes_due_goes_behind_what_was_queued_before(bench: Bench) -> None:
    """Its place is that of the moment when it became queued."""
    delayed = bench.send(delay=1_000)
    bench.clock.advance(500)
    direct = bench.send()
    bench.clock.advance(500)

    assert bench.claim_all() == [direct, delayed]


def test_a_job_that_became_due_goes_before_what_is_sent_after_it(bench: Bench) -> None:
    """Once it is queued it has its place like any other."""
    delayed = bench.send(delay=1_000)
    decoy = bench.send(priority=-9)
    bench.clock.advance(1_000)
    assert bench.claim().id == decoy
    direct = bench.send()

    assert bench.claim_all() == [delayed, direct]


def test_jobs_that_become_due_together_go_by_their_times(bench: Bench) -> None:
    """The first one that was due goes first, not the first one that was sent."""
    late, early = bench.send(delay=2_000), bench.send(delay=1_000)
    bench.clock.advance(5_000)

    assert bench.claim_all() == [early, late]


def test_a_delayed_job_still_goes_by_its_priority(bench: Bench) -> None:
    """A delay changes the place, not the priority."""
    urgent = bench.send(delay=1_000, priority=-5)
    other = bench.send()
    bench.clock.advance(1_000)

    assert bench.claim_all() == [urgent, other]


def test_a_job_that_is_no_longer_scheduled_has_no_time(bench: Bench) -> None:
    """The record of a job that runs names no time before which it must not."""
    job_id = bench.send(delay=1_000)
    bench.clock.advance(1_000)
    bench.claim()

    assert bench.record(job_id).scheduled_for is None


def test_a_job_given_back_keeps_its_place(bench: Bench) -> None:
    """It goes before what was sent after it, in whatever order jobs come back."""
    ids = bench.send_many(4)
    first, second = bench.worker().fetch(2, 0)

    bench.settle(released(second))
    bench.settle(released(first))

    assert bench.claim_all() == ids


def test_a_job_handed_back_keeps_its_place(bench: Bench) -> None:
    """The death of a worker does not send its jobs to the end of the queue."""
    ids = bench.send_many(4)
    bench.worker("w1").fetch(2, 0)

    bench.engine.workers.hand_back("w1", ids[:1], "killed by signal 9")

    assert bench.claim_all("w2") == ids


def test_a_job_that_is_retried_gets_a_new_place(bench: Bench) -> None:
    """It becomes queued again when it is due, behind what was queued by then."""
    retried = bench.running()
    bench.settle(retry(retried, at=bench.clock.now() + 1_000))
    other = bench.send()
    bench.clock.advance(1_000)

    assert bench.claim_all() == [other, retried.id]


def test_a_job_put_off_gets_a_new_place(bench: Bench) -> None:
    """As a retried one does."""
    put_off = bench.running()
    bench.settle(released(put_off, at=bench.clock.now() + 1_000))
    other = bench.send()
    bench.clock.advance(1_000)

    assert bench.claim_all() == [other, put_off.id]


@pytest.mark.parametrize("outcome", [done, failed])
def test_a_job_that_is_over_is_not_delivered_again(bench: Bench, outcome) -> None:
    """A final status is final."""
    delivery = bench.running()
    bench.settle(outcome(delivery))
    bench.clock.advance(1_000)

    assert bench.claim_all() == []


def test_a_worker_without_a_lease_cannot_claim(bench: Bench) -> None:
    """Nobody would notice if it died."""
    job_id = bench.send()
    consumer = bench.engine.consumer(["default"], "stranger")

    with pytest.raises(LeaseLost):
        consumer.fetch(1, 0)

    assert bench.status(job_id) is Status.QUEUED
    consumer.close()


def test_a_worker_whose_lease_ran_out_cannot_claim(bench: Bench) -> None:
    """It learns that it is late, and the job is left to others."""
    consumer = bench.worker()
    job_id = bench.send()
    bench.clock.advance(bench.engine.settings.lease)

    with pytest.raises(LeaseLost):
        consumer.fetch(1, 0)

    assert bench.status(job_id) is Status.QUEUED


def test_a_lease_lasts_its_time(bench: Bench) -> None:
    """Until the last millisecond a worker may claim."""
    consumer = bench.worker()
    job_id = bench.send()
    bench.clock.advance(bench.engine.settings.lease - 1)

    assert [delivery.id for delivery in consumer.fetch(1, 0)] == [job_id]


def test_each_claim_has_a_number_of_its_own(bench: Bench) -> None:
    """Given back as often as one likes, no token comes twice."""
    bench.send()

    for number in range(1, 6):
        delivery = bench.claim()
        assert (delivery.claim, delivery.attempt) == (number, 1)
        bench.settle(released(delivery))


@pytest.mark.parametrize("queues", [["default"], []])
def test_a_queue_can_be_added(bench: Bench, queues: list[str]) -> None:
    """The next fetch takes its jobs, beside those of the others, which keep their turns."""
    late = [bench.send(queue="late") for _ in range(2)]
    consumer = bench.worker(queues=queues)
    assert consumer.fetch(1, 0) == []

    consumer.add_queue("late")

    [first] = consumer.fetch(1, 0)
    settled = consumer.settle_if_held([done(first)], then_fetch=1)
    assert [first.id, *(one.id for one in settled.deliveries)] == late
    others = [bench.send(queue=queue) for queue in queues]
    assert [delivery.id for delivery in consumer.fetch(5, 0)] == others


def test_a_queue_can_be_added_for_jobs_that_run_alone(bench: Bench) -> None:
    """A process that is there for these serves the same queues."""
    job_id = bench.send(queue="late")
    for _ in range(2):
        bench.claim("w1", queues=["late"])
        bench.engine.workers.hand_back("w1", [job_id], "killed by signal 9")
    bench.clock.advance(ISOLATION_DELAY)
    consumer = bench.worker("w2", lane=Lane.ALONE)
    assert consumer.fetch(1, 0) == []

    consumer.add_queue("late")

    assert [delivery.id for delivery in consumer.fetch(1, 0)] == [job_id]


@pytest.mark.parametrize("step", [-3_600_000, 3_600_000])
def test_a_step_of_the_clock_moves_a_job_that_waits_by_no_more(bench: Bench, step: int) -> None:
    """And by nothing, where the engine has a time of its own."""
    before = bench.engine.now()
    job_id = bench.send(delay=7_200_000)
    bench.clock.step(step)
    moved = bench.engine.now() - before
    assert moved in (0, step)

    bench.clock.advance(7_200_000 - moved - 1)
    assert bench.claim_all() == []
    bench.clock.advance(1)
    assert bench.claim_all() == [job_id]
