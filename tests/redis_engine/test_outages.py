"""A server that is not there, goes away, comes back, or is not what it was."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flask_taskq.errors import BrokerConnectionError
from flask_taskq.errors import BrokerFull
from flask_taskq.errors import ConfigurationError
from flask_taskq.errors import ConnectionFailed
from flask_taskq.jobs.record import Status
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import released
from tests.support.machine_time import machine_seconds
from tests.support.redis_server import free_port
from tests.support.redis_server import RedisServer

NET = 60_000
NET_SECONDS = 20

START = Callable[..., RedisServer]
NEW_BENCH = Callable[..., Bench]


def in_background(function: Callable[..., Any], *args: Any) -> Future[Any]:
    """Call it in a thread; its outcome as a future."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def wait_until_blocked(server: RedisServer) -> None:
    """Wait until somebody waits in the server."""
    with server.connect() as client:
        while not client.info("clients")["blocked_clients"]:
            pass


def seconds_of(work: Callable[[], Any]) -> float:
    """How long it takes, as far as the machine has time for it."""
    began = time.monotonic()
    work()
    return machine_seconds(began)


# Not there


def test_a_server_that_is_not_there_is_named_without_its_password(new_bench: NEW_BENCH) -> None:
    """The log says where to look, and no secret."""
    url = f"redis://shop:hunter2@127.0.0.1:{free_port()}/3"
    bench = new_bench(url, options={"timeout": 200})

    with pytest.raises(ConnectionFailed) as raised:
        bench.engine.connect()

    assert "redis://shop:***@127.0.0.1" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_sending_without_a_server_raises_in_time(new_bench: NEW_BENCH) -> None:
    """A view does not hang."""
    bench = new_bench(f"redis://127.0.0.1:{free_port()}/0", options={"timeout": 300})

    def send() -> None:
        with pytest.raises(BrokerConnectionError):
            bench.send()

    assert seconds_of(send) < 2


@pytest.mark.parametrize("password", ["wrong", None])
def test_a_wrong_password_is_an_error_of_the_configuration(
    start_server: START, new_bench: NEW_BENCH, password: str | None
) -> None:
    """To try again would not help. The text does not repeat the password."""
    server = start_server(requirepass="right")
    user = "" if password is None else f":{password}@"
    bench = new_bench(f"redis://{user}127.0.0.1:{server.port}/0")

    with pytest.raises(ConfigurationError) as raised:
        bench.engine.connect()

    assert "password" in str(raised.value)
    assert "wrong" not in str(raised.value)


def test_a_password_in_the_options_will_do(start_server: START, new_bench: NEW_BENCH) -> None:
    """Some keep it out of the URL."""
    server = start_server(requirepass="p@ss:/word")

    for bench in (
        new_bench(server.url, options={"password": "p@ss:/word"}),
        new_bench(f"redis://:p%40ss%3A%2Fword@127.0.0.1:{server.port}/0"),
    ):
        assert bench.status(bench.send()) is Status.QUEUED


# Gone


def test_after_a_failure_calls_fail_at_once_for_a_moment(
    server: RedisServer, new_bench: NEW_BENCH
) -> None:
    """Else each thread of a web server would wait for the full time, one after the other."""
    bench = new_bench(server.url, options={"timeout": 400})
    bench.send()
    server.kill()
    with pytest.raises(BrokerConnectionError):
        bench.send()

    def send_often() -> None:
        for _ in range(100):
            with pytest.raises(BrokerConnectionError):
                bench.send()

    assert seconds_of(send_often) < 0.4


def test_one_call_at_a_time_looks_whether_the_server_is_back(
    server: RedisServer, new_bench: NEW_BENCH
) -> None:
    """The others go on failing at once, until it has succeeded."""
    bench = new_bench(server.url, options={"timeout": 3_000})
    bench.send()
    os.kill(server.pid, signal.SIGSTOP)
    with pytest.raises(BrokerConnectionError):
        bench.send()
    store = bench.engine._store
    store._down_until = 0.0  # the moment is over
    probing = threading.Thread(target=lambda: bench.send())
    probing.start()
    while not store._down_until:
        pass

    def send() -> None:
        with pytest.raises(BrokerConnectionError):
            bench.send()

    assert seconds_of(send) < 1
    os.kill(server.pid, signal.SIGCONT)
    probing.join(NET_SECONDS)
    assert bench.status(bench.send()) is Status.QUEUED


