"""How often the SQLite engine looks at its file while it waits for jobs."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines.base import Consumer
from flask_taskq.engines.sqlite import SQLiteEngine
from flask_taskq.jobs.delivery import Delivery
from tests.support.bench import Bench
from tests.support.bench import done

#: Less than the time after which everything is looked at again, in milliseconds.
A_WHILE = 900

#: How many looks that is: one after each 100 ms, and some when it begins and ends.
FEW = 14

#: A net, in milliseconds: who falls into it has hung.
NET = 60_000


class Looks:
    """How often the connections of this process have asked whether the file has changed."""

    def __init__(self) -> None:
        self.count = 0
        #: Called with each of them, before SQLite answers.
        self.then: Callable[[], Any] = lambda: None

    def trace(self, statement: str) -> None:
        if statement == "PRAGMA data_version":
            self.count += 1
            self.then()

    def during(self, wait: Callable[[], Any]) -> int:
        before = self.count
        assert wait() == []
        return self.count - before


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    found = Looks()
    connect = sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.set_trace_callback(found.trace)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


@pytest.fixture
def bench(path: Path, looks: Looks) -> Iterator[Bench]:
    bench = Bench(SQLiteEngine(Settings(broker_url=f"sqlite:///{path}"), Clock()))
    yield bench
    bench.close()


def fetch_while(action: Callable[[], Any], consumer: Consumer, looks: Looks) -> list[Delivery]:
    """Fetch, and do something once while the consumer waits."""
    waits = looks.count + 2  # the first look is before the wait

    def act() -> None:
        if looks.count == waits:
            action()

    looks.then = act
    deliveries = consumer.fetch(1, NET)
    looks.then = lambda: None
    return deliveries


def send_from_elsewhere(path: Path, *, rings: bool) -> None:
    """Send as another process does, in a thread of its own.

    :param rings: whether its ring comes through.
    """

    def send() -> None:
        other = SQLiteEngine(Settings(broker_url=f"sqlite:///{path}"), Clock())
        if not rings:
            other._store.wakeup.notify = lambda: None  # type: ignore[method-assign]
        bench = Bench(other)
        bench.send(id="f" * 32)
        bench.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(send).result()


def test_after_a_job_that_rang_the_file_is_looked_at_every_100_ms(
    bench: Bench, looks: Looks
) -> None:
    """A job does not make the worker busy after its end."""
    consumer = bench.worker()
    consumer.fetch(1, 1)  # it listens
    bench.send()
    [delivery] = consumer.fetch(1, NET)
    bench.settle(done(delivery), then_fetch=1)

    assert 3 <= looks.during(lambda: consumer.fetch(1, A_WHILE)) <= FEW


def test_a_job_that_settling_brought_makes_nobody_look_more_often(
    bench: Bench, looks: Looks
) -> None:
    """It may have rung, too: settling is faster than the ring."""
    consumer = bench.worker()
    delivery = bench.running()
    bench.send()
    [delivery] = bench.settle(done(delivery), then_fetch=1).deliveries
    bench.settle(done(delivery), then_fetch=1)
    consumer.fetch(1, 1)

    assert looks.during(lambda: consumer.fetch(1, A_WHILE)) <= FEW


def test_a_job_that_did_not_ring_is_found_by_the_next_look(
    bench: Bench, looks: Looks, path: Path
) -> None:
    """As from another mount namespace, where the folder of the sockets is another one."""
    consumer = bench.worker()
    before = looks.count

    deliveries = fetch_while(lambda: send_from_elsewhere(path, rings=False), consumer, looks)

    assert [delivery.id for delivery in deliveries] == ["f" * 32]
    # Before the wait, that which saw the change, and the one that reads what there is.
    assert looks.count - before == 3


def test_after_a_job_that_did_not_ring_the_file_is_looked_at_more_often(
    bench: Bench, looks: Looks, path: Path
) -> None:
    """The next one from there is found faster than after 100 ms."""
    consumer = bench.worker()
    [delivery] = fetch_while(lambda: send_from_elsewhere(path, rings=False), consumer, looks)
    bench.settle(done(delivery))

    assert looks.during(lambda: consumer.fetch(1, A_WHILE)) > FEW


def test_jobs_are_found_without_the_folder_of_the_sockets(
    bench: Bench, looks: Looks, path: Path
) -> None:
    """Somebody has removed it, and the sender cannot know who listens."""
    consumer = bench.worker()
    consumer.fetch(1, 1)
    shutil.rmtree(f"{path}.taskq")

    sent: list[str] = []
    deliveries = fetch_while(lambda: sent.append(bench.send()), consumer, looks)

    assert [delivery.id for delivery in deliveries] == sent


def test_a_ring_ends_looking_more_often(bench: Bench, looks: Looks, path: Path) -> None:
    """A job that came with a wake-up changes no interval."""
    consumer = bench.worker()
    [delivery] = fetch_while(lambda: send_from_elsewhere(path, rings=False), consumer, looks)
    bench.settle(done(delivery))
    bench.send()
    [delivery] = consumer.fetch(1, NET)
    bench.settle(done(delivery))
    consumer.fetch(1, 1)

    assert looks.during(lambda: consumer.fetch(1, A_WHILE)) <= FEW


def test_the_work_of_others_makes_nobody_look_more_often(bench: Bench, looks: Looks) -> None:
    """A change without a ring is not yet a job without a ring."""
    delivery = bench.running("other")
    consumer = bench.worker("w2")

    def settle() -> None:
        bench.settle(done(delivery), name="other")
        consumer.interrupt()

    assert fetch_while(settle, consumer, looks) == []
    assert looks.during(lambda: consumer.fetch(1, A_WHILE)) <= FEW
