"""Jobs that make processes of their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_taskq import TaskQ
from flask_taskq.errors import ResultFailure

from . import app as jobs
from .harness import ON_EVERY_ENGINE
from .harness import PATIENCE
from .harness import processes_of_session
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


@pytest.mark.parametrize("actor", ["fork", "fork_on_the_loop", "fork_beside_the_loop"])
def test_a_process_that_a_job_forks_does_not_come_back_into_the_worker(
    taskq: TaskQ, start_worker: START, recorder: Recorder, actor: str
) -> None:
    """It ends with the job's own code, as Python would end it, and its parent goes on."""
    worker = start_worker("-p", "1", "-t", "2")
    [child] = worker.wait_until_ready(1)
    ends = {"returns": 0, "raises": 1, "exits": 5}
    sent = {how: getattr(jobs, actor).send(how) for how in ends}
    codes = {how: job.get_result(block=True, timeout=PATIENCE) for how, job in sent.items()}
    assert codes == ends
    assert recorder.runs() == {job.id: 1 for job in sent.values()}
    assert sorted(processes_of_session(worker.process.pid)) == sorted(
        [worker.process.pid, child]
    )
    assert jobs.work.send(0).get_result(block=True, timeout=PATIENCE) == child


@pytest.mark.parametrize("how", ["awaits", "yields"])
def test_what_a_forked_coroutine_awaits_is_not_there(
    taskq: TaskQ, start_worker: START, recorder: Recorder, how: str
) -> None:
    """The event loop is its parent's, and so are the other jobs on it."""
    start_worker("-p", "1").wait_until_ready(1)
    ticking = [jobs.tick.send(200) for _ in range(8)]
    job = jobs.fork_on_the_loop.send(how)
    assert job.get_result(block=True, timeout=PATIENCE) == 1
    for one in ticking:
        one.get_result(block=True, timeout=PATIENCE)
    ticks = recorder.of("tick")
    assert len(ticks) == 8 * 200
    assert len({one["pid"] for one in ticks}) == 1


def test_a_job_that_kills_its_process_after_a_fork_is_charged_with_it(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Its child process has not said that it had ended."""
    start_worker("-p", "1").wait_until_ready(1)
    job = jobs.fork_and_crash.send()
    with pytest.raises(ResultFailure):
        job.get_result(block=True, timeout=PATIENCE)
    assert (job.record.crashes, job.record.error.code) == (3, "worker_lost")
    assert recorder.runs() == {job.id: 3}
