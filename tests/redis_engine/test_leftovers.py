"""What stays in the server when queues have come and gone."""

from __future__ import annotations

import random
from collections.abc import Callable
from collections.abc import Iterator

import pytest

from flask_taskq.jobs.lifecycle import ISOLATION_DELAY
from flask_taskq.jobs.record import Lane
from flask_taskq.jobs.record import LogLine
from flask_taskq.testing.clock import ManualClock
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import retry
from tests.support.redis_contents import verify_redis
from tests.support.redis_server import RedisServer

#: More than one call of the server looks at.
MANY = 700


@pytest.fixture
def bench(
    server: RedisServer, new_bench: Callable[..., Bench], clock: ManualClock
) -> Iterator[Bench]:
    """After the test nothing is left but records, the order of their ends, and two numbers."""
    bench = new_bench(server.url, clock=clock)
    yield bench
    verify_redis(server.url)
    with server.connect() as client:
        keys = {key.decode().removeprefix("{taskq}:") for key in client.keys("*")}
    left = {key for key in keys if key.partition(":")[0] not in ("j", "log", "over")}
    assert left <= {"layout", "seq"}


def test_nothing_is_left_of_queues_that_were_purged(bench: Bench) -> None:
    """Whether their jobs were queued or scheduled, of whatever priority."""
    for number in range(20):
        bench.send_many(3, queue=f"tenant_{number}", priority=number - 10)
        bench.send(queue=f"tenant_{number}", delay=1_000)
    for number in range(20):
        assert bench.engine.queues.purge(f"tenant_{number}") == 4


@pytest.mark.parametrize("order", ["first", "last", "any"])
def test_nothing_is_left_of_a_queue_whose_jobs_were_cancelled(bench: Bench, order: str) -> None:
    """In whatever order that was done."""
    ids = [*bench.send_many(MANY), *bench.send_many(MANY, priority=1)]
    if order == "last":
        ids.reverse()
    elif order == "any":
        random.Random(1).shuffle(ids)
    for job_id in ids:
        bench.engine.jobs.cancel(job_id)


def test_cancelling_takes_no_other_job_out_of_its_queue(bench: Bench) -> None:
    """Those that stay keep their places."""
    ids = bench.send_many(30)
    for job_id in [*ids[:5], *ids[10:20], *ids[25:]]:
        bench.engine.jobs.cancel(job_id)
    kept = [*ids[5:10], *ids[20:25]]

    assert bench.claim_all() == kept

    for job_id in kept:
        bench.engine.jobs.cancel(job_id)
    bench.engine.workers.hand_back("w1", [], "stopped")


def test_nothing_is_left_of_jobs_that_came_back_and_were_cancelled(bench: Bench) -> None:
    """From a worker that died, alone or among others."""
    ids = bench.send_many(4)
    for _ in range(2):
        bench.worker("w1").fetch(4, 0)
        bench.engine.workers.hand_back("w1", ids[:2], "killed by signal 9")
    bench.clock.advance(ISOLATION_DELAY)
    bench.engine.queues.has_due(["default"], Lane.ALONE)
    assert bench.claim_all("w2") == ids[2:]
    bench.engine.workers.hand_back("w2", [], "stopped")
    for job_id in ids:
        bench.engine.jobs.cancel(job_id)


def test_nothing_is_left_of_a_queue_that_was_worked_off(bench: Bench) -> None:
    """Also where the last fetch got as many as it asked for, and none came after it."""
    bench.send_many(10, queue="a")
    bench.send_many(10, queue="b", priority=3)
    for queue in ("a", "b"):
        deliveries = bench.worker("w1", queues=[queue]).fetch(10, 0)
        bench.worker("w1", queues=[queue]).settle_if_held([done(one) for one in deliveries])
    bench.engine.workers.hand_back("w1", [], "stopped")


def test_the_log_of_an_earlier_run_expires_with_the_record(
    bench: Bench, server: RedisServer
) -> None:
    """Though the last run, which succeeded, has logged nothing."""
    line = LogLine(at=1, level="info", text="one", attempt=1)
    delivery = bench.running()
    bench.settle(retry(delivery, at=bench.clock.now(), logs=(line,)))
    bench.settle(done(bench.claim()))

    assert bench.record(delivery.id).logs == (line,)
    bench.engine.workers.hand_back("w1", [], "stopped")
    with server.connect() as client:
        assert client.pttl(f"{{taskq}}:log:{delivery.id}") > 0
