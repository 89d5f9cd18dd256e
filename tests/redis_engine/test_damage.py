"""Records that something else has written over."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest
import redis

from flask_taskq.engines.listing import WorkerInfo
from flask_taskq.errors import DecodeError
from flask_taskq.jobs.delivery import Report
from flask_taskq.jobs.lifecycle import ISOLATION_DELAY
from flask_taskq.jobs.record import Lane
from flask_taskq.jobs.record import LogLine
from flask_taskq.jobs.record import Status
from flask_taskq.testing.clock import ManualClock
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import failed
from tests.support.redis_server import RedisServer

NUMBERS = random.Random(1)

#: Where some fields of a record are, in bytes.
PLACE, STATUS, DUE, CREATED = 8, 16, 17, 54


def overwrite(data: bytes) -> Callable[[redis.Redis, str], None]:
    """Something else is there."""
    return lambda client, key: client.set(key, data)


def change(at: int, data: bytes) -> Callable[[redis.Redis, str], None]:
    """Some bytes of the record are others."""
    return lambda client, key: client.setrange(key, at, data)


def cut(client: redis.Redis, key: str) -> None:
    """The end of the record is missing."""
    client.set(key, client.get(key)[:-1])


def lengthen(client: redis.Redis, key: str) -> None:
    """There is more than the record."""
    client.append(key, b"x")


def make_list(client: redis.Redis, key: str) -> None:
    """It is no string any more."""
    client.delete(key)
    client.rpush(key, "1")


NAN, INFINITE = struct.pack("<d", float("nan")), struct.pack("<d", float("inf"))
DAMAGES = {
    "nothing": overwrite(b""),
    "short": overwrite(b"{}"),
    "100 bytes": overwrite(NUMBERS.randbytes(100)),
    "1000 bytes": overwrite(NUMBERS.randbytes(1_000)),
    "cut": cut,
    "longer": lengthen,
    "a list": make_list,
    "no status": change(STATUS, b"\xc8"),
    "no place": change(PLACE, NAN),
    "no time": change(CREATED, NAN),
    "endless": change(CREATED, INFINITE),
}


@pytest.fixture(params=DAMAGES)
def damage(request: pytest.FixtureRequest, server: RedisServer) -> Callable[[str], None]:
    """Damages the record of a job."""

    def damage(job_id: str) -> None:
        with server.connect() as client:
            DAMAGES[request.param](client, f"{{taskq}}:j:{job_id}")

    return damage


@pytest.mark.parametrize("delay", [None, 5])
def test_a_damaged_record_does_not_harm_its_neighbours(
    bench: Bench, damage: Callable[[str], None], delay: int | None
) -> None:
    """They are fetched and settled, whatever becomes of it."""
    ids = bench.send_many(3, delay=delay)
    damage(ids[1])

    deliveries = bench.worker().fetch(3, 60_000)
    while not {ids[0], ids[2]} <= {delivery.id for delivery in deliveries}:
        deliveries += bench.worker().fetch(3, 60_000)

    good = [delivery for delivery in deliveries if delivery.id != ids[1]]
    bad = [delivery for delivery in deliveries if delivery.id == ids[1]]
    assert [delivery.id for delivery in good] == [ids[0], ids[2]]
    outcomes = bench.settle(*map(done, good), *map(failed, bad)).outcomes
    assert None not in outcomes[: len(good)]
    assert bench.status(ids[0]) is bench.status(ids[2]) is Status.SUCCEEDED


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_damaged_record_keeps_no_other_job_from_being_taken_from_the_dead(
    server: RedisServer,
    new_bench: Callable[..., Bench],
    clock: ManualClock,
    damage: Callable[[str], None],
    is_seen: bool,
) -> None:
    """Neither the other jobs of its worker, nor those of other workers."""
    bench = new_bench(server.url, clock=clock)
    ids = bench.send_many(3)
    bench.worker("w1").fetch(3, 0)
    other = bench.running("w2", queue="other")
    damage(ids[1])

    if is_seen:
        bench.engine.workers.hand_back("w1", [], "killed by signal 9")
    clock.advance(bench.engine.settings.lease)
    assert bench.engine.workers.reap() == (["w2"] if is_seen else ["w1", "w2"])

    statuses = {bench.status(job_id) for job_id in (ids[0], ids[2], other.id)}
    assert statuses == {Status.QUEUED}
    # And nothing is left to be tried again.
    clock.advance(60_000)
    assert bench.engine.workers.reap() == []
    with server.connect() as client:
        assert not client.exists("{taskq}:lost") and not client.keys("{taskq}:lost:*")


def test_a_damaged_record_keeps_no_isolated_job_waiting(
    server: RedisServer,
    new_bench: Callable[..., Bench],
    clock: ManualClock,
    damage: Callable[[str], None],
) -> None:
    """A process is called for the others, and gets them."""
    bench = new_bench(server.url, clock=clock)
    ids = bench.send_many(2)
    for _ in range(2):
        bench.worker("w1").fetch(2, 0)
        bench.engine.workers.hand_back("w1", ids, "killed by signal 9")
    damage(ids[0])
    clock.advance(ISOLATION_DELAY)

    assert bench.engine.queues.has_due(["default"], Lane.ALONE)
    assert ids[1] in bench.claim_all("solo", lane=Lane.ALONE)


def test_a_damaged_record_keeps_no_other_from_being_pruned(
    new_bench: Callable[..., Bench],
    server: RedisServer,
    damage: Callable[[str], None],
    clock: ManualClock,
) -> None:
    """Those whose time is over go."""
    bench = new_bench(server.url, clock=clock)
    ids = bench.send_many(3)
    bench.settle(*map(done, bench.worker().fetch(3, 0)))
    damage(ids[1])
    clock.advance(bench.engine.settings.result_ttl)

    bench.engine.jobs.prune()

    assert bench.engine.jobs.get(ids[0]) is bench.engine.jobs.get(ids[2]) is None


def test_a_damaged_record_is_told_of_by_name(
    bench: Bench, damage: Callable[[str], None], request: pytest.FixtureRequest
) -> None:
    """The caller gets an error of this package, or as much as can be read."""
    job_id = bench.send()
    damage(job_id)

    for ask in (bench.engine.jobs.get, bench.engine.jobs.cancel):
        try:
            record = ask(job_id)
        except DecodeError as error:
            assert job_id in str(error)
        else:
            assert record is None or record.id == job_id


def test_a_job_whose_log_is_something_else_ends_without_lines(
    server: RedisServer, bench: Bench
) -> None:
    """Its outcome is stored, and those of its neighbours."""
    one, other = bench.running(), bench.running()
    line = LogLine(at=1, level="info", text="half way", attempt=1)
    with server.connect() as client:
        client.set(f"{{taskq}}:log:{one.id}", "x")

    bench.worker().report_if_held([Report(delivery=one, logs=(line,))])
    assert None not in bench.settle(done(one, logs=(line,)), done(other, logs=(line,))).outcomes

    assert bench.record(one.id).logs == ()
    assert bench.record(other.id).logs == (line,)


def test_holders_of_a_worker_that_an_older_release_has_reaped_are_forgotten(
    server: RedisServer, bench: Bench
) -> None:
    """It knew nothing of them, and has left them behind."""
    workers = bench.engine.workers
    workers.register("w1", WorkerInfo(host="here", processes=((1, 2),)))
    with server.connect() as client:
        client.hdel("{taskq}:leases", "w1")

        assert workers.list_on("here") == {}
        assert not client.exists("{taskq}:holders")
