"""A child dies in the middle of its work."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from flask_taskq import Status
from flask_taskq import TaskQ
from tests.support.machine_time import machine_seconds
from tests.support.machine_time import start_of

from . import app as jobs
from .harness import ON_EVERY_ENGINE
from .harness import PATIENCE
from .harness import Recorder
from .harness import WorkerCommand

START = Callable[..., WorkerCommand]


def send_work(taskq: TaskQ, count: int, milliseconds: int) -> list[str]:
    sent = taskq.send_many([jobs.work.message(milliseconds) for _ in range(count)])
    return [job.id for job in sent]


def started_by(recorder: Recorder, pid: int) -> set[str]:
    """The jobs that a process had begun. Some may have ended and not been settled yet."""
    return {one["job"] for one in recorder.of("start") if one["pid"] == pid}


def assert_all_succeeded(taskq: TaskQ, ids: list[str]) -> None:
    statuses = {taskq.job(job_id).get_result(block=True, timeout=PATIENCE) for job_id in ids}
    assert statuses
    assert {taskq.job(job_id).status for job_id in ids} == {Status.SUCCEEDED}


@ON_EVERY_ENGINE
def test_another_child_runs_its_jobs_within_a_second(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """500 jobs, two children, one killed: all done, none run more than twice."""
    worker = start_worker("-p", "2")
    victim = worker.wait_until_ready(2)[0]
    ids = send_work(taskq, 500, 20)
    recorder.wait_for("end", 100)
    killed_at = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    assert_all_succeeded(taskq, ids)
    hit = started_by(recorder, victim)
    runs = recorder.runs()
    assert set(runs) == set(ids)
    assert max(runs.values()) <= 2
    assert {job_id for job_id, count in runs.items() if count > 1} <= hit
    again = [one["at"] for one in recorder.of("start", hit) if one["pid"] != victim]
    assert again
    assert machine_seconds(killed_at, max(again)) < 1.0


@pytest.mark.parametrize("processes", [1, 2])
def test_a_new_child_runs_the_jobs_when_every_child_is_killed(
    processes: int, taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """The jobs run again within the time that the app needs to start, and a second."""
    worker = start_worker("-p", str(processes))
    victims = worker.wait_until_ready(processes)
    ids = send_work(taskq, 200, 20)
    recorder.wait_for("end", 50)
    killed_at = time.monotonic()
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    assert_all_succeeded(taskq, ids)
    hit = set().union(*(started_by(recorder, victim) for victim in victims))
    runs = recorder.runs()
    assert max(runs.values()) <= 2
    replacements = set(worker.wait_until_ready(2 * processes)) - set(victims)
    start_up = max(machine_seconds(start_of(pid), worker.ready_at[pid]) for pid in replacements)
    again = [one["at"] for one in recorder.of("start", hit) if one["pid"] not in victims]
    assert machine_seconds(killed_at, max(again)) < start_up + 1


@ON_EVERY_ENGINE
def test_the_log_names_the_jobs_that_it_was_running(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """By id and actor: they are where to look for the reason."""
    worker = start_worker("-p", "1", "-t", "2")
    [victim] = worker.wait_until_ready(1)
    ids = send_work(taskq, 2, 600_000)
    recorder.wait_for("start", 2)
    os.kill(victim, signal.SIGKILL)
    [named] = worker.wait_for_log(r"died while it ran 2 jobs \((.*)\): killed by signal 9")
    assert set(named.split(", ")) == set(ids)
    for job_id in ids:
        worker.wait_for_log(f"job {job_id} of actor work was running when its process died")


def test_the_log_says_that_a_job_has_crashed_too_often(
    taskq: TaskQ, start_worker: START
) -> None:
    """Once, as an error, with its actor."""
    worker = start_worker("-p", "1")
    worker.wait_until_ready(1)
    poison = jobs.crash.send()
    taskq.broker.wait_for_record(poison.id, PATIENCE)
    line = f"ERROR .* job {poison.id} of actor crash failed: its process died, too often"
    worker.wait_for_log(line)
    assert worker.log.count(f"job {poison.id} of actor crash") == 3


def test_its_unstarted_jobs_are_not_charged_with_the_crash(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Only jobs that were running when their process died count a crash."""
    worker = start_worker("-p", "1", "-t", "2")
    [victim] = worker.wait_until_ready(1)
    ids = send_work(taskq, 20, 100)
    recorder.wait_for("start", 2)
    os.kill(victim, signal.SIGKILL)
    worker.wait_for_log("is ready", 2)
    assert_all_succeeded(taskq, ids)
    crashes = [taskq.job(job_id).record.crashes for job_id in ids]
    assert sum(crashes) <= 2
    assert {taskq.job(job_id).record.attempt for job_id in ids} == {1}


def test_a_job_that_kills_its_process_fails_at_the_third_crash(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """The poison job is failed as lost, with the signal; it ran three times."""
    worker = start_worker("-p", "1")
    worker.wait_until_ready(1)
    poison = jobs.crash.send()
    record = taskq.broker.wait_for_record(poison.id, PATIENCE)
    assert record.status is Status.FAILED
    assert record.crashes == 3
    assert record.error is not None
    assert record.error.code == "worker_lost"
    assert "signal 9" in record.error.message
    assert recorder.runs()[poison.id] == 3
    [innocent] = send_work(taskq, 1, 1)
    assert_all_succeeded(taskq, [innocent])


@ON_EVERY_ENGINE
def test_the_third_run_of_a_poison_job_has_a_process_to_itself(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """After the second crash the job's neighbours are safe from it."""
    worker = start_worker("-p", "1")
    worker.wait_until_ready(1)
    poison = jobs.crash.send()
    recorder.wait_for("start", 2, jobs=[poison.id])
    # Not before: the process that is about to be killed might fetch them, too.
    worker.wait_until_ready(3)
    neighbours = send_work(taskq, 8, 3000)
    taskq.broker.wait_for_record(poison.id, PATIENCE)
    assert_all_succeeded(taskq, neighbours)
    assert set(recorder.runs()[job_id] for job_id in neighbours) == {1}
    assert recorder.runs()[poison.id] == 3
