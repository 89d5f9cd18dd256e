"""Records that something else has written over."""

from __future__ import annotations

import random

import pytest

from flask_taskq.engines.base import Holder
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.redis_server import RedisServer

NUMBERS = random.Random(1)


@pytest.mark.parametrize(
    "data", [b"", b"{}", NUMBERS.randbytes(100), NUMBERS.randbytes(1_000)], ids=len
)
@pytest.mark.parametrize("delay", [None, 5])
def test_a_damaged_record_does_not_harm_its_neighbours(
    server: RedisServer, bench: Bench, data: bytes, delay: int | None
) -> None:
    """They are fetched and settled as if it were not there."""
    ids = bench.send_many(3, delay=delay)
    with server.connect() as client:
        client.set(f"{{taskq}}:j:{ids[1]}", data)

    deliveries = bench.worker().fetch(2, 60_000)
    while len(deliveries) < 2:
        deliveries += bench.worker().fetch(1, 60_000)

    assert [delivery.id for delivery in deliveries] == [ids[0], ids[2]]
    assert bench.settle(*map(done, deliveries)).stale == []
    assert bench.status(ids[2]) == "succeeded"


def test_holders_of_a_worker_that_an_older_release_has_reaped_are_forgotten(
    server: RedisServer, bench: Bench
) -> None:
    """It knew nothing of them, and has left them behind."""
    workers = bench.engine.workers
    workers.register("w1", Holder("here", ((1, 2),)))
    with server.connect() as client:
        client.zrem("{taskq}:wk", "w1")

        assert workers.list_holders("here") == {}
        assert not client.exists("{taskq}:holders")
