"""Lists of jobs, page by page, and how many there are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_taskq.engines import listing
from flask_taskq.engines.listing import Count
from flask_taskq.engines.listing import Filter
from flask_taskq.jobs.record import Status
from tests.support.bench import Bench
from tests.support.bench import cancelled
from tests.support.bench import done
from tests.support.bench import failed


def find_all(bench: Bench, limit: int = 50, **wanted: object) -> list[str]:
    """The ids of all pages; no page is larger than it may be."""
    ids: list[str] = []
    cursor = None
    while True:
        records, cursor = bench.engine.jobs.page(Filter(**wanted), cursor, limit)
        assert len(records) <= limit
        ids += [record.id for record in records]
        if cursor is None:
            return ids


def end(bench: Bench, *ends: Callable, **fields: object) -> list[str]:
    """Jobs that have ended like this, one after the other; their ids."""
    ids = []
    for make in ends:
        bench.clock.advance(1)
        delivery = bench.running(**fields)
        bench.settle(make(delivery))
        ids.append(delivery.id)
    return ids


def test_a_page_has_the_records_as_they_are(bench: Bench) -> None:
    """With all that there is to know."""
    delivery = bench.running()
    queued, later = bench.send(), bench.send(delay=5)
    [over] = end(bench, failed, queue="other")

    records, cursor = bench.engine.jobs.page(Filter())

    assert cursor is None
    assert records == [bench.record(one) for one in (delivery.id, queued, later, over)]


@pytest.mark.parametrize("limit", [1, 2, 50])
def test_waiting_jobs_come_in_the_order_of_their_turns(bench: Bench, limit: int) -> None:
    """Queue by queue; in each by priority and place. Scheduled ones come by their time."""
    one, two = bench.send(priority=5), bench.send()
    three, four = bench.send(), bench.send(queue="another")
    late, soon = bench.send(delay=9), bench.send(delay=3)

    assert find_all(bench, limit) == [four, two, three, one, soon, late]


@pytest.mark.parametrize("limit", [1, 3, 50])
def test_jobs_that_are_over_come_newest_first(bench: Bench, limit: int) -> None:
    """However they have ended."""
    ids = end(bench, done, failed, done, cancelled, failed)

    assert find_all(bench, limit) == ids[::-1]
    assert find_all(bench, limit, statuses=(Status.FAILED,)) == [ids[4], ids[1]]


def test_a_filter_means_all_that_it_says(bench: Bench) -> None:
    """Statuses, queue, and actor."""
    one = bench.send(queue="a", actor="x")
    two = bench.send(queue="a", actor="y")
    three = bench.send(queue="b", actor="x", delay=1_000)
    [four] = end(bench, done, queue="c", actor="x")

    assert find_all(bench, actor="x") == [one, three, four]
    assert find_all(bench, queue="a") == [one, two]
    assert find_all(bench, queue="a", actor="y") == [two]
    assert find_all(bench, queue="b") == [three]
    assert find_all(bench, statuses=(Status.SUCCEEDED, Status.QUEUED)) == [one, two, four]
    assert find_all(bench, statuses=(Status.FAILED,)) == []
    assert find_all(bench, queue="nowhere") == []


def test_jobs_that_move_between_two_pages_move_no_others(bench: Bench) -> None:
    """None that stays is left out or shown twice."""
    ids = bench.send_many(9)
    first, cursor = bench.engine.jobs.page(Filter(), None, 4)
    assert [record.id for record in first] == ids[:4]
    bench.worker().claim([ids[0], ids[3], ids[5]])
    bench.engine.jobs.delete(ids[1])
    new = bench.send()

    second, cursor = bench.engine.jobs.page(Filter(), cursor, 50)

    assert [record.id for record in second] == [ids[4], *ids[6:], new]
    assert cursor is None


def test_final_jobs_that_come_and_go_between_two_pages_move_no_others(bench: Bench) -> None:
    """A new one would be on the first page; one that was deleted leaves its place."""
    ids = end(bench, done, failed, done, failed, done)[::-1]
    _, cursor = bench.engine.jobs.page(Filter(), None, 2)
    end(bench, done, failed)
    bench.engine.jobs.delete(ids[1])
    bench.engine.jobs.delete(ids[2])

    second, cursor = bench.engine.jobs.page(Filter(), cursor, 50)

    assert [record.id for record in second] == ids[3:]


def test_a_cursor_of_a_queue_that_is_empty_by_now_goes_on_with_the_next(bench: Bench) -> None:
    """What comes behind it is listed."""
    one, two = bench.send(queue="a"), bench.send(queue="b")
    _, cursor = bench.engine.jobs.page(Filter(), None, 1)
    bench.engine.jobs.delete(one)

    records, _ = bench.engine.jobs.page(Filter(), cursor, 50)

    assert [record.id for record in records] == [two]


@pytest.mark.parametrize(
    "cursor", ["", "x", "é", "WyJhIl0", "WyJydW5uaW5nIl0", "WyJub3doZXJlIixbMSwyXV0"]
)
def test_what_is_no_cursor_is_refused(bench: Bench, cursor: str) -> None:
    """It may come from a client."""
    with pytest.raises(ValueError, match="is no cursor"):
        bench.engine.jobs.page(Filter(), cursor)


def test_a_record_that_has_expired_is_on_no_page(bench: Bench) -> None:
    """Whether or not it was removed by now."""
    end(bench, done)
    bench.clock.advance(bench.engine.settings.result_ttl)
    [kept] = end(bench, done)

    assert find_all(bench) == [kept]
    bench.engine.jobs.prune()
    assert find_all(bench) == [kept]


def test_a_requeued_job_is_listed_once(bench: Bench) -> None:
    """Where it is now, and when it has ended again there."""
    [job_id] = end(bench, failed)
    bench.engine.jobs.requeue(job_id)
    assert find_all(bench) == [job_id]
    bench.settle(failed(bench.claim()))

    assert find_all(bench) == [job_id]
    assert bench.engine.jobs.counts(Filter())[Status.FAILED] == Count(1, True)


def test_a_page_looks_at_a_bounded_number_of_jobs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be empty, and says how to go on."""
    monkeypatch.setattr(listing, "WINDOW", 10)
    monkeypatch.setattr(listing, "READ_AT_ONCE", 5)
    bench.send_many(25)
    wanted = bench.send(actor="rare")

    records, cursor = bench.engine.jobs.page(Filter(actor="rare"))

    assert records == []
    assert cursor is not None
    assert find_all(bench, actor="rare") == [wanted]


