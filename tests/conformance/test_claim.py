"""Claiming jobs by their ids."""

from __future__ import annotations

import pytest

from flask_taskq.errors import LeaseLost
from flask_taskq.jobs.record import Lane
from flask_taskq.jobs.record import Status
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import released


def test_jobs_are_claimed_by_their_ids(bench: Bench) -> None:
    """In the order of the ids, and no other job."""
    first, second, third = bench.send_many(3)

    deliveries = bench.worker().claim([third, first])

    assert [delivery.id for delivery in deliveries] == [third, first]
    assert bench.status(second) is Status.QUEUED
    assert None not in bench.settle(*map(done, deliveries)).outcomes
    assert bench.claim_all() == [second]


def test_a_job_is_claimed_by_its_id_wherever_it_stands(bench: Bench) -> None:
    """In a queue that the consumer does not serve, in another lane, in a paused queue."""
    elsewhere = bench.send(queue="other", priority=9)
    alone = bench.send(queue="third")
    for _ in range(2):
        bench.claim("w2", queues=["third"])
        bench.engine.workers.hand_back("w2", [alone], "killed by signal 9")
    bench.clock.advance(10_000)
    bench.engine.queues.pause("other")

    claimed = [delivery.id for delivery in bench.worker().claim([elsewhere, alone])]

    assert claimed == [elsewhere, alone]
    assert bench.claim_all("solo", queues=["third"], lane=Lane.ALONE) == []


def test_a_job_that_may_not_run_is_left_out(bench: Bench) -> None:
    """It runs, it waits for its time, it is over, or there is none."""
    running = bench.running("w2").id
    later = bench.send(delay=1_000)
    cancelled = bench.send()
    bench.engine.jobs.cancel(cancelled)
    over = bench.running("w2")
    bench.settle(done(over), name="w2")

    assert bench.worker().claim([running, later, cancelled, over.id, "f" * 32]) == []
    bench.clock.advance(1_000)
    assert [one.id for one in bench.worker().claim([later, running])] == [later]


def test_a_job_is_claimed_once_if_it_is_named_twice(bench: Bench) -> None:
    """There is one delivery with the token."""
    job_id = bench.send()

    assert [one.id for one in bench.worker().claim([job_id, job_id])] == [job_id]


def test_a_claimed_job_has_a_token_as_every_other_one(bench: Bench) -> None:
    """It can be released, and is claimed anew with the next token."""
    job_id = bench.send()
    [first] = bench.worker().claim([job_id])
    bench.settle(released(first))
    [second] = bench.worker().claim([job_id])

    assert (first.attempt, second.attempt) == (1, 1)
    assert second.claim == first.claim + 1
    assert bench.settle(done(first)).outcomes == [None]
    assert bench.settle(done(second)).outcomes == [Status.SUCCEEDED]


def test_a_worker_without_a_lease_claims_nothing(bench: Bench) -> None:
    """As when it fetches."""
    job_id = bench.send()
    consumer = bench.worker()
    bench.clock.advance(bench.engine.settings.lease)
    bench.engine.workers.reap()

    with pytest.raises(LeaseLost):
        consumer.claim([job_id])
    assert bench.status(job_id) is Status.QUEUED
