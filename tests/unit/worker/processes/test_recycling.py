"""When a process is worn."""

from types import SimpleNamespace

import pytest

from flask_taskq.testing import ManualClock
from flask_taskq.worker.processes.recycling import measure_memory
from flask_taskq.worker.processes.recycling import RecyclePolicy

MB = 1 << 20


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def worker():
    """What is looked at of a worker."""
    return SimpleNamespace(finished=0, is_idle=True)


def test_without_limits_nothing_is_ever_worn(worker, clock):
    """And nobody has to look."""
    wear = RecyclePolicy(worker, None, None, clock)
    worker.finished = 10**9
    assert not wear.has_limits
    assert wear.look() is None


def test_it_is_said_once_that_enough_jobs_were_run(worker, clock):
    """With how many."""
    wear = RecyclePolicy(worker, 5, None, clock)
    assert wear.has_limits
    worker.finished = 4
    assert wear.look() is None
    worker.finished = 7
    worn = wear.look()
    assert (worn.reason, worn.urgent, worn.soon) == ("it has run 7 jobs", False, False)
    assert wear.look() is None


def test_processes_last_up_to_a_tenth_longer(worker, clock):
    """At random, so that they are not all replaced at the same time."""
    limits = set()
    for _ in range(300):
        wear = RecyclePolicy(worker, 100, None, clock)
        worker.finished = 0
        while wear.look() is None:
            worker.finished += 1
        limits.add(worker.finished)
    assert min(limits) >= 100
    assert max(limits) <= 110
    assert len(limits) > 5


def test_memory_is_what_is_resident(worker, clock):
    """It grows with what is written to, and not with what is set aside."""
    before = measure_memory()
    held = b"x" * (64 * MB)
    assert measure_memory() - before == pytest.approx(len(held), rel=0.1)


def test_a_process_that_grows_is_worn(worker, clock):
    """The size is in the log."""
    wear = RecyclePolicy(worker, None, measure_memory() + 32 * MB, clock)
    worker.finished = 1
    clock.advance(5_000)
    assert wear.look() is None
    held = b"x" * (64 * MB)
    worn = wear.look()
    assert held
    assert not worn.soon
    assert "bytes of memory" in worn.reason


def test_a_job_that_is_running_counts(worker, clock):
    """It may be the one that never ends."""
    wear = RecyclePolicy(worker, None, measure_memory() + 32 * MB, clock)
    worker.is_idle = False
    held = b"x" * (64 * MB)
    worn = wear.look()
    assert held
    assert worn.soon


def test_an_app_that_is_larger_than_the_limit_is_told_so(worker, clock, caplog):
    """Another process would be as large: it is replaced late, and not before it has worked."""
    wear = RecyclePolicy(worker, None, 1 * MB, clock)
    assert "the app alone takes" in caplog.text
    clock.advance(3_600_000)
    assert wear.look() is None
    worker.finished = 1
    assert wear.look().soon
    assert wear.look() is None
