"""Processes that are replaced while the others work: all on SIGHUP, single ones when worn."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from flask_taskq import Job
from flask_taskq import Message
from flask_taskq import Status
from flask_taskq import TaskQ
from tests.support.machine_time import machine_seconds
from tests.support.machine_time import start_of

from . import app as jobs
from .harness import APP
from .harness import PATIENCE
from .harness import processes_of_session
from .harness import Recorder
from .harness import WorkerCommand
from .test_killed_child import assert_all_succeeded
from .test_killed_child import send_work

START = Callable[..., WorkerCommand]

RELOADED = "reloaded: all processes"
GIVEN_UP = "the reload is given up"

#: An app that tests change on the disk. While there is a "gate", it can only be built by
#: that the test lets through.
SHOP = """
import os
import app as base
from app import taskq, tell

VERSION = 1

gate = os.path.join(os.environ["TEST_FOLDER"], "gate")

def create_app():
    app = base.create_app()
    if os.path.exists(gate):
        open(gate).close()
    return app

@taskq.actor
def version():
    tell("start")
    return VERSION
"""


@pytest.fixture
def shop(folder: Path) -> Path:
    """The file of that app."""
    path = folder / "shop.py"
    path.write_text(SHOP)
    return path


@pytest.fixture
def start_shop(start_worker: START, shop: Path) -> START:
    """Starts a worker of that app."""

    def start(*arguments: str, **env: str) -> WorkerCommand:
        # Within one second a changed file may look to Python as what it has compiled.
        env |= {"PYTHONPATH": str(APP.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        return start_worker(*arguments, app=str(shop), **env)

    return start


def ask_for_version(taskq: TaskQ) -> Job[int]:
    """Sends a job that returns which code it runs."""
    return taskq.broker.enqueue(Message("default", "version", (), {}, {}))


def feed_until(
    pattern: str, count: int, worker: WorkerCommand, taskq: TaskQ, recorder: Recorder
) -> list[str]:
    """Keep a worker busy until its log has so many matches; returns what was sent."""
    ids: list[str] = []
    while len(re.findall(pattern, worker.log)) < count:
        ids += send_work(taskq, 20, 20)
        recorder.wait_for("end", len(ids) - 20)
    return ids


def assert_each_ran_once(taskq: TaskQ, recorder: Recorder, ids: list[str]) -> None:
    assert_all_succeeded(taskq, ids)
    runs = recorder.runs()
    assert {job_id: runs[job_id] for job_id in ids} == dict.fromkeys(ids, 1)


def fewest_at_once(recorder: Recorder, at_first: int) -> int:
    """How many processes served at the same time, at the least, once so many did."""
    changes = sorted(
        [(one["at"], 1) for one in recorder.of("worker-started")]
        + [(one["at"], -1) for one in recorder.of("worker-stopping")]
    )
    serving, counts = 0, []
    for _, change in changes:
        serving += change
        counts.append(serving)
    return min(counts[at_first - 1 :])


def assert_nobody_died(worker: WorkerCommand, recorder: Recorder) -> None:
    assert " died while " not in worker.log
    assert "does not end" not in worker.log
    assert recorder.of("child-died") == []


# SIGHUP


@pytest.mark.parametrize("to_all", [False, True])
def test_a_reload_loses_no_job_and_runs_none_twice(
    to_all: bool, taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Under load; a signal for the whole group of processes counts once."""
    worker = start_worker("-p", "3", "-t", "4")
    old = worker.wait_until_ready(3)
    send = worker.signal_all if to_all else worker.signal
    send(signal.SIGHUP)
    ids = feed_until(RELOADED, 1, worker, taskq, recorder)
    assert_each_ran_once(taskq, recorder, ids)
    ready = worker.wait_until_ready(6)
    assert len(set(ready)) == len(ready) == 6
    left = set(processes_of_session(worker.process.pid)) - {worker.process.pid}
    assert left == set(ready) - set(old)
    # A successor reports its start a moment after it has started.
    assert fewest_at_once(recorder, 3) >= 2
    assert_nobody_died(worker, recorder)


