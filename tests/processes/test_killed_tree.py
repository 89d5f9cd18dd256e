"""A whole worker dies, or its supervisor alone."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from flask_taskq import Status
from flask_taskq import TaskQ
from tests.support.machine_time import machine_seconds

from . import app as jobs
from .harness import LEASE
from .harness import Recorder
from .harness import WorkerCommand
from .test_killed_child import assert_all_succeeded
from .test_killed_child import send_work

START = Callable[..., WorkerCommand]


@pytest.fixture
def env(env: dict[str, str]) -> dict[str, str]:
    """Workers with a short lease."""
    return {**env, "FLASK_TASKQ_LEASE": str(int(LEASE * 1000))}


def test_another_worker_runs_the_jobs_when_the_lease_is_over(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Every job is done within the lease and five seconds."""
    doomed = start_worker("-p", "2", apart=True)
    other = start_worker("-p", "1")
    doomed.wait_until_ready(2)
    other.wait_until_ready(1)
    ids = send_work(taskq, 200, 20)
    recorder.wait_for("end", 50)
    killed_at = time.monotonic()
    doomed.signal_all(signal.SIGKILL)
    assert_all_succeeded(taskq, ids)
    assert machine_seconds(killed_at) < LEASE + 5
    runs = recorder.runs()
    assert set(runs) == set(ids)
    assert max(runs.values()) <= 2
    assert {taskq.job(job_id).record.crashes for job_id in ids} == {0}


def test_children_finish_their_jobs_and_end_when_the_supervisor_dies(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Orphans outlive their lease for a running job, take no new one, and leave."""
    worker = start_worker("-p", "2", "--grace", "20000")
    worker.wait_until_ready(2)
    [running] = send_work(taskq, 1, int(LEASE * 2 * 1000))
    recorder.wait_for("start", 1)
    worker.signal(signal.SIGKILL)
    worker.wait_for_log("the supervisor is gone", 2)
    [late] = send_work(taskq, 1, 1)
    assert_all_succeeded(taskq, [running])
    assert recorder.runs()[running] == 1
    worker.wait_until_gone()
    assert taskq.job(late).status is Status.QUEUED
    assert recorder.runs()[late] == 0


def test_what_an_orphan_cannot_finish_is_given_back(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """When the grace time is over an orphan gives its job back, uncharged."""
    worker = start_worker("-p", "1", "--grace", "500")
    worker.wait_until_ready(1)
    running = jobs.work.send(60_000)
    recorder.wait_for("start", 1)
    worker.signal(signal.SIGKILL)
    worker.wait_until_gone()
    record = running.refresh().record
    assert (record.status, record.attempt, record.crashes) == (Status.QUEUED, 0, 0)
