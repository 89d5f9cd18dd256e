"""The server did what it was asked, and its reply never came."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator

import pytest

from flask_taskq.engines.redis import script_source
from flask_taskq.jobs.delivery import Report
from flask_taskq.jobs.record import LogLine
from flask_taskq.jobs.record import Status
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import failed
from tests.support.bench import retry
from tests.support.redis_server import RedisServer

from .lossy import LossyLine

NET = 5_000


@pytest.fixture
def line(server: RedisServer) -> Iterator[LossyLine]:
    with LossyLine(server.port) as line:
        yield line


@pytest.fixture
def bench(line: LossyLine, new_bench: Callable[..., Bench]) -> Bench:
    """An engine at the other end of the line, whose server knows its scripts."""
    bench = new_bench(f"redis://127.0.0.1:{line.port}/0")
    bench.settle(done(bench.running()), then_fetch=1)
    return bench


def sha(one: script_source.Script) -> str:
    return one.sha.decode()


@pytest.mark.parametrize("replies", [1, 3])
def test_a_job_that_was_sent_is_there_once(bench: Bench, line: LossyLine, replies: int) -> None:
    """The call is repeated with the same id."""
    line.lose(sha(script_source.ENQUEUE), replies)

    ids = bench.send_many(3)

    assert line.is_done
    assert bench.claim_all() == ids


@pytest.mark.parametrize("replies", [1, 3])
def test_jobs_that_were_fetched_arrive(bench: Bench, line: LossyLine, replies: int) -> None:
    """Else they were held, as long as their worker lives, by one that does not know them."""
    ids = bench.send_many(3)
    consumer = bench.worker()
    line.lose(sha(script_source.FETCH), replies)

    deliveries = consumer.fetch(2, 0)

    assert line.is_done
    assert [delivery.id for delivery in deliveries] == ids[:2]
    assert [delivery.claim for delivery in deliveries] == [1, 1]
    assert None not in bench.settle(*map(done, deliveries)).outcomes
    assert bench.claim_all() == ids[2:]


def test_jobs_that_were_fetched_arrive_with_a_later_call(
    bench: Bench, line: LossyLine, new_bench: Callable[..., Bench]
) -> None:
    """Also when the call that had claimed them was given up."""
    short = new_bench(f"redis://127.0.0.1:{line.port}/0", options={"timeout": 300})
    ids = bench.send_many(4)
    consumer = short.worker()
    line.lose(sha(script_source.FETCH), 1_000)
    with pytest.raises(Exception, match="does not answer"):
        consumer.fetch(2, 0)
    line.lose("", 0)

    deliveries = consumer.fetch(2, 0) + consumer.fetch(2, 0)

    assert sorted(delivery.id for delivery in deliveries) == ids
    assert {delivery.claim for delivery in deliveries} == {1}


@pytest.mark.parametrize("is_late", [False, True])
def test_jobs_that_were_fetched_arrive_though_nobody_asks_for_more(
    bench: Bench, line: LossyLine, new_bench: Callable[..., Bench], is_late: bool
) -> None:
    """With the next settlement, or when the lease is renewed."""
    short = new_bench(f"redis://127.0.0.1:{line.port}/0", options={"timeout": 300}, lease=1_000)
    first, second = bench.send_many(2)
    [delivery] = short.worker().fetch(1, 0)
    line.lose(sha(script_source.SETTLE), 1_000)
    with pytest.raises(Exception, match="does not answer"):
        short.settle(done(delivery), then_fetch=1)
    line.lose("", 0)
    if is_late:
        short.engine.workers.register("w1")
        until = short.clock.monotonic() + 1_000
        while short.clock.monotonic() < until:
            pass
        assert short.settle() == ([], [], [])
    short.engine.workers.register("w1")

    outcomes, [again], _ = short.settle(done(delivery))

    assert (outcomes, again.id, again.claim) == ([Status.SUCCEEDED], second, 1)
    assert short.status(first) is Status.SUCCEEDED


@pytest.mark.parametrize("replies", [1, 3])
def test_a_settlement_that_was_stored_is_not_stale(
    bench: Bench, line: LossyLine, replies: int
) -> None:
    """And what was claimed in the same step arrives with it."""
    ids = bench.send_many(5)
    first, second, third = bench.worker().fetch(3, 0)
    settlements = [done(first), failed(second), retry(third, at=bench.clock.now() + NET)]
    line.lose(sha(script_source.SETTLE), replies)

    settled = bench.settle(*settlements, then_fetch=2)

    assert line.is_done
    assert None not in settled.outcomes
    assert [delivery.id for delivery in settled.deliveries] == ids[3:]
    assert [bench.status(job_id) for job_id in ids[:3]] == ["succeeded", "failed", "scheduled"]


def test_a_settlement_that_is_really_stale_stays_so(bench: Bench, line: LossyLine) -> None:
    """Also in a call that is repeated, and of two of one delivery the second."""
    old, good = bench.running("w1", queue="a"), bench.running("w2", queue="b")
    bench.engine.workers.hand_back("w1", [], "killed by signal 9")
    line.lose(sha(script_source.SETTLE))

    settled = bench.settle(done(old), done(good), failed(good), name="w2")

    assert line.is_done
    assert settled.outcomes == [None, Status.SUCCEEDED, None]
    assert bench.status(good.id) is Status.SUCCEEDED


def test_follow_ups_are_stored_once(bench: Bench, line: LossyLine) -> None:
    """Their ids are known when the call is repeated."""
    follow_up = bench.envelope(queue="later")
    line.lose(sha(script_source.SETTLE))

    bench.settle(done(bench.running(), follow_ups=(follow_up,)))

    assert line.is_done
    assert bench.claim_all(queues=["later"]) == [follow_up.id]


def test_lines_of_a_log_are_added_once(bench: Bench, line: LossyLine) -> None:
    """A report is repeated as well."""
    delivery = bench.running()
    told = LogLine(at=1, level="info", text="half way", attempt=1)
    line.lose(sha(script_source.REPORT))

    reported = bench.worker("w1").report_if_held([Report(delivery=delivery, logs=(told,))])

    assert line.is_done
    assert reported == ([], [])
    assert bench.record(delivery.id).logs == (told,)


def test_the_jobs_of_a_dead_worker_are_judged_once(bench: Bench, line: LossyLine) -> None:
    """It is forgotten in the first call, and its jobs are found in the second."""
    delivery = bench.running("w1")
    line.lose(sha(script_source.BEGIN_RECLAIM))

    bench.engine.workers.hand_back("w1", [delivery.id], "killed by signal 9")

    assert line.is_done
    record = bench.record(delivery.id)
    assert (record.status, record.crashes) == (Status.QUEUED, 1)


def test_a_verdict_that_was_stored_is_not_passed_twice(bench: Bench, line: LossyLine) -> None:
    """One death is one crash."""
    delivery = bench.running("w1")
    line.lose(sha(script_source.RECLAIM))

    bench.engine.workers.hand_back("w1", [delivery.id], "killed by signal 9")

    assert line.is_done
    assert bench.record(delivery.id).crashes == 1
    assert bench.claim_all("w2") == [delivery.id]
