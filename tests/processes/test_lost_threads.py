"""A process that has lost a thread does not go on in silence with fewer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_taskq import TaskQ

from . import app as jobs
from .harness import Recorder
from .harness import WorkerCommand
from .test_killed_child import assert_all_succeeded
from .test_killed_child import send_work

START = Callable[..., WorkerCommand]


@pytest.mark.parametrize("name", ["taskq-runner", "taskq-settler", "taskq-fetcher"])
def test_a_process_that_has_lost_a_thread_is_replaced(
    taskq: TaskQ, start_worker: START, recorder: Recorder, name: str
) -> None:
    """Its jobs run in the next one."""
    worker = start_worker("-p", "1", "-t", "2")
    worker.wait_until_ready(1)
    jobs.lose_thread.send(name)
    recorder.wait_for("lost", 1)
    ids = send_work(taskq, 8, 100)
    worker.wait_for_log("has lost a thread: ending the process")
    worker.wait_until_ready(2)
    assert_all_succeeded(taskq, ids)


def test_a_process_whose_log_has_lost_its_thread_is_replaced(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """It goes on until another one is ready, and so does its log."""
    worker = start_worker("-p", "1", "-t", "2")
    worker.wait_until_ready(1)
    # The first line starts the thread.
    worker.wait_for_log(f"job {jobs.work.send(0).id} succeeded")
    jobs.lose_thread.send("taskq-log")
    recorder.wait_for("lost", 1)
    ids = send_work(taskq, 8, 100)
    worker.wait_for_log("is to be replaced: a thread that writes its log has died")
    worker.wait_until_ready(2)
    assert_all_succeeded(taskq, ids)
    for job_id in ids:
        worker.wait_for_log(f"job {job_id} succeeded")
    assert set(recorder.runs().values()) == {1}
