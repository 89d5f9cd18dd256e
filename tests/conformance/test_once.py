"""No job is handed to two workers at the same time, whatever was done to it before."""

from __future__ import annotations

import pytest

from flask_taskq.jobs.delivery import Report
from flask_taskq.jobs.lifecycle import ISOLATION_DELAY
from flask_taskq.jobs.record import Lane
from flask_taskq.jobs.record import Progress
from flask_taskq.jobs.record import Status
from flask_taskq.testing.clock import ManualClock
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import failed
from tests.support.bench import released
from tests.support.bench import retry

NEWS = Progress(current=1.0, total=None, message=None, updated_at=1)


def assert_claimed_once(bench: Bench, job_id: str) -> None:
    """By the first of two workers, and by none again once it is over."""
    delivery = bench.claim("w1")
    assert delivery.id == job_id
    assert bench.claim_all("w2") == []
    assert bench.worker("w2").claim([job_id]) == []
    assert bench.settle(done(delivery)).outcomes == [Status.SUCCEEDED]
    assert bench.claim_all("w2") == []


def test_a_job_that_was_cancelled_and_queued_again(bench: Bench) -> None:
    """It has stood in its queue twice."""
    job_id = bench.send()
    bench.engine.jobs.cancel(job_id)
    bench.engine.jobs.requeue(job_id)
    assert_claimed_once(bench, job_id)


def test_a_job_that_was_deleted_and_sent_again(bench: Bench) -> None:
    """The new one has the id of the old one."""
    envelope = bench.envelope()
    for _ in range(2):
        bench.engine.enqueue([envelope])
        bench.engine.jobs.delete(envelope.id)
    bench.engine.enqueue([envelope])
    assert_claimed_once(bench, envelope.id)


def test_a_job_that_was_claimed_by_its_id_and_given_back(bench: Bench) -> None:
    """It was not taken from the head of its queue."""
    job_id = bench.send()
    [delivery] = bench.worker("w1").claim([job_id])
    bench.settle(released(delivery))
    assert_claimed_once(bench, job_id)


def test_a_job_that_was_claimed_by_its_id_stays_in_no_queue(bench: Bench) -> None:
    """Others behind it are found."""
    job_id, other = bench.send_many(2)
    [delivery] = bench.worker("w1").claim([job_id])
    assert bench.claim_all("w2") == [other]
    assert bench.status(job_id) is Status.RUNNING
    assert bench.settle(done(delivery)).outcomes == [Status.SUCCEEDED]


def test_a_job_whose_run_has_told_something_and_failed(bench: Bench) -> None:
    """Its record was written while it ran."""
    delivery = bench.running("w1")
    bench.worker("w1").report_if_held([Report(delivery=delivery, progress=NEWS)])
    bench.settle(failed(delivery))
    bench.engine.jobs.requeue(delivery.id)
    assert_claimed_once(bench, delivery.id)


def test_a_job_that_was_retried(bench: Bench) -> None:
    """Its time has come at once."""
    delivery = bench.running("w1")
    bench.settle(retry(delivery, at=bench.clock.now()))
    assert_claimed_once(bench, delivery.id)


def test_a_job_whose_worker_was_lost(bench: Bench) -> None:
    """What that one says afterwards is refused."""
    delivery = bench.running("w0")
    bench.engine.workers.hand_back("w0", [], "stopped")
    assert bench.worker("w0").settle_if_held([done(delivery)]).outcomes == [None]
    assert_claimed_once(bench, delivery.id)


# While it runs


def test_a_running_job_that_is_sent_again_is_running(bench: Bench) -> None:
    """Nothing is stored, and who sends it is told so."""
    envelope = bench.envelope()
    bench.engine.enqueue([envelope])
    delivery = bench.claim("w1")

    [again] = bench.engine.enqueue([envelope])

    assert (again.status, again.reason) == (Status.RUNNING, "id")
    assert bench.claim_all("w2") == []
    assert bench.settle(done(delivery)).outcomes == [Status.SUCCEEDED]


def test_a_running_job_holds_its_unique_key(bench: Bench) -> None:
    """And is told to be running."""
    delivery = bench.running("w1", unique_key="one")

    [other] = bench.engine.enqueue([bench.envelope(unique_key="one")])

    assert (other.id, other.status, other.reason) == (delivery.id, Status.RUNNING, "unique")
    bench.settle(done(delivery))
    [other] = bench.engine.enqueue([bench.envelope(unique_key="one")])
    assert other.is_new


def test_purging_its_queue_leaves_a_running_job(bench: Bench) -> None:
    """Only what waits is removed."""
    delivery = bench.running("w1")
    waiting = bench.send()

    assert bench.engine.queues.purge("default") == 1

    assert bench.engine.jobs.get(waiting) is None
    assert bench.settle(done(delivery)).outcomes == [Status.SUCCEEDED]


@pytest.mark.parametrize("is_told", [False, True])
def test_each_version_of_a_record_is_another_number(bench: Bench, is_told: bool) -> None:
    """Clients take a record with the same number for the same one."""
    job_id = bench.send()
    seen = [bench.record(job_id).version]
    delivery = bench.claim("w1")
    seen.append(bench.record(job_id).version)
    if is_told:
        bench.worker("w1").report_if_held([Report(delivery=delivery, progress=NEWS)])
        seen.append(bench.record(job_id).version)
    bench.engine.jobs.cancel(job_id)
    seen.append(bench.record(job_id).version)
    bench.settle(done(delivery))
    seen.append(bench.record(job_id).version)
    assert seen == sorted(set(seen))


def test_what_a_run_has_told_stays_with_its_result(bench: Bench) -> None:
    """Also when cancelling was asked for in vain."""
    delivery = bench.running("w1")
    bench.worker("w1").report_if_held([Report(delivery=delivery, progress=NEWS)])
    bench.engine.jobs.cancel(delivery.id)
    bench.settle(done(delivery, b"2"))

    record = bench.record(delivery.id)
    assert (record.status, record.result, record.worker) == (Status.SUCCEEDED, b"2", "w1")
    assert record.progress is not None
    assert record.cancel_requested


def test_a_job_that_ran_alone_and_succeeded_stands_in_no_lane_of_its_own(
    bench: Bench, clock: ManualClock
) -> None:
    """Should it run again, it need not be alone."""
    job_id = bench.send()
    for name in ("w1", "w2"):
        bench.claim(name)
        bench.engine.workers.hand_back(name, [job_id], "killed by signal 9")
    clock.advance(ISOLATION_DELAY)
    delivery = bench.claim("w3", lane=Lane.ALONE)

    bench.worker("w3").settle_if_held([done(delivery)])

    record = bench.record(job_id)
    assert (record.status, record.lane) == (Status.SUCCEEDED, Lane.ORDINARY)
