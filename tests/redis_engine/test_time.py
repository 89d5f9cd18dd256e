"""Machines whose clocks differ: they go by the server's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_taskq.clock import Clock
from flask_taskq.errors import LeaseLost
from flask_taskq.record import Status
from tests.support.bench import Bench
from tests.support.bench import retry
from tests.support.redis_server import RedisServer

NEW_BENCH = Callable[..., Bench]

#: Milliseconds.
HOUR = 3_600_000
NET = 60_000


def inexactness(began: float, ended: float) -> float:
    """By how many milliseconds an engine may misjudge the server's time that it asked for in
    this time: it does not know when on the way the answer was given."""
    return 1 + (ended - began) / 2


class WrongClock(Clock):
    """A machine whose wall clock is wrong, and that was started at some time of its own."""

    def __init__(self, wrong_by: int) -> None:
        self.wrong_by = wrong_by

    def now(self) -> int:
        return super().now() + self.wrong_by

    def monotonic(self) -> float:
        return super().monotonic() + 7 * self.wrong_by


@pytest.fixture(params=[-HOUR, HOUR])
def wrong(request: pytest.FixtureRequest, server: RedisServer, new_bench: NEW_BENCH) -> Bench:
    """An engine on a machine with a wrong clock."""
    return new_bench(server.url, clock=WrongClock(request.param))


def test_a_delay_is_as_long_whoever_sends_the_job(wrong: Bench, bench: Bench) -> None:
    """The job of a machine that is ahead is not late, and that of one behind not early."""
    earliest = bench.clock.now()
    job_id = wrong.send(delay=300)
    latest = bench.clock.now()
    record = bench.record(job_id)
    assert record.status is Status.SCHEDULED
    assert record.scheduled_for is not None
    error = inexactness(earliest, latest)
    assert earliest - error <= record.scheduled_for - 300 <= latest + error

    [delivery] = bench.worker().fetch(1, NET)

    assert bench.record(delivery.id).updated_at >= record.scheduled_for


def test_a_backoff_is_as_long_whoever_ran_the_job(wrong: Bench, bench: Bench) -> None:
    """Likewise."""
    earliest = bench.clock.now()
    delivery = wrong.running()
    began = wrong.engine.now()
    wrong.settle(retry(delivery, at=began + 300, started_at=began))
    latest = bench.clock.now()

    record = bench.record(delivery.id)

    assert record.scheduled_for is not None
    error = inexactness(earliest, latest)
    assert earliest - error <= record.scheduled_for - 300 <= latest + error
    assert [one.id for one in bench.worker("w2").fetch(1, NET)] == [delivery.id]


def test_no_lease_is_over_because_a_clock_is_wrong(wrong: Bench, bench: Bench) -> None:
    """Neither that of the machine nor that of another one."""
    mine, other = wrong.running("w1"), bench.running("w2", id="f" * 32)

    assert wrong.engine.workers.reap() == bench.engine.workers.reap() == []
    assert wrong.status(other.id) is bench.status(mine.id) is Status.RUNNING


def test_a_lease_is_as_long_on_each_machine(
    wrong: Bench, server: RedisServer, new_bench: NEW_BENCH
) -> None:
    """One of a second is over for both after a second."""
    short = new_bench(server.url, lease=1_000)
    before = short.clock.monotonic()
    wrong.engine.connect()
    delivery = short.running("w1")
    after = asked = short.clock.monotonic()
    error = inexactness(before, after)
    while not wrong.engine.workers.reap():
        # When this was asked it was not over yet, however long the answer took.
        assert asked - after < 1_050 + error
        asked = short.clock.monotonic()

    assert short.clock.monotonic() - before >= 1_000 - error
    assert wrong.status(delivery.id) is Status.QUEUED
    with pytest.raises(LeaseLost):
        short._consumers["w1", ("default",), False].fetch(1, 0)


def test_a_machine_whose_clock_is_set_goes_on_as_before(server: RedisServer, new_bench) -> None:
    """Time passes on the clock that nobody sets."""
    clock = WrongClock(0)
    clock.monotonic = Clock().monotonic
    bench = new_bench(server.url, clock=clock)
    delivery = bench.running("w1")
    due = bench.send(delay=200)

    clock.wrong_by = HOUR

    assert bench.engine.workers.reap() == []
    assert bench.status(due) is Status.SCHEDULED
    assert [one.id for one in bench.worker("w2").fetch(1, NET)] == [due]
    assert bench.status(delivery.id) is Status.RUNNING
