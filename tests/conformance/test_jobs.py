"""Records: retention, and cancelling."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_taskq.jobs.record import Status
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import failed
from tests.support.bench import released
from tests.support.bench import retry

UNKNOWN = "0" * 32


def test_an_unknown_id_has_no_record(bench: Bench) -> None:
    """It is unknown, and not waiting."""
    assert bench.engine.jobs.get(UNKNOWN) is None


@pytest.mark.parametrize(
    ("end", "ttl"), [("done", 5_000), ("cancel", 5_000), ("fail", 9_000), ("fail lost", 9_000)]
)
def test_a_record_is_kept_for_its_retention_time(
    new_bench: Callable[..., Bench], end: str, ttl: int
) -> None:
    """Then it is unknown, whether or not it was removed already."""
    bench = new_bench(result_ttl=5_000, failed_ttl=9_000, max_crashes=1)
    delivery = bench.running("w1")
    if end == "cancel":
        bench.settle(released(delivery))
        bench.engine.jobs.cancel(delivery.id)
    elif end == "fail lost":
        bench.engine.workers.hand_back("w1", [delivery.id], "killed by signal 9")
    else:
        bench.settle({"done": done, "fail": failed}[end](delivery))

    assert bench.record(delivery.id).expires_at == bench.clock.now() + ttl
    bench.clock.advance(ttl - 1)
    assert bench.engine.jobs.get(delivery.id) is not None
    bench.clock.advance(1)
    assert bench.engine.jobs.get(delivery.id) is None
    assert bench.engine.jobs.wait(delivery.id, 0) is None
    assert bench.engine.jobs.cancel(delivery.id) is None


def test_a_job_that_is_not_over_does_not_expire(bench: Bench) -> None:
    """However long it waits or runs."""
    running, queued, scheduled = bench.send(), bench.send(), bench.send(delay=10**12)
    bench.worker().fetch(1, 0)
    bench.clock.advance(10**11)
    bench.engine.jobs.prune()

    statuses = [bench.status(job_id) for job_id in (running, queued, scheduled)]
    assert statuses == ["running", "queued", "scheduled"]
    assert bench.record(queued).expires_at is None


def test_pruning_removes_what_is_past_its_retention_time(
    new_bench: Callable[..., Bench],
) -> None:
    """It says how many, and leaves the rest."""
    bench = new_bench(result_ttl=5_000, failed_ttl=9_000)
    bench.send_many(3)
    a, b, c = bench.worker().fetch(3, 0)
    bench.settle(done(a), done(b), failed(c))

    assert bench.engine.jobs.prune() == 0
    bench.clock.advance(5_000)
    assert bench.engine.jobs.prune() == 2
    assert bench.engine.jobs.prune() == 0
    assert bench.status(c.id) is Status.FAILED
    bench.clock.advance(4_000)
    assert bench.engine.jobs.prune() == 1


def test_an_id_may_be_used_again_after_it_was_pruned(
    new_bench: Callable[..., Bench],
) -> None:
    """Nothing of the old job is left."""
    bench = new_bench(result_ttl=0)
    envelope = bench.envelope()
    bench.engine.enqueue([envelope])
    old = bench.claim()
    bench.settle(done(old))
    bench.engine.jobs.prune()

    bench.engine.enqueue([envelope])

    record = bench.record(envelope.id)
    assert (record.status, record.attempt, record.result) == (Status.QUEUED, 0, None)


def test_pruning_removes_all_in_the_end(new_bench: Callable[..., Bench]) -> None:
    """One call is bounded; enough calls remove everything."""
    bench = new_bench(result_ttl=0)
    ids = bench.send_many(1_200)
    bench.settle(*map(done, bench.worker().fetch(1_200, 0)))

    removed = []
    while not removed or removed[-1]:
        removed.append(bench.engine.jobs.prune())

    assert sum(removed) == len(ids)
    assert max(removed) < len(ids)


def test_cancelling_a_job_that_waits_ends_it(bench: Bench) -> None:
    """It is not delivered any more."""
    job_id = bench.send()

    record = bench.engine.jobs.cancel(job_id)

    assert record == bench.record(job_id)
    assert (record.status, record.cancel_requested) == (Status.CANCELLED, True)
    assert record.finished_at == bench.clock.now()
    assert bench.claim_all() == []


def test_cancelling_a_job_that_is_not_due_ends_it(bench: Bench) -> None:
    """Its time comes, and nothing happens."""
    job_id = bench.send(delay=1_000)

    record = bench.engine.jobs.cancel(job_id)

    assert (record.status, record.scheduled_for) == (Status.CANCELLED, None)
    bench.clock.advance(1_000)
    assert bench.claim_all() == []


def test_cancelling_a_job_that_runs_asks_for_it(bench: Bench) -> None:
    """The worker still holds it, and may end it in any way."""
    delivery = bench.running()

    record = bench.engine.jobs.cancel(delivery.id)

    assert (record.status, record.cancel_requested) == (Status.RUNNING, True)
    assert None not in bench.settle(done(delivery)).outcomes
    assert bench.status(delivery.id) is Status.SUCCEEDED


def test_asking_twice_is_asking_once(bench: Bench) -> None:
    """The second time changes nothing."""
    delivery = bench.running()
    first = bench.engine.jobs.cancel(delivery.id)
    bench.clock.advance(1)

    assert bench.engine.jobs.cancel(delivery.id) == first


@pytest.mark.parametrize("outcome", [done, failed])
def test_cancelling_a_job_that_is_over_changes_nothing(bench: Bench, outcome) -> None:
    """Its record comes back as it was."""
    delivery = bench.running()
    bench.settle(outcome(delivery))
    before = bench.record(delivery.id)
    bench.clock.advance(1)

    assert bench.engine.jobs.cancel(delivery.id) == before
    assert bench.record(delivery.id) == before


def test_cancelling_a_cancelled_job_changes_nothing(bench: Bench) -> None:
    """It does not begin its retention time anew."""
    job_id = bench.send()
    before = bench.engine.jobs.cancel(job_id)
    bench.clock.advance(1)

    assert bench.engine.jobs.cancel(job_id) == before


def test_cancelling_an_unknown_job_says_so(bench: Bench) -> None:
    """There is no record to return, and none is made."""
    assert bench.engine.jobs.cancel(UNKNOWN) is None
    assert bench.engine.jobs.get(UNKNOWN) is None


def test_a_job_asked_to_end_is_not_retried(bench: Bench) -> None:
    """It ends as cancelled, with the error of its run, which is charged."""
    delivery = bench.running()
    bench.engine.jobs.cancel(delivery.id)

    bench.settle(retry(delivery, at=bench.clock.now()))

    record = bench.record(delivery.id)
    assert (record.status, record.attempt) == (Status.CANCELLED, 1)
    assert record.error is not None
    assert bench.claim_all() == []


@pytest.mark.parametrize("at", [None, 0, 10**15])
def test_a_job_asked_to_end_is_not_given_back(bench: Bench, at: int | None) -> None:
    """It ends as cancelled, uncharged."""
    delivery = bench.running()
    bench.engine.jobs.cancel(delivery.id)

    bench.settle(released(delivery, at=at))

    record = bench.record(delivery.id)
    assert (record.status, record.attempt) == (Status.CANCELLED, 0)
    assert (record.scheduled_for, record.status_reason) == (None, None)
    assert bench.claim_all() == []


@pytest.mark.parametrize("started", [True, False])
def test_a_job_asked_to_end_does_not_survive_its_worker(bench: Bench, started: bool) -> None:
    """Handed back, it ends as cancelled."""
    delivery = bench.running("w1")
    bench.engine.jobs.cancel(delivery.id)

    held = [delivery.id] if started else []
    assert bench.engine.workers.hand_back("w1", held, "killed by signal 9") == []

    record = bench.record(delivery.id)
    assert (record.status, record.crashes) == (Status.CANCELLED, int(started))
    assert bench.claim_all("w2") == []


def test_a_job_asked_to_end_does_not_survive_its_host(bench: Bench) -> None:
    """Reaped, it ends as cancelled."""
    delivery = bench.running("w1")
    bench.engine.jobs.cancel(delivery.id)
    bench.clock.advance(bench.engine.settings.lease)

    bench.engine.workers.reap()

    assert bench.status(delivery.id) is Status.CANCELLED
    assert bench.claim_all("w2") == []
