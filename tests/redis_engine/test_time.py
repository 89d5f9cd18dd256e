"""Machines whose clocks differ: they go by the server's."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator

import pytest

from flask_taskq import current_job
from flask_taskq import middleware
from flask_taskq.actors.broker import Broker
from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from flask_taskq.errors import LeaseLost
from flask_taskq.errors import Retry
from flask_taskq.jobs.record import Lane
from flask_taskq.jobs.record import Status
from flask_taskq.testing.clock import ManualClock
from tests.support.apps import declare
from tests.support.apps import Line
from tests.support.bench import Bench
from tests.support.bench import done
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


def test_a_delay_does_not_depend_on_the_senders_clock(wrong: Bench, bench: Bench) -> None:
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


def test_a_backoff_does_not_depend_on_the_workers_clock(wrong: Bench, bench: Bench) -> None:
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
        short._consumers["w1", ("default",), Lane.ORDINARY].fetch(1, 0)


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


# The server's clock


class ServerClock(ManualClock):
    """Time of a test on a machine whose server has another one, which may be set.

    :param pace: how many milliseconds pass by with each reading, as on a slow line.
    """

    set_by = 0
    pace = 0

    def server_time(self, time: int) -> int:
        return super().server_time(time) + self.set_by

    def monotonic(self) -> float:
        self.advance(self.pace)
        return super().monotonic()


@pytest.fixture
def server_clock() -> ServerClock:
    return ServerClock()


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_a_step_of_the_servers_clock_takes_no_live_worker_for_dead(
    server: RedisServer, new_bench: NEW_BENCH, server_clock: ServerClock, step: int
) -> None:
    """Nor does it keep a dead one: that is noticed one lease after its last renewal."""
    mine, other = (new_bench(server.url, clock=server_clock) for _ in range(2))
    lease = mine.engine.settings.lease
    delivery = mine.running("w1")
    due = other.send(id="f" * 32, delay=2 * HOUR)
    for number in range(20):
        if number == 10:
            server_clock.set_by = step
        server_clock.advance(lease // 5)
        assert mine.engine.workers.renew(["w1"]) == []
        assert other.engine.workers.reap() == mine.engine.workers.reap() == []
        assert mine.worker("w2").fetch(1, 0) == []
    assert mine.engine.workers.renew(["w1"]) == []
    assert other.engine.workers.reap() == []

    server_clock.advance(lease - 1)
    assert other.engine.workers.reap() == []
    server_clock.advance(1)
    assert "w1" in other.engine.workers.reap()
    assert other.status(delivery.id) is Status.QUEUED
    assert other.status(due) is Status.SCHEDULED


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_what_a_reaper_left_is_taken_though_the_servers_clock_is_set(
    server: RedisServer, new_bench: NEW_BENCH, server_clock: ServerClock, step: int
) -> None:
    """A supervisor that died while it took jobs keeps them from nobody."""
    bench = new_bench(server.url, clock=server_clock)
    delivery = bench.running("w1")
    with server.connect() as client:
        # As far as it had come.
        client.hdel("{taskq}:leases", "w1")
        client.rename("{taskq}:own:w1", "{taskq}:lost:x:w1")
        client.zadd("{taskq}:lost", {"x:w1": server_clock.now()})
    assert bench.engine.workers.reap() == []
    server_clock.set_by = step

    for _ in range(12):
        assert bench.status(delivery.id) is Status.RUNNING
        server_clock.advance(1_000)
        bench.engine.workers.reap()
        if bench.status(delivery.id) is Status.QUEUED:
            break

    assert bench.claim_all("w2") == [delivery.id]


def test_a_worker_that_a_reaper_sees_first_has_a_whole_lease(
    server: RedisServer, new_bench: NEW_BENCH, server_clock: ServerClock
) -> None:
    """A new process cannot know for how long it has been unchanged."""
    bench = new_bench(server.url, clock=server_clock)
    lease = bench.engine.settings.lease
    bench.running("w1")
    server_clock.advance(10 * lease)
    other = new_bench(server.url, clock=server_clock)

    assert other.engine.workers.reap() == []
    server_clock.advance(lease - 1)
    assert other.engine.workers.reap() == []
    server_clock.advance(1)
    assert other.engine.workers.reap() == ["w1"]


def test_a_lease_that_is_renewed_while_it_is_judged_holds(
    server: RedisServer, new_bench: NEW_BENCH, server_clock: ServerClock
) -> None:
    """What the reaper has seen counts for nothing when the worker was faster."""
    mine, other = (new_bench(server.url, clock=server_clock) for _ in range(2))
    delivery = mine.running("w1")
    assert other.engine.workers.reap() == []
    server_clock.advance(mine.engine.settings.lease)

    assert mine.engine.workers.renew(["w1"]) == []

    assert other.engine.workers.reap() == []
    assert None not in mine.settle(done(delivery)).outcomes


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_a_server_whose_clock_was_set_is_believed_over_a_slow_line(
    server: RedisServer, new_bench: NEW_BENCH, server_clock: ServerClock, step: int
) -> None:
    """A difference that no line explains is none of the line."""
    bench = new_bench(server.url, clock=server_clock)
    bench.send()
    server_clock.pace, server_clock.set_by = 40, step
    server_clock.advance(10_001)

    bench.send()

    assert abs(bench.engine.now() - server_clock.now() - step) <= 3 * server_clock.pace


def test_a_slow_answer_does_not_move_the_time(
    server: RedisServer, new_bench: NEW_BENCH, server_clock: ServerClock
) -> None:
    """What was measured more exactly stays."""
    bench = new_bench(server.url, clock=server_clock)
    bench.send()
    server_clock.pace = 40
    server_clock.advance(10_001)
    bench.send()
    server_clock.pace = 0

    assert bench.engine.now() == server_clock.now()


# What users say


def make_line(server: RedisServer, clock: Clock) -> Line:
    """A broker and a runner of a machine with this clock."""
    settings = Settings(broker_url=server.url)
    habits = [habit() for habit in middleware.DEFAULT]
    return Line(Broker(make_engine(settings, clock), settings, clock, habits))


@pytest.fixture(params=[-HOUR, HOUR])
def wrong_line(request: pytest.FixtureRequest, server: RedisServer) -> Iterator[Line]:
    line = make_line(server, WrongClock(request.param))
    yield line
    line.broker.close()


@pytest.fixture
def right_line(server: RedisServer) -> Iterator[Line]:
    line = make_line(server, Clock())
    yield line
    line.broker.close()


@pytest.mark.needs("AgeLimit")
@pytest.mark.parametrize("sent_by", ["wrong", "right"])
def test_a_job_ages_by_the_servers_clock(
    wrong_line: Line, right_line: Line, sent_by: str
) -> None:
    """Whether its sender has a wrong clock, or the worker that runs it."""
    lines = {"wrong": wrong_line, "right": right_line}
    sender = lines.pop(sent_by)
    [worker] = lines.values()
    options = {"max_age": 60_000, "expires": Clock().now() + 60_000}
    for line in (sender, worker):
        declare(line.broker, lambda: None, actor_name="work", **options)
    job = sender.broker.actors["work"].send()
    stale = sender.broker.actors["work"].send_with_options(expires=Clock().now() - 1_000)

    assert worker.run_next().delivery.id == job.id
    assert worker.run_next().delivery.id == stale.id

    assert job.refresh().status is Status.SUCCEEDED
    assert stale.refresh().status is Status.EXPIRED


def test_a_moment_is_one_of_the_servers_clock(wrong_line: Line, right_line: Line) -> None:
    """A job with an ``eta`` runs at that time, whatever time it is for its sender."""
    for line in (wrong_line, right_line):
        declare(line.broker, lambda: None, actor_name="work")
    send = wrong_line.broker.actors["work"].send_with_options
    now = right_line.broker.clock.now()
    later, over = send(eta=now + 240_000), send(eta=now - 1_000)

    assert later.refresh().record.scheduled_for == now + 240_000
    assert over.refresh().status is Status.QUEUED
    assert right_line.run_next().delivery.id == over.id


def test_the_times_of_a_record_are_the_servers(wrong_line: Line, right_line: Line) -> None:
    """Also of what the run tells, and of the record that the sender gets."""

    def work() -> None:
        current_job.log("a line")
        current_job.progress(1)

    def fail() -> None:
        current_job.log("a line")
        raise Retry(delay=1_000)

    before = right_line.broker.clock.now() - 60_000
    jobs = []
    for function in (work, fail):
        declare(wrong_line.broker, function)
        jobs.append(wrong_line.broker.actors[function.__name__].send())
        wrong_line.run_next()
    after = right_line.broker.clock.now() + 60_000

    for job in jobs:
        sent, record = job.record, job.refresh().record
        times = [sent.created_at, sent.updated_at, record.created_at, record.updated_at]
        times += [record.started_at, record.scheduled_for or record.finished_at]
        times += [line.at for line in record.logs]
        times += [record.progress.updated_at] if record.progress else []
        assert len(record.logs) == 1
        assert all(before <= one <= after for one in times), times
        assert sent.created_at == record.created_at
