"""Jobs that are rude to the process that runs them."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from flask_taskq import Status
from flask_taskq import TaskQ
from flask_taskq.errors import ResultFailure

from . import app as jobs
from .harness import ON_EVERY_ENGINE
from .harness import PATIENCE
from .harness import Recorder
from .harness import WorkerCommand

pytestmark = ON_EVERY_ENGINE

START = Callable[..., WorkerCommand]


@pytest.mark.parametrize("actor", ["exit_quietly", "close_descriptors"])
def test_a_process_that_a_job_makes_useless_is_replaced(
    taskq: TaskQ, start_worker: START, recorder: Recorder, actor: str
) -> None:
    """The others run elsewhere, and the third time it is the job that fails."""
    worker = start_worker("-p", "1", "-t", "4")
    worker.wait_until_ready(1)
    rude = getattr(jobs, actor).send()
    good = [jobs.work.send(1) for _ in range(20)]
    with pytest.raises(ResultFailure):
        rude.get_result(block=True, timeout=PATIENCE)
    assert (rude.record.crashes, rude.record.error.code) == (3, "worker_lost")
    for job in good:
        job.get_result(block=True, timeout=PATIENCE)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


@pytest.mark.parametrize("text", ["hello\n", "{}\n", "no end"])
def test_what_a_job_writes_to_its_supervisor_harms_nobody_else(
    taskq: TaskQ, start_worker: START, recorder: Recorder, text: str
) -> None:
    """A number that is not its own, as after closing a file twice, may be that of any file."""
    worker = start_worker("-p", "2", "-t", "2")
    worker.wait_until_ready(2)
    job = jobs.write_to_sockets.send(text)
    recorder.wait_for("start")
    good = [jobs.work.send(1) for _ in range(20)]
    for one in good:
        one.get_result(block=True, timeout=PATIENCE)
    if text.endswith("\n"):
        worker.wait_for_log("has written to its supervisor")
        worker.wait_until_ready(3)
    assert taskq.broker.wait_for_record(job.id, PATIENCE).status is not Status.QUEUED
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_thread_that_a_job_leaves_behind_keeps_no_process(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """The worker ends all the same, within its time."""
    worker = start_worker("-p", "1")
    [child] = worker.wait_until_ready(1)
    assert jobs.leave_a_thread.send().get_result(block=True, timeout=PATIENCE) == child
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert "killing it" not in worker.log