def test_a_server_that_stands_still_does_not_hold_up_a_sender(
    server: RedisServer, new_bench: NEW_BENCH
) -> None:
    """The connection is open and nothing comes back: the sender gives up in time."""
    bench = new_bench(server.url, options={"timeout": 500})
    bench.send()
    os.kill(server.pid, signal.SIGSTOP)

    def send() -> None:
        with pytest.raises(BrokerConnectionError):
            bench.send()

    assert seconds_of(send) < 2


def test_a_call_survives_a_restart_of_the_server(
    start_server: START, new_bench: NEW_BENCH
) -> None:
    """It is repeated until the server is back, and what was stored is there."""
    server = start_server(appendonly="yes", appendfsync="always")
    bench = new_bench(server.url)
    before = bench.send()
    delivery = bench.running(queue="other")
    server.kill()
    sending = in_background(bench.send)
    settling = in_background(bench.settle, done(delivery))
    server.start()

    after = sending.result(NET_SECONDS)

    assert None not in settling.result(NET_SECONDS).outcomes
    assert bench.claim_all() == [before, after]
    assert bench.status(delivery.id) is Status.SUCCEEDED


def test_a_fetch_that_waits_survives_a_restart_of_the_server(
    start_server: START, new_bench: NEW_BENCH
) -> None:
    """It looks again, and waits on."""
    server = start_server(appendonly="yes", appendfsync="always")
    bench = new_bench(server.url)
    consumer = bench.worker()
    fetching = in_background(consumer.fetch, 1, NET)
    wait_until_blocked(server)
    server.stop()
    server.start()

    job_id = bench.send()

    assert [one.id for one in fetching.result(NET_SECONDS)] == [job_id]


def test_a_connection_that_is_cut_while_it_waits_is_made_again(
    server: RedisServer, bench: Bench
) -> None:
    """By an operator, or by a firewall."""
    fetching = in_background(bench.worker().fetch, 1, NET)
    wait_until_blocked(server)
    with server.connect() as client:
        client.client_kill_filter(_type="normal", skipme=True)

    job_id = bench.send()

    assert [one.id for one in fetching.result(NET_SECONDS)] == [job_id]


def test_a_client_that_an_operator_unblocks_waits_on(server: RedisServer, bench: Bench) -> None:
    """An error is one way to be unblocked."""
    fetching = in_background(bench.worker().fetch, 1, NET)
    wait_until_blocked(server)
    with server.connect() as client:
        for one in client.client_list():
            client.client_unblock(int(one["id"]), error=True)

    job_id = bench.send()

    assert [one.id for one in fetching.result(NET_SECONDS)] == [job_id]


def test_an_interrupt_does_not_need_the_server(server: RedisServer, bench: Bench) -> None:
    """A worker can stop, though its server does not answer."""
    consumer = bench.worker()
    fetching = in_background(consumer.fetch, 1, NET)
    wait_until_blocked(server)
    os.kill(server.pid, signal.SIGSTOP)

    consumer.interrupt()

    assert seconds_of(lambda: fetching.result(NET_SECONDS)) < 1
    assert fetching.result() == []


# Changed


def test_scripts_that_were_flushed_are_sent_again(server: RedisServer, bench: Bench) -> None:
    """A server that was restarted has none either."""
    with server.connect() as client:
        for step in (bench.send, bench.claim):
            client.script_flush()
            result = step()
        client.script_flush()

        assert None not in bench.settle(done(result)).outcomes
        assert bench.status(result.id) is Status.SUCCEEDED


def test_a_server_that_became_a_replica_is_asked_again(
    server: RedisServer, start_server: START, bench: Bench
) -> None:
    """As in a failover: what cannot be written is written when it can be."""
    bench.send()
    other = start_server()
    with server.connect() as client:
        client.replicaof("127.0.0.1", other.port)
        tries = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        sending = in_background(bench.send)
        while client.info("commandstats")["cmdstat_evalsha"]["calls"] < tries + 2:
            pass
        client.replicaof("NO", "ONE")

    job_id = sending.result(NET_SECONDS)

    assert bench.status(job_id) is Status.QUEUED


def test_when_the_memory_is_full_jobs_can_still_end(server: RedisServer, bench: Bench) -> None:
    """Nothing more can be sent, and what is there runs, is released, and is purged."""
    ids = bench.send_many(3)
    bench.send(queue="other")
    bench.worker()
    with server.connect() as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(BrokerFull, match="nothing was stored"):
            bench.send(id="f" * 32)
        assert bench.engine.jobs.get("f" * 32) is None

        assert bench.engine.workers.renew(["w1"]) == []
        first, second, third = bench.worker().fetch(3, 0)
        settled = bench.settle(done(first), released(second), then_fetch=1)
        bench.engine.jobs.cancel(third.id)
        bench.engine.workers.hand_back("w1", [], "killed by signal 9")
        assert bench.engine.queues.purge("other") == 1

        client.config_set("maxmemory", 0)
    assert [one.id for one in settled.deliveries] == [second.id]
    assert [bench.status(job_id) for job_id in ids] == ["succeeded", "queued", "cancelled"]
    assert bench.status(bench.send()) is Status.QUEUED


