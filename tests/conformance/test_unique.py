"""Jobs with a unique key: of those that are not over, there is one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_taskq.jobs.record import Status
from tests.support.bench import Bench
from tests.support.bench import cancelled
from tests.support.bench import done
from tests.support.bench import expired
from tests.support.bench import failed
from tests.support.bench import retry

ENDS = {"done": done, "failed": failed, "cancelled": cancelled, "expired": expired}


def test_a_second_job_with_the_key_is_not_stored(bench: Bench) -> None:
    """Its sender gets the job that holds the key, as it is."""
    holder = bench.send(unique_key="a", delay=1_000)
    other = bench.envelope(unique_key="a")

    [stored] = bench.engine.enqueue([other])

    assert (stored.id, stored.status, stored.reason) == (holder, Status.SCHEDULED, "unique")
    assert stored.due_at == bench.record(holder).scheduled_for
    assert bench.engine.jobs.get(other.id) is None


def test_of_two_in_one_call_the_first_holds_the_key(bench: Bench) -> None:
    """As if they had come one after the other; those around them are stored."""
    one, two, three = (bench.envelope(unique_key=key) for key in ("a", "a", None))

    stored = bench.engine.enqueue([one, two, three])

    assert [each.reason for each in stored] == [None, "unique", None]
    assert [each.id for each in stored] == [one.id, one.id, three.id]
    assert bench.claim_all() == [one.id, three.id]


def test_other_keys_and_no_key_are_no_conflict(bench: Bench) -> None:
    """Keys are compared whole."""
    envelopes = [bench.envelope(unique_key=key) for key in ("a", "b", "A", "ab", None, None)]

    assert all(one.is_new for one in bench.engine.enqueue(envelopes))


@pytest.mark.parametrize("act", ["waits", "runs", "waits for a retry"])
def test_a_key_is_held_until_the_job_is_over(bench: Bench, act: str) -> None:
    """Also while it runs, and between its runs."""
    holder = bench.send(unique_key="a")
    if act != "waits":
        delivery = bench.claim()
        if act == "waits for a retry":
            bench.settle(retry(delivery, at=bench.clock.now() + 1_000))

    [stored] = bench.engine.enqueue([bench.envelope(unique_key="a")])

    assert (stored.id, stored.reason) == (holder, "unique")


@pytest.mark.parametrize("end", ENDS)
def test_a_key_is_free_when_its_job_is_over(bench: Bench, end: str) -> None:
    """However that has ended."""
    bench.settle(ENDS[end](bench.running(unique_key="a")))

    assert bench.engine.enqueue([bench.envelope(unique_key="a")])[0].is_new


def purge(bench: Bench, job_id: str) -> None:
    bench.engine.queues.purge("default")


def cancel(bench: Bench, job_id: str) -> None:
    bench.engine.jobs.cancel(job_id)


def delete(bench: Bench, job_id: str) -> None:
    bench.engine.jobs.delete(job_id)


def bury(bench: Bench, job_id: str) -> None:
    for _ in range(3):
        assert bench.worker().claim([job_id])
        bench.engine.workers.hand_back("w1", [job_id], "killed by signal 9")
        bench.clock.advance(10_000)


@pytest.mark.parametrize("act", [purge, cancel, delete, bury])
def test_a_key_is_free_when_its_job_is_gone(
    bench: Bench, act: Callable[[Bench, str], None]
) -> None:
    """Whatever has removed it."""
    act(bench, bench.send(unique_key="a"))

    assert bench.engine.enqueue([bench.envelope(unique_key="a")])[0].is_new


def test_a_follow_up_gives_way_to_the_holder_of_its_key(bench: Bench) -> None:
    """It is passed over, and the outcome is stored; the key of the job itself is free."""
    holder = bench.send(unique_key="a", priority=9)
    delivery = bench.running(unique_key="b")
    follow_ups = (bench.envelope(unique_key="a"), bench.envelope(unique_key="b"))

    settled = bench.settle(done(delivery, follow_ups=follow_ups))

    assert settled.outcomes == [Status.SUCCEEDED]
    assert settled.ready == [follow_ups[1].id]
    assert bench.engine.jobs.get(follow_ups[0].id) is None
    assert bench.claim_all() == [follow_ups[1].id, holder]


def test_a_job_is_not_requeued_while_another_one_holds_its_key(bench: Bench) -> None:
    """It is when that is over."""
    over = bench.running(unique_key="a")
    bench.settle(failed(over))
    holder = bench.running(unique_key="a")

    assert bench.engine.jobs.requeue(over.id).status is Status.FAILED
    bench.settle(done(holder))
    assert bench.engine.jobs.requeue(over.id).status is Status.QUEUED
    assert bench.engine.enqueue([bench.envelope(unique_key="a")])[0].id == over.id


def test_a_record_shows_its_key(bench: Bench) -> None:
    """Also when it holds it no more."""
    delivery = bench.running(unique_key="a")
    bench.settle(done(delivery))

    assert bench.record(delivery.id).unique_key == "a"
