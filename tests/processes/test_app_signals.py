"""What the app of a real worker hears of its processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from flask_taskq import TaskQ

from . import app as jobs
from .harness import Recorder
from .harness import WorkerCommand

START = Callable[..., WorkerCommand]


@pytest.mark.parametrize("processes", [1, 2])
def test_the_app_hears_of_a_child_that_died(
    processes: int, taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Once, in a process that lives, with the signal and the jobs that were hit."""
    worker = start_worker("-p", str(processes), "-t", "1")
    worker.wait_until_ready(processes)
    job = jobs.work.send(60_000)
    [run] = recorder.wait_for("start")
    boots = {one["pid"]: one["worker_id"] for one in recorder.of("worker-started")}
    os.kill(run["pid"], signal.SIGKILL)
    [death] = recorder.wait_for("child-died")
    assert death["worker_id"] == boots[run["pid"]]
    assert death["exit_code"] == -signal.SIGKILL
    assert death["job_ids"] == [job.id]
    assert death["pid"] != run["pid"]
    worker.wait_until_ready(processes + 1)
    assert len(recorder.of("child-died")) == 1


def test_a_child_that_was_told_to_end_has_not_died(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """It says that it stops, and nobody is told of a death."""
    worker = start_worker("-p", "2")
    worker.wait_until_ready(2)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    started = {one["worker_id"] for one in recorder.wait_for("worker-started", 2)}
    assert {one["worker_id"] for one in recorder.wait_for("worker-stopping", 2)} == started
    assert recorder.of("child-died") == []
