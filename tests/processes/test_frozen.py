"""Processes that stand still while their lease runs."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flask_taskq import Status
from flask_taskq import TaskQ

from . import app as jobs
from .harness import is_stopped
from .harness import LEASE
from .harness import PATIENCE
from .harness import processes_of_session
from .harness import Recorder
from .harness import WorkerCommand
from .test_killed_child import assert_all_succeeded

START = Callable[..., WorkerCommand]


@pytest.fixture
def env(env: dict[str, str]) -> dict[str, str]:
    """Workers with a short lease."""
    return {**env, "FLASK_TASKQ_LEASE": str(int(LEASE * 1000))}


def freeze_outside_of_transactions(worker: WorkerCommand, database: Path) -> None:
    """A process that is frozen while it writes holds SQLite's lock until it continues."""
    locker = sqlite3.connect(database, isolation_level=None, timeout=60)
    locker.execute("BEGIN IMMEDIATE")
    worker.signal_all(signal.SIGSTOP)
    while not all(map(is_stopped, processes_of_session(worker.process.pid))):
        pass
    locker.execute("ROLLBACK")
    locker.close()


def test_a_worker_that_was_frozen_cannot_overwrite_the_newer_run(
    taskq: TaskQ, start_worker: START, recorder: Recorder, folder: Path
) -> None:
    """After twice the lease the job runs elsewhere; the late settlement is refused."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    # Both ends are held, so that nobody waits for another one to open the other end.
    writer = os.open(fifo, os.O_RDWR)
    frozen = start_worker("-p", "1", "-t", "2")
    frozen.wait_until_ready(1)
    job = jobs.wait_for_line.send(str(fifo))
    recorder.wait_for("start", 1)
    freeze_outside_of_transactions(frozen, folder / "taskq.sqlite3")
    frozen_until = time.monotonic() + 2 * LEASE
    other = start_worker("-p", "1", "-t", "2")
    recorder.wait_for("start", 2)  # the second run begins when the lease is over
    os.write(writer, b"second\n")
    assert job.get_result(block=True, timeout=PATIENCE)
    before = job.refresh().record
    threading.Event().wait(frozen_until - time.monotonic())  # the time is the subject
    os.write(writer, b"first\n")
    frozen.signal_all(signal.SIGCONT)
    frozen.wait_for_log("the settlement came too late and was refused")
    assert job.refresh().record == before
    assert recorder.runs()[job.id] == 2
    assert before.attempt == 1
    assert other.process.poll() is None
    # It is a worker like any other again.
    other.signal(signal.SIGTERM)
    other.wait()
    after = jobs.work.send(1)
    assert_all_succeeded(taskq, [after.id])
    os.close(writer)


def test_a_child_that_is_stopped_alone_keeps_its_jobs(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Its supervisor renews its lease: nobody else runs the job."""
    worker = start_worker("-p", "1")
    [child] = worker.wait_until_ready(1)
    start_worker("-p", "1").wait_until_ready(1)
    job = jobs.work.send(1_000)
    [started] = recorder.wait_for("start", 1)
    stopped = started["pid"]
    os.kill(stopped, signal.SIGSTOP)
    threading.Event().wait(2 * LEASE)  # the time is the subject
    os.kill(stopped, signal.SIGCONT)
    assert_all_succeeded(taskq, [job.id])
    assert recorder.runs()[job.id] == 1
    assert child


def test_a_job_that_holds_the_gil_for_twice_the_lease_runs_once(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """No thread of the child can renew the lease meanwhile; the supervisor does."""
    start_worker("-p", "1").wait_until_ready(1)
    start_worker("-p", "1").wait_until_ready(1)
    job = jobs.hold_gil.send(int(2 * LEASE * 1000))
    recorder.wait_for("end", 1)
    assert job.get_result(block=True, timeout=PATIENCE) is None
    assert recorder.runs()[job.id] == 1
    assert job.refresh().status is Status.SUCCEEDED
