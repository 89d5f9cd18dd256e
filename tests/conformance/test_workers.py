"""Leases, and what happens to the jobs of who is gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_taskq.engines.listing import WorkerInfo
from flask_taskq.errors import LeaseLost
from flask_taskq.jobs.lifecycle import ISOLATION_DELAY
from flask_taskq.jobs.lifecycle import MAX_SUSPECTS
from flask_taskq.jobs.record import Lane
from flask_taskq.jobs.record import Status
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import released
from tests.support.bench import retry

CAUSE = "killed by signal 9"


def crash(bench: Bench, job_id: str, name: str = "w1") -> list[str]:
    """A worker dies while it runs the job."""
    return bench.engine.workers.hand_back(name, [job_id], CAUSE)


def crash_twice(bench: Bench, **fields) -> str:
    """A job whose process died for the second time."""
    job_id = bench.send(**fields)
    for _ in range(2):
        bench.claim("w1", queues=[fields.get("queue", "default")])
        crash(bench, job_id)
    return job_id


def test_renewing_prolongs_a_lease(bench: Bench) -> None:
    """From the moment of the call, by its full length."""
    lease = bench.engine.settings.lease
    consumer = bench.worker("w1")
    for _ in range(5):
        bench.clock.advance(lease - 1)
        assert bench.engine.workers.renew(["w1"]) == []

    assert consumer.fetch(1, 0) == []
    assert bench.engine.workers.reap() == []


def test_those_who_live_are_counted(bench: Bench) -> None:
    """A lease that has run out counts no more, whether or not anybody has reaped it."""
    workers, lease = bench.engine.workers, bench.engine.settings.lease
    assert workers.count() == 0
    bench.worker("w1")
    bench.clock.advance(lease - 1)
    bench.worker("w2")
    assert workers.count() == 2
    bench.clock.advance(1)
    assert workers.count() == 1
    workers.hand_back("w2", (), "stopped")
    assert workers.count() == 0


def test_renewing_many_is_one_call(bench: Bench) -> None:
    """The ones that are not named are left alone."""
    for name in ("w1", "w2", "w3"):
        bench.worker(name)
    bench.clock.advance(bench.engine.settings.lease - 1)

    assert bench.engine.workers.renew(["w1", "w3"]) == []

    bench.clock.advance(1)
    assert bench.engine.workers.reap() == ["w2"]


def test_renewing_tells_who_is_not_registered_any_more(bench: Bench) -> None:
    """Those workers must begin anew; the others are renewed all the same."""
    for name in ("w1", "w2", "w3"):
        bench.worker(name)
    bench.engine.workers.hand_back("w2", [], CAUSE)
    bench.clock.advance(bench.engine.settings.lease - 1)

    assert bench.engine.workers.renew(["w1", "w2", "w3", "stranger"]) == ["w2", "stranger"]

    bench.clock.advance(1)
    assert bench.engine.workers.reap() == []


def test_renewing_nobody_is_no_error(bench: Bench) -> None:
    """A supervisor without children has nothing to renew."""
    assert bench.engine.workers.renew([]) == []


def test_renewing_does_not_bring_back_who_was_reaped(bench: Bench) -> None:
    """It must register again, and so learn that its jobs are gone."""
    consumer = bench.worker("w1")
    bench.clock.advance(bench.engine.settings.lease)
    bench.engine.workers.reap()

    assert bench.engine.workers.renew(["w1"]) == ["w1"]
    with pytest.raises(LeaseLost):
        consumer.fetch(1, 0)


def test_who_registers_again_may_claim_again(bench: Bench) -> None:
    """A worker that was given up has a way back."""
    consumer = bench.worker("w1")
    bench.clock.advance(bench.engine.settings.lease)
    bench.engine.workers.reap()
    job_id = bench.send()

    bench.engine.workers.register("w1")

    assert [delivery.id for delivery in consumer.fetch(1, 0)] == [job_id]


@pytest.mark.parametrize("step", [-(10**9), 10**9])
def test_a_step_of_the_wall_clock_does_not_touch_leases(bench: Bench, step: int) -> None:
    """Somebody sets the time, and no worker is taken for dead, or kept alive."""
    consumer = bench.worker("w1")
    bench.clock.step(step)

    assert bench.engine.workers.reap() == []
    assert consumer.fetch(1, 0) == []
    bench.clock.advance(bench.engine.settings.lease)
    assert bench.engine.workers.reap() == ["w1"]


def test_after_its_first_crash_a_job_is_queued_at_once(bench: Bench) -> None:
    """The crash is counted, the run is not charged."""
    job_id = bench.send()
    bench.claim("w1")

    assert crash(bench, job_id) == []

    record = bench.record(job_id)
    assert (record.status, record.crashes, record.attempt) == (Status.QUEUED, 1, 0)
    assert (record.worker, record.status_reason) == (None, "worker_lost")
    again = bench.claim("w2")
    assert (again.id, again.crashes, again.attempt) == (job_id, 1, 1)


def test_a_job_that_had_not_started_gets_no_crash(bench: Bench) -> None:
    """Its process had merely fetched it."""
    ids = bench.send_many(3)
    bench.worker("w1").fetch(3, 0)

    bench.engine.workers.hand_back("w1", ids[1:2], CAUSE)

    assert [bench.record(job_id).crashes for job_id in ids] == [0, 1, 0]
    assert {bench.status(job_id) for job_id in ids} == {Status.QUEUED}


def test_after_its_second_crash_a_job_waits_to_be_alone(bench: Bench) -> None:
    """It is not due at once, and then not for everybody."""
    job_id = crash_twice(bench)

    record = bench.record(job_id)
    assert (record.status, record.crashes) == (Status.SCHEDULED, 2)
    assert record.scheduled_for == bench.clock.now() + ISOLATION_DELAY
    assert record.status_reason == "worker_lost"
    bench.clock.advance(ISOLATION_DELAY)
    assert bench.claim_all("w2") == []
    assert bench.claim_all("solo", lane=Lane.ALONE) == [job_id]


def test_an_isolated_consumer_gets_nothing_else(bench: Bench) -> None:
    """Ordinary jobs are left to the others."""
    job_id = bench.send()

    assert bench.claim_all("solo", lane=Lane.ALONE) == []
    assert bench.claim_all("w1") == [job_id]


def test_the_last_crash_fails_the_job(bench: Bench) -> None:
    """The record says that the worker was lost, and how."""
    job_id = crash_twice(bench)
    bench.clock.advance(ISOLATION_DELAY)
    bench.claim("solo", lane=Lane.ALONE)

    assert crash(bench, job_id, "solo") == [job_id]

    record = bench.record(job_id)
    assert (record.status, record.crashes, record.attempt) == (Status.FAILED, 3, 0)
    assert record.error.code == "worker_lost"
    assert CAUSE in record.error.message
    assert record.finished_at == bench.clock.now()
    assert bench.claim_all("w2") == []


def test_how_many_crashes_are_the_last_can_be_set(new_bench: Callable[..., Bench]) -> None:
    """With one, the first crash fails the job."""
    bench = new_bench(max_crashes=1)
    delivery = bench.running("w1")

    assert crash(bench, delivery.id) == [delivery.id]
    assert bench.status(delivery.id) is Status.FAILED


def test_the_last_crash_fails_a_job_though_it_was_asked_to_end(
    new_bench: Callable[..., Bench],
) -> None:
    """It would not run again, so there is nothing to cancel."""
    bench = new_bench(max_crashes=1)
    delivery = bench.running("w1")
    bench.engine.jobs.cancel(delivery.id)

    assert crash(bench, delivery.id) == [delivery.id]
    assert bench.status(delivery.id) is Status.FAILED


def test_a_job_that_was_isolated_stays_so(bench: Bench) -> None:
    """Given back or retried, it still runs alone."""
    job_id = crash_twice(bench)
    bench.clock.advance(ISOLATION_DELAY)
    bench.settle(released(bench.claim("solo", lane=Lane.ALONE)))
    assert bench.claim_all("w2") == []

    again = bench.claim("solo", lane=Lane.ALONE)
    bench.settle(retry(again, at=bench.clock.now()))
    assert bench.claim_all("w2") == []
    assert bench.claim_all("solo", lane=Lane.ALONE) == [job_id]


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_job_that_was_isolated_stays_so_without_its_worker(
    bench: Bench, is_seen: bool
) -> None:
    """Whether its worker was seen to die before the job began, or vanished."""
    job_id = crash_twice(bench)
    bench.clock.advance(ISOLATION_DELAY)
    bench.claim("solo", lane=Lane.ALONE)

    if is_seen:
        bench.engine.workers.hand_back("solo", [], CAUSE)
    else:
        bench.clock.advance(bench.engine.settings.lease)
        bench.engine.workers.reap()

    assert bench.claim_all("w2") == []
    assert bench.claim_all("solo", lane=Lane.ALONE) == [job_id]


def test_a_worker_handed_back_is_forgotten(bench: Bench) -> None:
    """It cannot claim, and it is not reaped."""
    consumer = bench.worker("w1")
    bench.engine.workers.hand_back("w1", [], CAUSE)

    with pytest.raises(LeaseLost):
        consumer.fetch(1, 0)
    bench.clock.advance(bench.engine.settings.lease)
    assert bench.engine.workers.reap() == []


def test_handing_back_twice_does_nothing_more(bench: Bench) -> None:
    """One death is one crash, however often it is reported."""
    delivery = bench.running("w1")
    crash(bench, delivery.id)
    before = bench.record(delivery.id)

    assert crash(bench, delivery.id) == []
    assert bench.record(delivery.id) == before


def test_handing_back_leaves_the_jobs_of_others(bench: Bench) -> None:
    """Even where it is told that they had started."""
    mine, other = bench.running("w1"), bench.running("w2")

    bench.engine.workers.hand_back("w1", [mine.id, other.id], CAUSE)

    assert bench.status(other.id) is Status.RUNNING
    assert bench.record(other.id).crashes == 0
    assert None not in bench.settle(done(other), name="w2").outcomes


def test_handing_back_leaves_what_was_settled(bench: Bench) -> None:
    """A job that ended before its worker died has ended."""
    delivery = bench.running("w1")
    bench.settle(done(delivery))
    before = bench.record(delivery.id)

    crash(bench, delivery.id)

    assert bench.record(delivery.id) == before


def test_handing_back_a_stranger_is_no_error(bench: Bench) -> None:
    """There is nothing to take from it."""
    assert bench.engine.workers.hand_back("stranger", [], CAUSE) == []


def test_a_worker_with_a_live_lease_is_not_reaped(bench: Bench) -> None:
    """It keeps its jobs until the last millisecond."""
    delivery = bench.running("w1")
    bench.clock.advance(bench.engine.settings.lease - 1)

    assert bench.engine.workers.reap() == []
    assert bench.status(delivery.id) is Status.RUNNING


def test_the_jobs_of_a_vanished_worker_are_queued_again(bench: Bench) -> None:
    """Nobody knows what had started: each is a suspect, and none has a crash."""
    ids = bench.send_many(3)
    bench.worker("w1").fetch(2, 0)
    bench.clock.advance(bench.engine.settings.lease)

    assert bench.engine.workers.reap() == ["w1"]

    records = [bench.record(job_id) for job_id in ids]
    assert [record.status for record in records] == [Status.QUEUED] * 3
    assert [record.suspects for record in records] == [1, 1, 0]
    assert {(record.crashes, record.attempt) for record in records} == {(0, 0)}
    assert bench.claim_all("w2") == ids


def test_all_that_vanished_are_reaped_at_once(bench: Bench) -> None:
    """And a worker that still lives is not."""
    bench.worker("w1")
    bench.worker("w2")
    bench.clock.advance(bench.engine.settings.lease)
    bench.worker("w3")

    assert sorted(bench.engine.workers.reap()) == ["w1", "w2"]
    assert bench.engine.workers.reap() == []


def test_a_suspect_is_given_up_in_the_end(bench: Bench) -> None:
    """A job that was there whenever a host vanished is failed."""
    job_id = bench.send()
    for count in range(1, MAX_SUSPECTS + 1):
        assert bench.record(job_id).status is Status.QUEUED
        bench.claim("w1")
        bench.clock.advance(bench.engine.settings.lease)
        bench.engine.workers.reap()
        assert bench.record(job_id).suspects == count

    record = bench.record(job_id)
    assert (record.status, record.crashes) == (Status.FAILED, 0)
    assert record.error.code == "worker_lost"


def test_an_isolated_job_is_announced_when_it_is_due(bench: Bench) -> None:
    """A supervisor can tell when a process of its own is wanted."""

    def has_isolated(queues: list[str]) -> bool:
        return bench.engine.queues.has_due(queues, Lane.ALONE)

    job_id = crash_twice(bench, queue="a")

    assert not has_isolated(["a"])
    bench.clock.advance(ISOLATION_DELAY)
    assert has_isolated(["a"])
    assert has_isolated(["b", "a"])
    assert not has_isolated(["b"])
    assert bench.claim_all("solo", queues=["a"], lane=Lane.ALONE) == [job_id]
    assert not has_isolated(["a"])


def test_ordinary_jobs_are_not_announced_as_isolated(bench: Bench) -> None:
    """Neither queued nor scheduled nor running ones."""
    bench.running()
    bench.send()
    bench.send(delay=0)

    assert not bench.engine.queues.has_due(["default"], Lane.ALONE)


def test_an_isolated_job_that_was_cancelled_is_not_announced(bench: Bench) -> None:
    """Nobody needs to be alone for it any more."""
    job_id = crash_twice(bench)
    bench.clock.advance(ISOLATION_DELAY)
    bench.engine.jobs.cancel(job_id)

    assert not bench.engine.queues.has_due(["default"], Lane.ALONE)


HOLDER = WorkerInfo(host="here", processes=((100, 7), (99, 5)))


def test_holders_of_a_host_are_listed(bench: Bench) -> None:
    """Those of registered workers that were given, and of no other host."""
    workers = bench.engine.workers
    workers.register("w1", HOLDER)
    workers.register("w2", WorkerInfo(host="here too", processes=((100, 7),)))
    workers.register("w3")

    assert workers.list_on("here") == {"w1": HOLDER}
    assert workers.list_on("her") == {}


def test_the_holder_of_a_worker_is_the_last_that_it_named(bench: Bench) -> None:
    """Renewing its lease changes nothing about that."""
    workers = bench.engine.workers
    other = WorkerInfo(host="here", processes=((101, 8),))
    workers.register("w1", HOLDER)
    workers.register("w1", other)
    workers.renew(["w1"])

    assert workers.list_on("here") == {"w1": other}


@pytest.mark.parametrize("is_seen", [True, False])
def test_the_holder_of_a_worker_is_forgotten_with_it(bench: Bench, is_seen: bool) -> None:
    """And is not there when a worker of that name comes again."""
    workers = bench.engine.workers
    workers.register("w1", HOLDER)
    if is_seen:
        workers.hand_back("w1", [], CAUSE)
    else:
        bench.clock.advance(bench.engine.settings.lease)
        assert workers.reap() == ["w1"]

    assert workers.list_on("here") == {}
    workers.register("w1")
    assert workers.list_on("here") == {}


def test_jobs_of_which_nobody_knows_whether_they_had_started_are_suspects(
    bench: Bench,
) -> None:
    """As when a machine vanishes: there is no crash, and the run is not charged."""
    ids = bench.send_many(2)
    bench.worker("w1").fetch(2, 0)

    assert bench.engine.workers.hand_back("w1", None, CAUSE) == []

    records = [bench.record(job_id) for job_id in ids]
    assert {(one.suspects, one.crashes, one.attempt) for one in records} == {(1, 0, 0)}
    assert bench.claim_all("w2") == ids
