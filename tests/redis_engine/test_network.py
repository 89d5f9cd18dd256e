"""A network between an app and its server that fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from collections.abc import Iterator

import pytest

from flask_taskq.errors import BrokerConnectionError
from tests.faults.proxy import Proxy
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.redis_contents import verify_redis
from tests.support.redis_server import RedisServer

from .test_outages import in_background
from .test_outages import NET
from .test_outages import NET_SECONDS
from .test_outages import seconds_of
from .test_outages import wait_until_blocked

NEW_BENCH = Callable[..., Bench]


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def far(proxy: Proxy, new_bench: NEW_BENCH) -> Bench:
    """An engine on the other side of the network, connected."""
    bench = new_bench(f"redis://127.0.0.1:{proxy.port}/0", options={"timeout": 2_000})
    bench.engine.connect()
    return bench


def work_off(bench: Bench, name: str, sent: threading.Event) -> list[str]:
    """Fetch and settle until all that was sent is done; the ids, as often as they came."""
    consumer = bench.worker(name)
    seen: list[str] = []
    deliveries = consumer.fetch(5, 0)
    while deliveries or not sent.is_set() or bench.engine.queues.depths():
        seen += [delivery.id for delivery in deliveries]
        settled = consumer.settle_if_held([done(one) for one in deliveries], 5)
        assert None not in settled.outcomes
        deliveries = settled.deliveries or consumer.fetch(5, 20)
    return seen


def test_however_often_connections_are_cut_each_job_is_done_once(
    far: Bench, proxy: Proxy, server: RedisServer
) -> None:
    """Sent once, fetched once, settled once, and nobody saw an error."""
    sent = threading.Event()
    workers = [in_background(work_off, far, f"w{n}", sent) for n in range(2)]
    ids = []
    for number in range(400):
        ids.append(far.send())
        if number % 8 == 0:
            proxy.cut()
    sent.set()

    seen = [job_id for worker in workers for job_id in worker.result(NET_SECONDS)]

    assert sorted(seen) == ids
    assert {far.status(job_id) for job_id in ids} == {"succeeded"}
    verify_redis(server.url)


def test_a_network_that_swallows_everything_does_not_hold_up_a_sender(
    far: Bench, proxy: Proxy
) -> None:
    """It gives up in time, and goes on when the network is back."""
    far.send()
    proxy.blackhole()

    def send() -> None:
        with pytest.raises(BrokerConnectionError):
            far.send()

    assert seconds_of(send) < 2.5
    proxy.heal()
    job_id = until_it_works(far.send)
    assert far.status(job_id) == "queued"


def test_a_fetch_notices_that_nothing_answers(
    far: Bench, proxy: Proxy, server: RedisServer
) -> None:
    """Within ten seconds, with a connection that looks as good as any."""
    consumer = far.worker()
    fetching = in_background(consumer.fetch, 1, NET)
    wait_until_blocked(server)
    proxy.half_open()

    def wait() -> None:
        with pytest.raises(BrokerConnectionError):
            fetching.result(NET_SECONDS)

    assert seconds_of(wait) < 10
    job_id = until_it_works(far.send)
    assert [one.id for one in consumer.fetch(1, NET)] == [job_id]


def test_a_slow_network_makes_everything_slow_and_breaks_nothing(
    proxy: Proxy, new_bench: NEW_BENCH, server: RedisServer
) -> None:
    """A second there and back."""
    far = new_bench(f"redis://127.0.0.1:{proxy.port}/0")
    far.engine.connect()
    consumer = far.worker()
    assert consumer.fetch(1, 0) == []
    proxy.delay(0.5)

    ids = far.send_many(3)
    deliveries = consumer.fetch(2, 0)
    settled = consumer.settle_if_held([done(one) for one in deliveries], 1)
    assert far.engine.workers.renew(["w1"]) == []

    proxy.heal()
    assert None not in settled.outcomes
    assert [one.id for one in (*deliveries, *settled.deliveries)] == ids
    assert None not in far.settle(done(settled.deliveries[0])).outcomes
    assert {far.status(job_id) for job_id in ids} == {"succeeded"}
    verify_redis(server.url)


def until_it_works(work: Callable[[], str]) -> str:
    """For a moment after a failure calls go on failing."""
    until = time.monotonic() + NET_SECONDS
    while True:
        try:
            return work()
        except BrokerConnectionError:
            assert time.monotonic() < until
