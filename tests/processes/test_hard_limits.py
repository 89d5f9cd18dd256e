"""Jobs that end only with their process, and jobs that somebody else wants to end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from flask import Flask

from flask_taskq import Status
from flask_taskq import TaskQ
from tests.support.machine_time import machine_seconds
from tests.support.machine_time import start_of

from . import app as jobs
from .harness import PATIENCE
from .harness import processes_of_session
from .harness import Recorder
from .harness import WorkerCommand
from .test_killed_child import assert_all_succeeded

START = Callable[..., WorkerCommand]

#: Half a second, and as much again until the process is replaced.
LIMITS = {"FLASK_TASKQ_TIME_LIMIT": "500", "FLASK_TASKQ_HARD_LIMIT_GRACE": "500"}


def test_a_process_with_a_thread_that_hangs_is_replaced(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Its job has failed, its neighbour finishes, and the new process takes over at once."""
    worker = start_worker("-p", "1", "-t", "2", **LIMITS)
    worker.wait_until_ready(1)
    hanging, neighbour = jobs.hang.send(), jobs.work.send(2_500)
    [begun, _] = recorder.wait_for("start", 2)
    worker.wait_for_log("is to be replaced: job .* of actor 'hang' does not end")
    worker.wait_for_log("in hang\\b")
    [_, new] = worker.wait_until_ready(2)
    assert machine_seconds(begun["at"], start_of(new)) < 0.5 + 0.5 + 2
    later = jobs.work.send(0)
    assert_all_succeeded(taskq, [neighbour.id, later.id])
    [start_of_later] = recorder.of("start", [later.id])
    assert start_of_later["pid"] != begun["pid"]
    record = hanging.refresh().record
    assert (record.status, record.attempt) == (Status.FAILED, 1)
    assert record.error is not None
    assert record.error.code == "time_limit"
    assert record.error.traceback is not None and "in hang" in record.error.traceback
    assert recorder.runs() == {hanging.id: 1, neighbour.id: 1, later.id: 1}
    while begun["pid"] in processes_of_session(worker.process.pid):
        pass  # it ends, in spite of the thread


def test_a_process_that_is_busy_in_c_code_is_killed(
    taskq: TaskQ, start_worker: START, recorder: Recorder, folder: Path
) -> None:
    """It cannot see to its limit itself; what it ran besides goes back unblamed."""
    worker = start_worker("-p", "1", "-t", "2", **LIMITS)
    worker.wait_until_ready(1)
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    neighbour = jobs.wait_for_line.send_with_options(args=(str(fifo),), time_limit=600_000)
    recorder.wait_for("start", 1)
    stopped = jobs.hang_once.send()
    worker.wait_for_log(f"busy in C code.*is killed: {stopped.id}")
    worker.wait_for_log("in hang_once")
    recorder.wait_for("start", 2, jobs=[neighbour.id])
    fifo.write_text("end\n")
    assert_all_succeeded(taskq, [neighbour.id, stopped.id])
    assert stopped.get_result(block=True, timeout=PATIENCE) == 1
    assert neighbour.refresh().record.crashes == 0
    assert recorder.runs() == {stopped.id: 2, neighbour.id: 2}


def test_a_process_that_was_stopped_is_killed(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Its supervisor keeps its lease, so that nothing else would ever free its job."""
    worker = start_worker("-p", "2", "-t", "1", **LIMITS)
    worker.wait_until_ready(2)
    job = jobs.ask.send_with_options(time_limit=2_000)
    [begun] = recorder.wait_for("start", 1)
    os.kill(begun["pid"], signal.SIGSTOP)
    worker.wait_for_log(f"is killed: {job.id}")
    [_, again] = recorder.wait_for("start", 2)
    assert again["pid"] != begun["pid"]
    assert job.refresh().record.crashes == 1
    job.cancel()


def test_a_running_job_is_told_that_it_was_cancelled(
    app: Flask, start_worker: START, recorder: Recorder
) -> None:
    """Within about a second, from any client and in any process."""
    start_worker("-p", "2", "-t", "1").wait_until_ready(2)
    job = jobs.ask.send()
    recorder.wait_for("start", 1)
    cancelled_at = time.monotonic()
    response = app.test_client().delete(f"/jobs/{job.id}")
    assert (response.status_code, response.json["cancel_requested"]) == (202, True)
    [told] = recorder.wait_for("told", 1)
    assert machine_seconds(cancelled_at, told["at"]) < 1.3
    while not job.refresh().status.is_final:
        pass
    assert job.status is Status.CANCELLED
    assert recorder.runs()[job.id] == 1
