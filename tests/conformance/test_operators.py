"""What people do to jobs and queues: requeue, delete, pause; and what they see of workers."""

from __future__ import annotations

import pytest

from flask_taskq.engines.listing import QueueState
from flask_taskq.engines.listing import WorkerInfo
from flask_taskq.jobs.record import Lane
from flask_taskq.jobs.record import LogLine
from flask_taskq.jobs.record import Status
from flask_taskq.testing.clock import ManualClock
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import failed
from tests.support.bench import released
from tests.support.bench import retry

LINE = LogLine(at=1, level="info", text="one", attempt=1)


# Requeue


def test_a_failed_job_runs_again_as_if_it_were_new(bench: Bench) -> None:
    """It has all its attempts, and its record still tells of those that failed."""
    delivery = bench.running(max_attempts=1)
    bench.settle(failed(delivery, logs=(LINE,)))

    requeued = bench.engine.jobs.requeue(delivery.id)

    assert requeued == bench.record(delivery.id)
    assert (requeued.status, requeued.attempt, requeued.finished_at) == ("queued", 0, None)
    assert (len(requeued.attempts), requeued.logs) == (1, (LINE,))
    again = bench.claim()
    assert (again.id, again.attempt, again.crashes) == (delivery.id, 1, 0)
    assert bench.settle(done(again)).outcomes == [Status.SUCCEEDED]


def test_a_requeued_job_goes_to_the_end_of_its_queue(bench: Bench) -> None:
    """Of its priority."""
    delivery = bench.running()
    bench.settle(failed(delivery))
    waiting = bench.send()
    bench.engine.jobs.requeue(delivery.id)

    assert bench.claim_all() == [waiting, delivery.id]


def test_a_cancelled_job_that_is_requeued_is_not_cancelled_any_more(bench: Bench) -> None:
    """It can be retried, and released."""
    job_id = bench.send()
    bench.engine.jobs.cancel(job_id)
    bench.engine.jobs.requeue(job_id)

    [status] = bench.settle(retry(bench.claim(), at=bench.clock.now())).outcomes
    assert status is Status.SCHEDULED
    assert not bench.record(job_id).cancel_requested


def test_an_old_token_is_worth_nothing_after_a_requeue(bench: Bench) -> None:
    """The count of claims goes on."""
    old = bench.running()
    bench.settle(failed(old))
    bench.engine.jobs.requeue(old.id)
    new = bench.claim()

    assert bench.settle(done(old)).outcomes == [None]
    assert bench.settle(done(new)).outcomes == [Status.SUCCEEDED]


def test_a_requeued_job_is_kept_beyond_the_time_of_its_record(bench: Bench) -> None:
    """It is not over any more, and is pruned when it is over again."""
    delivery = bench.running()
    bench.settle(failed(delivery))
    bench.engine.jobs.requeue(delivery.id)
    bench.clock.advance(2 * bench.engine.settings.failed_ttl)
    bench.engine.jobs.prune()

    again = bench.claim()
    assert again.id == delivery.id
    bench.settle(done(again))
    assert bench.status(delivery.id) is Status.SUCCEEDED
    bench.clock.advance(bench.engine.settings.result_ttl)
    bench.engine.jobs.prune()
    assert bench.engine.jobs.get(delivery.id) is None


def test_requeueing_twice_is_requeueing_once(bench: Bench) -> None:
    """The second call finds a job that waits."""
    delivery = bench.running()
    bench.settle(failed(delivery))
    first = bench.engine.jobs.requeue(delivery.id)

    assert bench.engine.jobs.requeue(delivery.id) == first
    assert bench.claim_all() == [delivery.id]


def test_an_unknown_job_cannot_be_requeued_or_deleted(bench: Bench) -> None:
    """There is nothing to return."""
    assert bench.engine.jobs.requeue("f" * 32) is None
    assert bench.engine.jobs.delete("f" * 32) is None


# Delete


def test_a_deleted_job_leaves_nothing_behind(bench: Bench) -> None:
    """Its record, its log, its place, and its id are free."""
    queued, scheduled = bench.send(), bench.send(delay=1_000)
    over = bench.running(queue="other")
    bench.settle(failed(over, logs=(LINE,)))

    for job_id in (queued, scheduled, over.id):
        record = bench.record(job_id)
        assert bench.engine.jobs.delete(job_id) == record
        assert bench.engine.jobs.get(job_id) is None

    bench.clock.advance(1_000)
    assert bench.claim_all() == []
    assert bench.engine.queues.depths() == {}
    [stored] = bench.engine.enqueue([bench.envelope(id=over.id)])
    assert stored.is_new
    assert bench.record(over.id).logs == ()


def test_a_running_job_is_not_deleted(bench: Bench) -> None:
    """Its worker would lose it."""
    delivery = bench.running()

    assert bench.engine.jobs.delete(delivery.id).status is Status.RUNNING
    assert bench.settle(done(delivery)).outcomes == [Status.SUCCEEDED]