def test_a_server_that_evicts_jobs_is_refused(
    start_server: START, new_bench: NEW_BENCH
) -> None:
    """They would vanish without a word. An option overrides that."""
    server = start_server(maxmemory="100mb", maxmemory_policy="allkeys-lru")

    with pytest.raises(ConfigurationError, match="allkeys-lru"):
        new_bench(server.url).engine.connect()
    with pytest.raises(ConfigurationError, match="noeviction"):
        new_bench(server.url).send()

    bench = new_bench(f"{server.url}?allow_eviction=true")
    assert bench.status(bench.send()) is Status.QUEUED


@pytest.mark.parametrize(
    ("appendonly", "appendfsync", "problem"),
    [("no", "always", "appendonly"), ("yes", "everysec", "appendfsync"), ("yes", "always", "")],
)
def test_what_is_asked_of_the_disk_is_checked(
    start_server: START, new_bench: NEW_BENCH, appendonly: str, appendfsync: str, problem: str
) -> None:
    """The server of this test may have WAITAOF, and then everysec will do."""
    server = start_server(appendonly=appendonly, appendfsync=appendfsync)
    bench = new_bench(server.url, options={"durability": "fsync"})
    with server.connect() as client:
        has_waitaof = "waitaof" in client.command()

    if problem and not (has_waitaof and appendonly == "yes"):
        with pytest.raises(ConfigurationError, match=problem):
            bench.engine.connect()
    else:
        assert bench.status(bench.send()) is Status.QUEUED


# Connections


def test_many_threads_share_few_connections(server: RedisServer, new_bench: NEW_BENCH) -> None:
    """As many as the option allows, and each thread gets its turn."""
    bench = new_bench(server.url, options={"max_connections": 3})

    with ThreadPoolExecutor(24) as executor:
        ids = set(executor.map(lambda _: bench.send(), range(240)))

    with server.connect() as client:
        assert len(client.client_list()) <= 3 + 1
    assert len(ids) == len(bench.claim_all()) == 240


def test_a_fork_in_the_midst_of_a_call_harms_neither_side(
    server: RedisServer, bench: Bench
) -> None:
    """F51: another thread waits for the reply just then, which stays its own."""
    bench.send(id="a" * 32)
    with server.connect() as client, ThreadPoolExecutor() as pool:
        client.client_pause(60_000, all=False)
        sending = pool.submit(bench.send, id="b" * 32)
        while not any("b" in one["flags"] for one in client.client_list()):
            pass  # it has not come to the server yet, which holds it up
        with warnings.catch_warnings():
            # From Python 3.12 on: a fork of a process with threads, which is what is tested.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            try:
                bench.send(id="c" * 32)
                os._exit(0 if bench.record("c" * 32).id == "c" * 32 else 1)
            finally:
                os._exit(1)
        client.client_unpause()
        assert sending.result(20) == "b" * 32
        bench.send(id="d" * 32)
    assert os.waitpid(pid, 0)[1] == 0

    assert set(bench.claim_all()) == {letter * 32 for letter in "abcd"}


def test_parent_and_child_of_a_fork_have_connections_of_their_own(
    server: RedisServer, bench: Bench
) -> None:
    """Both send at the same time, and nobody gets the other's replies."""
    bench.send(queue="before")
    pid = os.fork()
    name = "child" if pid == 0 else "parent"
    try:
        for number in range(300):
            job_id = f"{number:030x}{'c0' if pid == 0 else 'f0'}"
            bench.send(id=job_id, queue=name)
            assert bench.record(job_id).queue == name
    except BaseException:
        if pid == 0:
            os._exit(1)
        raise
    if pid == 0:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert bench.engine.queues.depths() == {"before": 1, "child": 300, "parent": 300}


@pytest.mark.parametrize("timeout", [1, 2, 3])
def test_the_shortest_wait_is_no_endless_one(bench: Bench, timeout: int) -> None:
    """Some servers round it to nothing, by which they mean for ever."""
    consumer = bench.worker()

    assert seconds_of(lambda: consumer.fetch(1, timeout)) < 1
