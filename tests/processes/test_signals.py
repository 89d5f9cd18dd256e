"""How a worker ends when it is told to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flask_taskq import Status
from flask_taskq import TaskQ
from tests.support.machine_time import machine_seconds

from . import app as jobs
from .harness import processes_of_session
from .harness import Recorder
from .harness import WorkerCommand
from .test_killed_child import assert_all_succeeded
from .test_killed_child import send_work

START = Callable[..., WorkerCommand]

GRACE = 5.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_ends_it_in_order(
    number: int, taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """It exits with 0 within the grace time, no job is lost and none runs twice."""
    worker = start_worker("-p", "2")
    worker.wait_until_ready(2)
    ids = send_work(taskq, 300, 20)
    recorder.wait_for("end", 50)
    signalled_at = time.monotonic()
    worker.signal(number)
    assert worker.wait() == 0
    assert machine_seconds(signalled_at) < GRACE + 5
    assert processes_of_session(worker.process.pid) == []
    statuses = {taskq.job(job_id).status for job_id in ids}
    assert statuses == {Status.SUCCEEDED, Status.QUEUED}
    start_worker("-p", "1").wait_until_ready(1)
    assert_all_succeeded(taskq, ids)
    assert set(recorder.runs().values()) == {1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_counts_once(
    number: int, taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Ctrl-C reaches every process of the group, and running jobs still finish."""
    worker = start_worker("-p", "2")
    worker.wait_until_ready(2)
    ids = send_work(taskq, 16, 300)
    recorder.wait_for("start", 16)
    worker.signal_all(number)
    assert worker.wait() == 0
    assert {taskq.job(job_id).status for job_id in ids} == {Status.SUCCEEDED}


def test_jobs_that_outlast_the_grace_time_are_given_back(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Such a job is interrupted or left, and queued again without a charge."""
    worker = start_worker("-p", "1", "-t", "1", "--grace", "300")
    worker.wait_until_ready(1)
    first, second = jobs.work.send(60_000), jobs.work.send(1)
    recorder.wait_for("start", 1)
    signalled_at = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert machine_seconds(signalled_at) < 0.3 + 5
    for job in (first, second):
        record = job.refresh().record
        assert (record.status, record.attempt, record.crashes) == (Status.QUEUED, 0, 0)


@pytest.mark.parametrize(("second", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_it_at_once(
    second: int, code: int, taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Running jobs are released within two seconds, and the exit code tells."""
    worker = start_worker("-p", "2", "--grace", "60000")
    worker.wait_until_ready(2)
    job = jobs.work.send(60_000)
    recorder.wait_for("start", 1)
    worker.signal(signal.SIGTERM)
    worker.wait_for_log("SIGTERM: stopping")
    signalled_at = time.monotonic()
    worker.signal(second)
    assert worker.wait() == code
    assert machine_seconds(signalled_at) < 2
    assert processes_of_session(worker.process.pid) == []
    record = job.refresh().record
    assert (record.status, record.attempt) == (Status.QUEUED, 0)


def test_it_shows_the_stacks_of_all_threads(
    taskq: TaskQ, start_worker: START, recorder: Recorder, folder: Path
) -> None:
    """SIGUSR1 to a child prints where each of its threads is, and harms nothing."""
    worker = start_worker("-p", "1")
    [child] = worker.wait_until_ready(1)
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    job = jobs.wait_for_line.send(str(fifo))
    recorder.wait_for("start", 1)
    os.kill(child, signal.SIGUSR1)
    worker.wait_for_log(r"in wait_for_line\n")
    fifo.write_text("end\n")
    assert_all_succeeded(taskq, [job.id])


def test_a_signal_just_after_the_start_lets_running_jobs_finish(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """A child is known to be ready before it fetches the first job."""
    ids = send_work(taskq, 8, 300)
    worker = start_worker("-p", "1", TEST_SLOW_BOOT="1")
    recorder.wait_for("start", 8)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert {taskq.job(job_id).status for job_id in ids} == {Status.SUCCEEDED}


def test_a_second_signal_counts_though_it_comes_with_the_first(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Of two orders that are read together the stricter one holds."""
    worker = start_worker("-p", "1", "--grace", "60000")
    worker.wait_until_ready(1)
    job = jobs.work.send(60_000)
    recorder.wait_for("start", 1)
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGINT)
    assert worker.wait() in (130, 143)
    assert "does not end" not in worker.log
    assert job.refresh().status is Status.QUEUED


def test_a_third_signal_kills_what_does_not_end(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Further signals do not put the end off."""
    worker = start_worker("-p", "1", "--grace", "60000")
    worker.wait_until_ready(1)
    jobs.hold_gil.send(60_000)
    recorder.wait_for("start", 1)
    worker.signal(signal.SIGTERM)
    worker.wait_for_log("SIGTERM: stopping")
    worker.signal(signal.SIGTERM)
    worker.wait_for_log("SIGTERM again")
    signalled_at = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 143
    assert machine_seconds(signalled_at) < 1


def test_a_crash_while_the_worker_stops_is_counted(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """A poison job is found out even if it is only met at deployments."""
    worker = start_worker("-p", "1")
    [child] = worker.wait_until_ready(1)
    job = jobs.work.send(60_000)
    recorder.wait_for("start", 1)
    worker.signal(signal.SIGTERM)
    worker.wait_for_log("SIGTERM: stopping")
    os.kill(child, signal.SIGKILL)
    assert worker.wait() == 0
    record = job.refresh().record
    assert (record.status, record.crashes, record.attempt) == (Status.QUEUED, 1, 0)