# Counts


def test_jobs_are_counted_by_status(bench: Bench) -> None:
    """Those that the filter means."""
    bench.running(queue="b")
    bench.send_many(3)
    bench.send(actor="x", delay=5)
    end(bench, done, done, failed, queue="c")

    everything = bench.engine.jobs.counts(Filter())
    assert {status: count.number for status, count in everything.items()} == {
        Status.SCHEDULED: 1,
        Status.QUEUED: 3,
        Status.BLOCKED: 0,
        Status.RUNNING: 1,
        Status.SUCCEEDED: 2,
        Status.FAILED: 1,
        Status.CANCELLED: 0,
        Status.EXPIRED: 0,
    }
    assert all(count.is_exact for count in everything.values())
    some = bench.engine.jobs.counts(Filter(statuses=(Status.SCHEDULED,), actor="x"))
    assert some == {Status.SCHEDULED: Count(1, True)}
    of_queue = bench.engine.jobs.counts(Filter(queue="c"))
    assert of_queue[Status.SUCCEEDED] == Count(2, True)
    assert of_queue[Status.QUEUED] == Count(0, True)


def test_a_count_is_exact_until_it_is_at_least(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a bound nobody looks."""
    monkeypatch.setattr(listing, "WINDOW", 10)
    bench.send_many(10)
    queued = Filter(statuses=(Status.QUEUED,))
    assert bench.engine.jobs.counts(queued) == {Status.QUEUED: Count(10, True)}
    bench.send_many(5)

    [count] = bench.engine.jobs.counts(queued).values()

    assert not count.is_exact
    assert 10 <= count.number <= 15


def test_a_count_has_no_job_that_is_gone(bench: Bench) -> None:
    """Deleted, cancelled, or expired."""
    one, two, *_ = bench.send_many(4)
    bench.engine.jobs.delete(one)
    bench.engine.jobs.cancel(two)
    end(bench, done, queue="other")
    bench.clock.advance(bench.engine.settings.result_ttl)

    counts = bench.engine.jobs.counts(Filter())

    assert counts[Status.QUEUED] == Count(2, True)
    assert counts[Status.SUCCEEDED] == counts[Status.CANCELLED] == Count(0, True)
