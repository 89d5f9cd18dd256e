"""How the supervisor's side of leases ends."""

import threading

import pytest

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from flask_taskq.errors import BrokerError
from flask_taskq.worker.processes.housekeeping import Housekeeper


@pytest.fixture
def engine():
    return make_engine(Settings(broker_url="memory://"), Clock())


@pytest.fixture
def housekeeper(engine):
    housekeeper = Housekeeper(engine, Clock(), ["default"], lambda: None, lambda *overdue: None)
    housekeeper.start()
    yield housekeeper
    housekeeper.end()
    housekeeper.join(10_000)


def test_it_closes_its_engine_at_its_end(engine, housekeeper, monkeypatch):
    """In the thread that has used it."""
    closed = []
    monkeypatch.setattr(engine, "close", lambda: closed.append(threading.current_thread()))
    housekeeper.end()
    housekeeper.join(10_000)
    assert [thread.name for thread in closed] == ["taskq-leases"]


def test_it_does_not_end_before_jobs_of_the_dead_are_handed_back(
    engine, housekeeper, monkeypatch
):
    """Also when the engine cannot be reached just then."""
    tried = []
    closed = threading.Event()

    def hand_back(worker, started, cause):
        tried.append(worker)
        if len(tried) == 1:
            raise BrokerError("gone")
        return []

    monkeypatch.setattr(engine.workers, "hand_back", hand_back)
    monkeypatch.setattr(engine, "close", closed.set)
    housekeeper.hand_back("w1", ["0" * 32], "killed by signal 9")
    housekeeper.end()
    assert closed.wait(10)
    assert tried == ["w1", "w1"]
