"""A host vanishes, and a worker on another one takes its jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from flask_taskq import TaskQ
from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from tests.support.machine_time import machine_seconds

from .harness import NET
from .harness import ON_EVERY_ENGINE
from .harness import Recorder
from .harness import WorkerCommand
from .test_killed_child import send_work

START = Callable[..., WorkerCommand]


@ON_EVERY_ENGINE
@pytest.mark.parametrize("lease", [1.0, 2.0])
def test_the_jobs_of_a_lost_host_run_again_soon_after_its_lease(
    taskq: TaskQ,
    start_worker: START,
    recorder: Recorder,
    broker_url: str,
    lease: float,
) -> None:
    """Never before the lease's end, and within a fifth of it and a second."""
    never = threading.Event()
    settings = Settings(broker_url=broker_url, lease=int(lease * 1_000))
    with make_engine(settings, Clock()) as lost:
        lost.workers.register("lost")
        [job_id] = send_work(taskq, 1, 1)
        [delivery] = lost.consumer(["default"], "lost").fetch(1, 0)
        assert delivery.id == job_id
        worker = start_worker("-p", "1", FLASK_TASKQ_LEASE=str(settings.lease))
        # It is seen alive first: a host that has only just started knows of no renewal.
        ready_at = began = time.monotonic()
        while time.monotonic() < ready_at + 2 * lease:
            if not worker.ready_at:
                ready_at = time.monotonic()
                assert worker.process.poll() is None and ready_at < began + NET, worker.log
            assert lost.workers.renew(["lost"]) == []
            never.wait(lease / 5)
        before = time.monotonic()
        lost.workers.renew(["lost"])
        after = time.monotonic()
        [started] = recorder.wait_for("start", 1)

    assert started["at"] - before >= lease
    assert machine_seconds(after, started["at"]) <= lease + lease / 5 + 1
