"""The jobs of a dead worker between the two steps in which they are taken from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flask_taskq.engines.listing import Filter
from flask_taskq.engines.redis.script_source import RECLAIM
from flask_taskq.engines.redis.script_source import Script
from flask_taskq.engines.redis.store import Store
from flask_taskq.jobs.delivery import Delivery
from flask_taskq.jobs.record import Status
from flask_taskq.testing.clock import ManualClock
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.redis_server import RedisServer


@pytest.fixture
def bench(server: RedisServer, new_bench: Callable[..., Bench], clock: ManualClock) -> Bench:
    return new_bench(server.url, clock=clock)


@pytest.fixture
def delivery(server: RedisServer, bench: Bench) -> Delivery:
    """One that a reaper, which has died since, has begun to take from its worker."""
    delivery = bench.running("w1")
    with server.connect() as client:
        client.hdel("{taskq}:leases", "w1")
        client.rename("{taskq}:own:w1", "{taskq}:lost:x:w1")
        client.zadd("{taskq}:lost", {"x:w1": 1})
    return delivery


def take(bench: Bench, clock: ManualClock) -> None:
    """Another reaper finds it, and waits for a while whether the first one goes on."""
    bench.engine.workers.reap()
    clock.advance(11_000)
    bench.engine.workers.reap()


def test_it_is_still_running(bench: Bench, delivery: Delivery) -> None:
    """At the worker that it had."""
    record = bench.record(delivery.id)
    assert (record.status, record.worker, record.attempt) == (Status.RUNNING, "w1", 1)
    page = bench.engine.jobs.page(Filter(statuses=(Status.RUNNING,)))
    assert [one.id for one in page.records] == [delivery.id]


def test_nobody_claims_it(bench: Bench, delivery: Delivery) -> None:
    """Neither from its queue nor by its id, and its worker cannot settle it."""
    assert bench.claim_all("w2") == []
    assert bench.worker("w2").claim([delivery.id]) == []
    assert bench.worker("w1").settle_if_held([done(delivery)]).outcomes == [None]


def test_it_is_not_deleted(bench: Bench, delivery: Delivery, clock: ManualClock) -> None:
    """It will be queued again."""
    deleted = bench.engine.jobs.delete(delivery.id)
    assert deleted is not None and deleted.status is Status.RUNNING
    take(bench, clock)
    assert bench.claim_all("w2") == [delivery.id]


def test_cancelling_it_is_remembered(
    bench: Bench, delivery: Delivery, clock: ManualClock
) -> None:
    """It is cancelled in place of being queued again."""
    record = bench.engine.jobs.cancel(delivery.id)
    assert record is not None and record.cancel_requested
    assert record.status is Status.RUNNING
    take(bench, clock)
    assert bench.status(delivery.id) is Status.CANCELLED
    assert bench.claim_all("w2") == []


def test_cancelling_it_while_it_is_taken_is_remembered(
    server: RedisServer,
    new_bench: Callable[..., Bench],
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between reading what the worker held and judging it."""
    bench, other = (new_bench(server.url, clock=clock) for _ in range(2))
    delivery = bench.running("w1")
    run = Store.run

    def cancel_first(store: Store, script: Script, *args: Any, **options: Any) -> Any:
        if script is RECLAIM:
            other.engine.jobs.cancel(delivery.id)
        return run(store, script, *args, **options)

    monkeypatch.setattr(Store, "run", cancel_first)
    bench.engine.workers.hand_back("w1", [], "stopped")

    assert bench.status(delivery.id) is Status.CANCELLED