def test_a_process_is_relieved_when_another_one_is_ready(
    taskq: TaskQ, start_shop: START, recorder: Recorder, folder: Path
) -> None:
    """While new code is being loaded, the only process works."""
    worker = start_shop("-p", "1")
    [old] = worker.wait_until_ready(1)
    os.mkfifo(folder / "gate")
    worker.signal(signal.SIGHUP)
    recorder.wait_for("boot", 2)
    [job_id] = send_work(taskq, 1, 1)
    assert taskq.job(job_id).get_result(block=True, timeout=PATIENCE) == old
    assert recorder.of("worker-stopping") == []
    (folder / "gate").write_text("")
    worker.wait_for_log(RELOADED)
    assert [one["pid"] for one in recorder.wait_for("worker-stopping")] == [old]


def test_a_reload_loads_new_code(taskq: TaskQ, start_shop: START, shop: Path) -> None:
    """Jobs that are sent after it run in what is on the disk by then."""
    worker = start_shop("-p", "2")
    worker.wait_until_ready(2)
    assert ask_for_version(taskq).get_result(block=True, timeout=PATIENCE) == 1
    shop.write_text(SHOP.replace("VERSION = 1", "VERSION = 2"))
    assert ask_for_version(taskq).get_result(block=True, timeout=PATIENCE) == 1
    worker.signal(signal.SIGHUP)
    worker.wait_for_log(RELOADED)
    answers = [ask_for_version(taskq) for _ in range(20)]
    assert {answer.get_result(block=True, timeout=PATIENCE) for answer in answers} == {2}


@pytest.mark.parametrize("broken", ["1 / 0", "import os; os._exit(7)"])
def test_code_that_cannot_be_loaded_keeps_the_old_processes(
    broken: str, taskq: TaskQ, start_shop: START, recorder: Recorder, shop: Path
) -> None:
    """One process tries; the error is logged once, with what to do. That works."""
    worker = start_shop("-p", "2")
    old = worker.wait_until_ready(2)
    shop.write_text(SHOP + broken)
    for reload in (1, 2):
        worker.signal(signal.SIGHUP)
        worker.wait_for_log(GIVEN_UP, reload)
    ids = send_work(taskq, 50, 5)
    assert_each_ran_once(taskq, recorder, ids)
    assert {one["pid"] for one in recorder.of("start")} <= set(old)
    reason = "ZeroDivisionError: division by zero" if "0" in broken else "exit code 7"
    assert worker.log.count(reason) == 2
    assert "send SIGHUP again" in worker.log
    shop.write_text(SHOP.replace("VERSION = 1", "VERSION = 2"))
    worker.signal(signal.SIGHUP)
    worker.wait_for_log(RELOADED)
    assert ask_for_version(taskq).get_result(block=True, timeout=PATIENCE) == 2
    assert "starting another process in" not in worker.log
    assert len(worker.ready_at) == 4


def test_a_second_reload_replaces_those_that_were_starting(
    taskq: TaskQ, start_shop: START, recorder: Recorder, folder: Path, shop: Path
) -> None:
    """They had loaded what was there before the second signal."""
    worker = start_shop("-p", "2")
    worker.wait_until_ready(2)
    os.mkfifo(folder / "gate")
    worker.signal(signal.SIGHUP)
    [*_, new] = recorder.wait_for("boot", 3)
    shop.write_text(SHOP.replace("VERSION = 1", "VERSION = 2"))
    worker.signal(signal.SIGHUP)
    worker.wait_for_log("SIGHUP: replacing", 2)
    with open(folder / "gate", "w"):  # it stands before it, the others will not
        os.unlink(folder / "gate")
    worker.wait_for_log(RELOADED)
    assert new["pid"] in worker.wait_until_ready(5)
    left = processes_of_session(worker.process.pid)
    assert len(left) == 3
    assert new["pid"] not in left
    answers = [ask_for_version(taskq) for _ in range(20)]
    assert {answer.get_result(block=True, timeout=PATIENCE) for answer in answers} == {2}


@pytest.mark.parametrize("to_all", [False, True])
def test_a_worker_can_be_stopped_during_a_reload(
    to_all: bool, taskq: TaskQ, start_shop: START, recorder: Recorder, folder: Path
) -> None:
    """What runs is finished, what is starting is not waited for, and nobody is left."""
    worker = start_shop("-p", "2", "-t", "4")
    worker.wait_until_ready(2)
    ids = send_work(taskq, 8, 500)
    recorder.wait_for("start", 8)
    os.mkfifo(folder / "gate")
    worker.signal(signal.SIGHUP)
    recorder.wait_for("boot", 3)
    (worker.signal_all if to_all else worker.signal)(signal.SIGTERM)
    worker.wait_for_log("SIGTERM: stopping")
    worker.signal(signal.SIGHUP)
    assert worker.wait() == 0
    assert processes_of_session(worker.process.pid) == []
    assert {taskq.job(job_id).status for job_id in ids} == {Status.SUCCEEDED}
    assert set(recorder.runs().values()) == {1}
    assert GIVEN_UP not in worker.log
    assert worker.log.count("SIGHUP: replacing") == 1


