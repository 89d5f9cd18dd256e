"""Jobs that make processes of their own."""

from __future__ import annotations

from collections.abc import Callable

from flask_taskq import TaskQ

from . import app as jobs
from .harness import ON_EVERY_ENGINE
from .harness import PATIENCE
from .harness import Recorder
from .harness import WorkerCommand

pytestmark = ON_EVERY_ENGINE

START = Callable[..., WorkerCommand]


def test_a_process_that_a_job_forks_can_send_jobs(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """It has neither the threads nor the connections of its parent."""
    start_worker("-p", "1").wait_until_ready(1)
    job = jobs.send_from_a_fork.send()
    assert job.get_result(block=True, timeout=PATIENCE) == 0
    [work] = recorder.wait_for("end", 1)
    assert work["job"] != job.id


def test_a_process_that_a_job_forks_can_be_terminated(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Unlike its parent it does not leave SIGTERM to a supervisor."""
    start_worker("-p", "1").wait_until_ready(1)
    job = jobs.terminate_a_fork.send()
    assert job.get_result(block=True, timeout=PATIENCE) == -15
