"""The thread that moves records of jobs that have ended."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines.memory import MemoryEngine
from flask_taskq.engines.split import SplitEngine
from flask_taskq.errors import ConnectionFailed
from flask_taskq.worker import mover as module
from flask_taskq.worker.mover import Mover
from flask_taskq.worker.mover import start_mover
from tests.support.bench import Bench
from tests.support.bench import done

#: A net under what the thread is waited for with, in seconds.
NET = 20


@pytest.fixture
def engine() -> SplitEngine:
    settings = Settings(broker_url="memory://", result_ttl=60_000)
    return SplitEngine(MemoryEngine(settings, Clock()), MemoryEngine(settings, Clock()))


class Calls:
    """Counts the calls of a method, and lets a test wait for so many."""

    def __init__(self, owner: Any, name: str) -> None:
        self._inner: Callable[..., Any] = getattr(owner, name)
        self._changed = threading.Condition()
        self.count = 0
        self.error: Exception | None = None
        setattr(owner, name, self)

    def __call__(self, *args: Any) -> Any:
        try:
            if self.error is not None:
                raise self.error
            return self._inner(*args)
        finally:
            with self._changed:
                self.count += 1
                self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, NET)


@pytest.fixture
def mover(engine: SplitEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mover]:
    """One that is not started, and ends with the test. It looks often."""
    monkeypatch.setattr(module, "_MOVE", 0.01)
    mover = Mover(engine, Clock())
    yield mover
    mover.end()
    if mover._thread.ident is not None:
        mover._thread.join(NET)


@pytest.fixture
def finish(engine: SplitEngine) -> Callable[[], str]:
    """Ends a new job, and returns its id."""
    bench = Bench(engine)

    def finish() -> str:
        delivery = bench.running()
        bench.settle(done(delivery))
        return delivery.id

    return finish


def test_records_of_jobs_that_have_ended_move(
    engine: SplitEngine, mover: Mover, finish: Callable[[], str]
) -> None:
    """Those that are there, and those that come."""
    moves = Calls(engine, "move")
    ids = [finish()]
    mover.start()
    moves.wait_for(1)
    ids.append(finish())
    moves.wait_for(moves.count + 2)

    assert [engine.broker.jobs.get(job_id) for job_id in ids] == [None, None]
    assert all(engine.results.jobs.get(job_id) for job_id in ids)


def test_trouble_is_told_once_and_its_end_once(
    engine: SplitEngine,
    mover: Mover,
    finish: Callable[[], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However often it is tried, and whatever else goes wrong meanwhile."""
    adopting = Calls(engine.results.jobs, "adopt")
    adopting.error = ConnectionFailed("redis://host cannot be reached")
    job_id = finish()
    with caplog.at_level(logging.INFO):
        mover.start()
        adopting.wait_for(2)
        adopting.error = ConnectionFailed("redis://host does not answer any more")
        adopting.wait_for(adopting.count + 2)
        assert engine.broker.jobs.get(job_id) is not None
        moves = Calls(engine, "move")
        adopting.error = None
        moves.wait_for(3)

    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "stay in the broker" in caplog.messages[0]
    assert "cannot be reached" in caplog.messages[0]
    assert engine.results.jobs.get(job_id) is not None


def test_what_has_moved_is_removed_when_it_has_expired(
    engine: SplitEngine, mover: Mover
) -> None:
    """The lease keeper does that in the broker alone."""
    pruning = Calls(engine.results.jobs, "prune")
    mover.start()
    pruning.wait_for(1)


def test_it_closes_its_engine_at_its_end(engine: SplitEngine, mover: Mover) -> None:
    """In the thread that has used it."""
    closing = Calls(engine, "close")
    mover.start()
    mover.end()
    closing.wait_for(1)


def test_there_is_none_where_records_stay() -> None:
    """Most apps need no such thread."""
    settings = Settings(broker_url="sqlite:////tmp/jobs.sqlite3")
    assert start_mover(settings, Clock()) is None