def test_a_worker_can_be_stopped_while_a_relieved_process_ends(
    taskq: TaskQ, start_worker: START, recorder: Recorder, folder: Path
) -> None:
    """The old and the new ones finish their jobs."""
    worker = start_worker("-p", "1", "-t", "1")
    worker.wait_until_ready(1)
    fifos = [folder / "first", folder / "second"]
    for fifo in fifos:
        os.mkfifo(fifo)
    sent = [jobs.wait_for_line.send(str(fifo)) for fifo in fifos]
    recorder.wait_for("start", 1)
    worker.signal(signal.SIGHUP)
    recorder.wait_for("start", 2)
    worker.signal(signal.SIGTERM)
    worker.wait_for_log("SIGTERM: stopping")
    for fifo in fifos:
        fifo.write_text("end\n")
    assert worker.wait() == 0
    assert [job.refresh().status for job in sent] == [Status.SUCCEEDED] * 2
    assert set(recorder.runs().values()) == {1}


def test_the_next_process_waits_until_the_last_one_has_left(
    taskq: TaskQ, start_worker: START, recorder: Recorder, folder: Path
) -> None:
    """A reload needs the memory of one process more, not of twice as many."""
    fifos = [folder / "first", folder / "second"]
    for fifo in fifos:
        os.mkfifo(fifo)
    worker = start_worker("-p", "2", "-t", "1", "--grace", "60000")
    old = worker.wait_until_ready(2)
    busy = [jobs.wait_for_line.send(str(fifo)).id for fifo in fifos]
    recorder.wait_for("start", 2)
    worker.signal(signal.SIGHUP)
    [_, _, new] = worker.wait_until_ready(3)
    assert_all_succeeded(taskq, send_work(taskq, 50, 1))
    tree = {worker.process.pid, *old, new}
    assert set(processes_of_session(worker.process.pid)) == tree
    for fifo in fifos:
        fifo.write_text("end\n")
    worker.wait_for_log(RELOADED)
    assert_each_ran_once(taskq, recorder, busy)


def test_a_process_that_dies_while_it_is_relieved_is_followed_by_its_successor(
    taskq: TaskQ, start_shop: START, recorder: Recorder, folder: Path
) -> None:
    """No further one is started; the job that it ran gets its crash and runs again."""
    worker = start_shop("-p", "1", "-t", "1")
    [old] = worker.wait_until_ready(1)
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    job = jobs.wait_for_line.send(str(fifo))
    recorder.wait_for("start", 1)
    os.mkfifo(folder / "gate")
    worker.signal(signal.SIGHUP)
    [_, boot] = recorder.wait_for("boot", 2)
    os.kill(old, signal.SIGKILL)
    worker.wait_for_log("died while it ran 1 job ")
    (folder / "gate").write_text("")
    worker.wait_for_log(RELOADED)
    [_, again] = recorder.wait_for("start", 2)
    fifo.write_text("end\n")
    assert job.get_result(block=True, timeout=PATIENCE) == "end\n"
    assert again["pid"] == boot["pid"]
    assert job.refresh().record.crashes == 1
    assert len(recorder.of("boot")) == 2


def test_a_successor_that_is_killed_ends_the_reload(
    taskq: TaskQ, start_shop: START, recorder: Recorder, folder: Path
) -> None:
    """The old process goes on, and the next SIGHUP succeeds."""
    worker = start_shop("-p", "1")
    [old] = worker.wait_until_ready(1)
    os.mkfifo(folder / "gate")
    worker.signal(signal.SIGHUP)
    [_, boot] = recorder.wait_for("boot", 2)
    os.kill(boot["pid"], signal.SIGKILL)
    worker.wait_for_log(GIVEN_UP)
    [job_id] = send_work(taskq, 1, 1)
    assert taskq.job(job_id).get_result(block=True, timeout=PATIENCE) == old
    os.unlink(folder / "gate")
    worker.signal(signal.SIGHUP)
    worker.wait_for_log(RELOADED)
    [job_id] = send_work(taskq, 1, 1)
    assert taskq.job(job_id).get_result(block=True, timeout=PATIENCE) not in (old, boot["pid"])


