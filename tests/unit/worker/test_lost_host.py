"""How soon a supervisor notices that a host is gone, whatever the lease is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from flask_taskq.engines.base import Engine
from flask_taskq.jobs.record import Status
from flask_taskq.testing.clock import ManualClock
from flask_taskq.worker.processes.housekeeping import Housekeeper
from tests.support.bench import Bench
from tests.support.engines import ENGINES

#: A net under the wait for the thread, in seconds.
NET = 60.0


class PacedClock(ManualClock):
    """Moves on when the thread that lives by it has done what was due."""

    def __init__(self) -> None:
        super().__init__()
        self._is_idle = threading.Semaphore(0)
        self._condition = threading.Condition()

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        self._condition = condition
        self._is_idle.release()
        return super().wait(condition, timeout)

    def go_on(self, milliseconds: int) -> None:
        """Let that thread end what it does, and time pass then."""
        assert self._is_idle.acquire(timeout=NET)
        with self._condition:
            pass  # it sleeps now
        self.advance(milliseconds)


@pytest.fixture
def clock() -> PacedClock:
    return PacedClock()


@pytest.fixture(params=ENGINES)
def engines(
    request: pytest.FixtureRequest, tmp_path: Path, clock: PacedClock, lease: int
) -> Iterator[tuple[Engine, Engine]]:
    """The engine of the host that is lost, and that of the supervisor on another one."""
    settings = Settings(broker_url=ENGINES[request.param](tmp_path), lease=lease)
    lost = make_engine(settings, clock)
    lost.connect()
    other = lost if request.param == "memory" else make_engine(settings, clock)
    yield lost, other
    lost.close()


@pytest.mark.parametrize("lease", [1_000, 2_000, 5_000, 30_000, 600_000])
def test_a_lost_host_is_noticed_soon_after_its_lease(
    engines: tuple[Engine, Engine], clock: PacedClock, lease: int
) -> None:
    """Never before the lease's end, and within a fifth of it and a second, at whatever moment
    between two looks it was renewed last."""
    lost, other = Bench(engines[0]), engines[1]
    housekeeper = Housekeeper(other, clock, ["default"], lambda: None, lambda *overdue: None)
    housekeeper.start()
    step = min(lease // 20, 1_000)
    took = []
    for steps in (40, 43, 46, 49, 52):
        name = f"w{steps}"
        delivery = lost.running(name)
        for _ in range(steps):
            lost.engine.workers.renew([name])
            clock.go_on(step)
        lost.engine.workers.renew([name])
        renewed_at = clock.monotonic()
        while lost.status(delivery.id) is Status.RUNNING:
            clock.go_on(step)
        took.append(clock.monotonic() - renewed_at)
        lost.engine.jobs.cancel(delivery.id)
    housekeeper.end()
    housekeeper.join(NET * 1_000)

    assert lease <= min(took)
    assert max(took) <= lease + lease / 5 + 1_000