def test_an_id_that_is_sent_again_after_a_delete_is_one_job(bench: Bench) -> None:
    """What the first one left in the queue does not run the second one twice."""
    job_id = bench.send()
    bench.engine.jobs.delete(job_id)
    bench.send(id=job_id)

    assert bench.claim_all() == [job_id]
    assert bench.claim_all("w2") == []


# Pause


def test_nothing_is_fetched_from_a_paused_queue(bench: Bench) -> None:
    """Neither by a fetch nor along with outcomes; other queues are served."""
    running = bench.running()
    paused, other = bench.send(), bench.send(queue="other")
    bench.engine.queues.pause("default")

    assert bench.claim_all() == []
    assert bench.settle(done(running), then_fetch=5).deliveries == []
    assert bench.claim_all("w2", queues=["default", "other"]) == [other]
    bench.engine.queues.resume("default")
    assert bench.claim_all() == [paused]


def test_a_scheduled_job_of_a_paused_queue_waits_beyond_its_time(bench: Bench) -> None:
    """As every other one of that queue."""
    job_id = bench.send(delay=1_000)
    bench.engine.queues.pause("default")
    bench.clock.advance(1_000)

    assert bench.claim_all() == []
    bench.engine.queues.resume("default")
    assert bench.claim_all() == [job_id]


def test_no_process_is_wanted_for_what_is_paused(bench: Bench) -> None:
    """It would find nothing to do."""
    bench.send()
    assert bench.engine.queues.has_due(["default"], Lane.ORDINARY)
    bench.engine.queues.pause("default")

    assert not bench.engine.queues.has_due(["default"], Lane.ORDINARY)


def test_pausing_and_resuming_twice_is_doing_it_once(bench: Bench) -> None:
    """Also of a queue that has never had a job."""
    for _ in range(2):
        bench.engine.queues.pause("a")
    bench.engine.queues.pause("b")
    assert bench.engine.queues.paused() == {"a", "b"}
    for _ in range(2):
        bench.engine.queues.resume("a")
    assert bench.engine.queues.paused() == {"b"}


def test_what_a_worker_holds_of_a_paused_queue_goes_on(bench: Bench) -> None:
    """It can be settled and released, and what is sent is stored."""
    first, second = bench.running(), bench.running()
    bench.engine.queues.pause("default")

    outcomes = bench.settle(done(first), released(second)).outcomes

    assert outcomes == [Status.SUCCEEDED, Status.QUEUED]
    assert bench.status(bench.send()) is Status.QUEUED


# States


def test_the_state_of_each_queue_tells_what_waits(bench: Bench) -> None:
    """By name; a job that runs or is over does not wait."""
    bench.running(queue="b")
    bench.clock.advance(10)
    since = bench.clock.now()
    bench.send(queue="b", priority=5)
    bench.clock.advance(10)
    bench.send(queue="b", priority=5)
    bench.send(queue="a", delay=1_000)
    bench.engine.queues.pause("c")
    bench.engine.queues.pause("b")

    assert bench.engine.queues.states() == [
        QueueState("a", 0, 1, None, False),
        QueueState("b", 2, 0, since, True),
        QueueState("c", 0, 0, None, True),
    ]


def test_an_empty_queue_has_no_state(bench: Bench) -> None:
    """Nobody would know its name."""
    bench.settle(done(bench.running()))

    assert bench.engine.queues.states() == []


# Workers


INFO = WorkerInfo(
    host="boot ns",
    processes=((7, 70), (8, 80)),
    hostname="somewhere",
    pid=7,
    queues=("a", "b"),
    version="1.0",
    started_at=12,
)


def test_workers_are_listed_with_what_they_said_of_themselves(bench: Bench) -> None:
    """Also those that said nothing."""
    bench.engine.workers.register("w1", INFO)
    bench.engine.workers.register("w2")

    assert bench.engine.workers.all() == {"w1": INFO, "w2": WorkerInfo()}
    assert bench.engine.workers.list_on("boot ns") == {"w1": INFO}


def test_a_worker_whose_lease_is_over_is_not_listed(bench: Bench, clock: ManualClock) -> None:
    """Nor one that was handed back; a renewed one is, with all that it said."""
    for name in ("w1", "w2", "w3"):
        bench.engine.workers.register(name, INFO)
    clock.advance(bench.engine.settings.lease - 1)
    bench.engine.workers.renew(["w2", "w3"])
    bench.engine.workers.hand_back("w3", [], "stopped")
    clock.advance(1)

    assert bench.engine.workers.all() == {"w2": INFO}
    bench.engine.workers.reap()
    assert bench.engine.workers.all() == {"w2": INFO}


@pytest.mark.parametrize("field", ["host", "hostname", "version"])
def test_what_a_worker_says_may_be_any_text(bench: Bench, field: str) -> None:
    """It comes from a machine."""
    info = WorkerInfo(**{field: "é\n'\" \x00 {}"})
    bench.engine.workers.register("w1", info)

    assert bench.engine.workers.all() == {"w1": info}