def test_a_process_that_hangs_at_its_end_is_killed_without_blame(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Its job runs again in a process that has new code, and has no crash."""
    worker = start_worker("-p", "1", "-t", "1", "--grace", "0")
    [old] = worker.wait_until_ready(1)
    job = jobs.hold_gil.send(60_000)
    recorder.wait_for("start", 1)
    worker.signal(signal.SIGHUP)
    worker.wait_for_log(f"process {old} does not end")
    [_, again] = recorder.wait_for("start", 2)
    assert again["pid"] != old
    assert job.refresh().record.crashes == 0
    worker.wait_for_log(RELOADED)


def test_a_reload_may_change_the_broker(
    taskq: TaskQ, start_shop: START, recorder: Recorder, folder: Path, shop: Path
) -> None:
    """Leases are kept where the new processes work: jobs of one that dies run again."""
    worker = start_shop("-p", "1", "-t", "1")
    [old] = worker.wait_until_ready(1)
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    last = jobs.wait_for_line.send(str(fifo))
    recorder.wait_for("start", 1)
    url = f"sqlite:///{folder}/other.sqlite3"
    moved = f'os.environ["FLASK_TASKQ_BROKER_URL"] = "{url}"'
    shop.write_text(SHOP.replace("VERSION = 1", moved + "\nVERSION = 2"))
    worker.signal(signal.SIGHUP)
    [_, new] = worker.wait_until_ready(2)
    # The old process still has its lease, from a supervisor that serves both.
    fifo.write_text("end\n")
    assert last.get_result(block=True, timeout=PATIENCE) == "end\n"
    worker.wait_for_log(RELOADED)
    other = Flask("other", instance_path=str(folder))
    other.config["TASKQ_BROKER_URL"] = url
    taskq.init_app(other)
    broker = taskq.broker_for(other)
    job = broker.enqueue(jobs.wait_for_line.message(str(fifo)))
    recorder.wait_for("start", 1, jobs=[job.id])
    os.kill(new, signal.SIGKILL)
    recorder.wait_for("start", 2, jobs=[job.id])
    fifo.write_text("end\n")
    record = broker.wait_for_record(job.id, PATIENCE)
    assert (record.status, record.crashes) == (Status.SUCCEEDED, 1)
    broker.close()


def test_nohup_is_respected(taskq: TaskQ, start_worker: START) -> None:
    """A worker that was started to outlive its terminal takes no SIGHUP for an order."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        worker = start_worker("-p", "1")
    finally:
        signal.signal(signal.SIGHUP, before)
    [pid] = worker.wait_until_ready(1)
    worker.signal_all(signal.SIGHUP)
    [job_id] = send_work(taskq, 1, 1)
    assert taskq.job(job_id).get_result(block=True, timeout=PATIENCE) == pid
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert "SIGHUP" not in worker.log


# ReplaceRequest processes


def test_processes_that_have_run_their_jobs_are_replaced(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Again and again under load: every job runs once, and none goes before another came."""
    worker = start_worker("-p", "2", "-t", "4", "--max-jobs", "20")
    worker.wait_until_ready(2)
    ids = feed_until("is to be replaced: it has run", 6, worker, taskq, recorder)
    assert_each_ran_once(taskq, recorder, ids)
    counts = [int(count) for count in re.findall(r"it has run (\d+) jobs", worker.log)]
    assert min(counts) >= 20
    assert fewest_at_once(recorder, 2) >= 1
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert processes_of_session(worker.process.pid) == []
    assert_nobody_died(worker, recorder)


def test_a_process_that_has_grown_too_large_is_replaced(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """After the job that made it so, which runs once."""
    worker = start_worker("-p", "1", "-t", "1", "--max-memory", "200M")
    [old] = worker.wait_until_ready(1)
    small, large = jobs.keep.send(1), jobs.keep.send(200)
    for job in (small, large):
        job.get_result(block=True, timeout=PATIENCE)
    [(pid, size)] = worker.wait_for_log(r"process (\d+) is to be .* it takes (\d+) bytes")
    assert int(pid) == old
    assert 200 << 20 < int(size) < 400 << 20
    assert [one["pid"] for one in recorder.wait_for("worker-stopping")] == [old]
    [job_id] = send_work(taskq, 1, 1)
    assert taskq.job(job_id).get_result(block=True, timeout=PATIENCE) != old
    assert set(recorder.runs().values()) == {1}
    assert "--max-memory" not in worker.log


def test_a_limit_below_what_the_app_needs_is_no_storm(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """It is said, jobs run, and the pauses between replacements grow."""
    worker = start_worker("-p", "1", "--max-memory", "1M")
    worker.wait_until_ready(1)
    worker.wait_for_log("the app alone takes")
    ids = feed_until("starting another process in 2000 ms", 1, worker, taskq, recorder)
    starts, warnings = len(worker.ready_at), worker.log.count("the app alone takes")
    assert (starts, warnings) == (3, 3)
    assert_each_ran_once(taskq, recorder, ids)
    assert "starting another process in 1000 ms" in worker.log


def test_a_worn_process_lets_its_job_finish_however_long_that_takes(
    taskq: TaskQ, start_worker: START, recorder: Recorder, folder: Path
) -> None:
    """Not within the grace time: a job that wears each process out would never end."""
    worker = start_worker("-p", "1", "-t", "2", "--grace", "0", "--max-jobs", "1")
    [old] = worker.wait_until_ready(1)
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    long = jobs.wait_for_line.send(str(fifo))
    recorder.wait_for("start", 1)
    send_work(taskq, 1, 1)
    worker.wait_until_ready(2)
    # The one after it is worn as well, and has to wait until this one has left.
    ids = feed_until("is to be replaced", 2, worker, taskq, recorder)
    assert_all_succeeded(taskq, [*ids, *send_work(taskq, 20, 1)])
    assert len(processes_of_session(worker.process.pid)) == 3
    fifo.write_text("end\n")
    assert long.get_result(block=True, timeout=PATIENCE) == "end\n"
    worker.wait_until_ready(3)
    assert set(recorder.runs().values()) == {1}
    assert old not in processes_of_session(worker.process.pid)


def test_a_worn_process_that_finishes_at_leisure_can_be_stopped(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """From then on it has the grace time, as the others."""
    worker = start_worker("-p", "1", "-t", "2", "--grace", "100", "--max-jobs", "1")
    worker.wait_until_ready(1)
    long = jobs.work.send(60_000)
    recorder.wait_for("start", 1)
    send_work(taskq, 1, 1)
    worker.wait_until_ready(2)
    assert_all_succeeded(taskq, send_work(taskq, 50, 5))
    signalled_at = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert machine_seconds(signalled_at) < 0.1 + 5
    record = long.refresh().record
    assert (record.status, record.attempt, record.crashes) == (Status.QUEUED, 0, 0)
    assert recorder.runs()[long.id] == 1
    assert "does not end" not in worker.log


STUCK = """
import threading
from flask_taskq.worker.processes import child as process
from flask_taskq.worker.processes.channel import ReplaceRequest

serve = process.serve

def serve_and_remember(broker, channel, *rest):
    global here
    here = channel
    serve(broker, channel, *rest)

process.serve = serve_and_remember

@taskq.actor
def stick():
    tell("start")
    once = os.path.join(os.environ["TEST_FOLDER"], "stuck")
    if not os.path.exists(once):
        open(once, "w").close()
        here.send(ReplaceRequest("a job is stuck", urgent=True))
        while True:
            try:
                threading.Event().wait()
            except BaseException:
                pass
"""


def test_a_process_with_a_stuck_job_is_replaced_at_once(
    taskq: TaskQ, start_shop: START, recorder: Recorder, shop: Path
) -> None:
    """Its other jobs finish; the stuck one is released without blame when grace is over."""
    shop.write_text(SHOP + STUCK)
    worker = start_shop("-p", "1", "-t", "2", "--grace", "2000")
    [old] = worker.wait_until_ready(1)
    [neighbour] = send_work(taskq, 1, 1000)
    recorder.wait_for("start", 1)
    stuck = taskq.broker.enqueue(Message("default", "stick", (), {}, {}))
    worker.wait_for_log("is to be replaced: a job is stuck")
    [_, new] = worker.wait_until_ready(2)
    [stopping] = recorder.wait_for("worker-stopping")
    assert machine_seconds(stopping["at"], start_of(new)) < 2
    assert_all_succeeded(taskq, [neighbour])
    assert stuck.get_result(block=True, timeout=PATIENCE) is None
    assert [one["pid"] for one in recorder.of("start", [stuck.id])] == [old, new]
    assert recorder.runs()[neighbour] == 1
    record = stuck.refresh().record
    assert (record.attempt, record.crashes) == (1, 0)
    assert len(worker.ready_at) == 2
