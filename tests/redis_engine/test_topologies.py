"""More than one server: replicas with a Sentinel, and a cluster."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_taskq.errors import ConnectionFailed
from flask_taskq.jobs.record import Status
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.redis_server import free_port
from tests.support.redis_server import RedisServer
from tests.support.redis_server import Sentinel

from .test_outages import in_background
from .test_outages import NET
from .test_outages import NET_SECONDS
from .test_outages import wait_until_blocked

START = Callable[..., RedisServer]
NEW_BENCH = Callable[..., Bench]


def replicate(start_server: START, primary: RedisServer) -> RedisServer:
    """A second server that has all that the first one has."""
    replica = start_server(replicaof=f"127.0.0.1 {primary.port}", repl_diskless_sync_delay="0")
    with replica.connect() as client:
        while client.info("replication")["master_link_status"] != "up":
            pass
    return replica


def test_after_a_failover_everything_goes_on_at_the_new_server(
    start_server: START, new_bench: NEW_BENCH
) -> None:
    """Senders, waiting fetches and settlements find it, and nobody sees an error."""
    primary = start_server()
    replica = replicate(start_server, primary)
    with Sentinel(primary, "jobs") as sentinel, sentinel.connect() as client:
        while client.sentinel_master("jobs")["num-slaves"] != 1:
            pass
        url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/jobs/2"
        bench = new_bench(url, options={"timeout": 20_000})
        before = bench.running("w1", queue="a")
        fetching = in_background(bench.worker("w2", ["b"]).fetch, 1, NET)
        wait_until_blocked(primary)
        with primary.connect() as connection:
            assert connection.wait(1, 10_000) == 1

        primary.kill()
        job_id = in_background(lambda: bench.send(queue="b")).result(NET_SECONDS)

        assert None not in bench.settle(done(before)).outcomes
        assert bench.status(before.id) is Status.SUCCEEDED
        assert [one.id for one in fetching.result(NET_SECONDS)] == [job_id]
        with replica.connect(db=2) as connection:
            assert connection.exists(f"{{taskq}}:j:{job_id}")


def test_a_service_that_no_sentinel_knows_is_named(
    server: RedisServer, new_bench: NEW_BENCH
) -> None:
    """With what each of them said."""
    with Sentinel(server, "jobs") as sentinel:
        other = free_port()
        bench = new_bench(
            f"redis+sentinel://127.0.0.1:{sentinel.port},127.0.0.1:{other}/wrong",
            options={"timeout": 300},
        )

        with pytest.raises(ConnectionFailed, match="'wrong'") as raised:
            bench.engine.connect()

        assert f"127.0.0.1:{other}: " in str(raised.value)


def test_in_a_cluster_the_node_with_the_namespace_is_found(
    start_server: START, new_bench: NEW_BENCH
) -> None:
    """Whichever node the URL names: all keys of a namespace are at one."""
    nodes = [
        start_server(port=free_port(), cluster_enabled="yes", databases="1") for _ in range(2)
    ]
    for node, slots in zip(nodes, (range(8192), range(8192, 16384)), strict=True):
        with node.connect() as client:
            client.cluster("ADDSLOTS", *slots)
    with nodes[0].connect() as client:
        client.cluster("MEET", "127.0.0.1", nodes[1].port)
    for node in nodes:
        with node.connect() as client:
            while client.cluster("INFO")["cluster_state"] != "ok":
                pass
    for node in nodes:
        bench = new_bench(node.url)
        ids = bench.send_many(3, delay=5)
        delivery = bench.worker().fetch(1, NET)[0]
        bench.settle(done(delivery))
        bench.engine.jobs.cancel(ids[2])
        assert bench.status(delivery.id) is Status.SUCCEEDED
        bench.engine.queues.purge("default")
