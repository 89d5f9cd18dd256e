"""Queues as an operator sees them."""

from __future__ import annotations

from flask_taskq.jobs.record import Status
from tests.support.bench import Bench
from tests.support.bench import done


def test_the_depth_of_a_queue_is_what_waits_in_it(bench: Bench) -> None:
    """Scheduled jobs count, running and final ones do not."""
    bench.send_many(3, queue="a")
    bench.send(queue="a", delay=1_000)
    bench.send(queue="b", delay=1_000)
    running, over = bench.worker(queues=["a"]).fetch(2, 0)
    bench.settle(done(over))

    assert bench.engine.queues.depths() == {"a": 2, "b": 1}
    assert bench.status(running.id) is Status.RUNNING


def test_a_queue_in_which_nothing_waits_is_not_named(bench: Bench) -> None:
    """An engine without jobs has no depths."""
    assert bench.engine.queues.depths() == {}
    bench.running()
    assert bench.engine.queues.depths() == {}


def test_purging_removes_what_waits_and_its_records(bench: Bench) -> None:
    """Queued and scheduled jobs are gone, as if never sent."""
    ids = [bench.send(), bench.send(delay=1_000)]

    assert bench.engine.queues.purge("default") == 2

    assert [bench.engine.jobs.get(job_id) for job_id in ids] == [None, None]
    bench.clock.advance(1_000)
    assert bench.claim_all() == []


def test_purging_leaves_what_runs_and_what_is_over(bench: Bench) -> None:
    """A worker's job can still be settled."""
    over = bench.running()
    bench.settle(done(over))
    running = bench.running()

    assert bench.engine.queues.purge("default") == 0

    assert None not in bench.settle(done(running)).outcomes
    assert bench.status(over.id) is bench.status(running.id) is Status.SUCCEEDED


def test_purging_leaves_other_queues(bench: Bench) -> None:
    """Names are compared whole."""
    other = bench.send(queue="mail.urgent")
    bench.send(queue="mail")

    assert bench.engine.queues.purge("mail") == 1
    assert bench.status(other) is Status.QUEUED


def test_purging_an_unknown_queue_removes_nothing(bench: Bench) -> None:
    """It is no error."""
    assert bench.engine.queues.purge("nowhere") == 0
