"""What a worker says of itself when it starts, and what a check does."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_taskq import Message
from flask_taskq import TaskQ

from . import app as jobs
from .harness import APP
from .harness import NET
from .harness import ON_EVERY_ENGINE
from .harness import PATIENCE
from .harness import processes_of_session
from .harness import WorkerCommand

START = Callable[..., WorkerCommand]


@ON_EVERY_ENGINE
def test_a_worker_says_what_it_serves(
    start_worker: START, taskq: TaskQ, broker_url: str
) -> None:
    """Once it is ready, on one line."""
    worker = start_worker("-p", "1", "-t", "3")
    worker.wait_until_ready(1)
    [line] = worker.wait_for_log(r"ready: (.*)")
    kind = "SQLite" if broker_url.startswith("sqlite") else "Redis"
    actors = len(taskq.broker.get_declared_actors())
    assert line == (
        f"{actors} actors; queue default; {kind}, {broker_url};"
        " 1 process of 3 threads (--processes)"
    )


def test_a_misspelt_queue_is_warned_of(start_worker: START) -> None:
    """It would be served for ever, and nothing would come."""
    worker = start_worker("-p", "1", "-Q", "defaults")
    worker.wait_until_ready(1)
    assert re.search(
        r"WARNING.*the queue 'defaults' of --queues; did you mean 'default'\?", worker.log
    )


LATE = """
from flask import current_app

@current_app.extensions["taskq"].actor(queue_name="late")
def ship(number):
    return number
"""


@ON_EVERY_ENGINE
def test_a_queue_that_a_late_import_brings_is_served(
    start_worker: START, taskq: TaskQ, folder: Path
) -> None:
    """A job has imported the module, as the first of its kind in that process."""
    (folder / "late_jobs.py").write_text(LATE)
    worker = start_worker("-p", "1", PYTHONPATH=str(folder))
    worker.wait_until_ready(1)
    job = taskq.broker.enqueue(Message("late", "ship", (3,), {}, {}))
    jobs.import_module.send("late_jobs").get_result(block=True, timeout=PATIENCE)
    assert job.get_result(block=True, timeout=PATIENCE) == 3
    worker.wait_for_log("serves the queue late, too: an actor was declared late")


LATE_CRASH = """
import os
import signal
from flask import current_app

@current_app.extensions["taskq"].actor(queue_name="late")
def crash_late():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_late_job_that_must_run_alone_is_not_forgotten(
    start_worker: START, taskq: TaskQ, folder: Path
) -> None:
    """The process that it gets does not know its actor, and says so."""
    (folder / "late_jobs.py").write_text(LATE_CRASH)
    worker = start_worker("-p", "1", PYTHONPATH=str(folder))
    job = taskq.broker.enqueue(Message("late", "crash_late", (), {}, {}))
    for crashes in (1, 2):
        jobs.import_module.send("late_jobs").get_result(block=True, timeout=PATIENCE)
        worker.wait_for_log("died while it ran 1 job", crashes)
    worker.wait_for_log(f"job {job.id} waits .*: no actor is named 'crash_late'")


# --check


@pytest.fixture
def check(env: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts ``flask taskq worker --check`` in a session of its own."""
    started = []

    def check(*arguments: str, **more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flask", "--app", f"{APP}:create_app"]
        process = subprocess.Popen(
            [*command, "taskq", "worker", "--check", *arguments],
            env={**env, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield check
    for process in started:
        for pid in processes_of_session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=NET)


@ON_EVERY_ENGINE
def test_a_check_says_what_it_found(check, broker_url: str) -> None:
    """Also what the configuration has that nobody knows, and queues that no actor has."""
    process = check("-p", "2", "-Q", "default,defaults", FLASK_TASKQ_GRCAE="1")
    output, errors = process.communicate(timeout=NET)
    assert process.returncode == 0, errors
    rows = [(line[:12].strip(), line[12:]) for line in output.splitlines()]
    names = [name for name, _ in rows]
    assert names == ["engine", "queues", "actors", "modules", "processes", *["warning"] * 2]
    found = dict(rows[:5])
    assert found["engine"].endswith(f", {broker_url}: reached")
    assert found["queues"] == "default, defaults"
    assert "work (default)" in found["actors"]
    assert "app" in found["modules"]
    assert found["processes"] == "2 processes of 8 threads (--processes)"
    assert "'defaults'" in rows[5][1] and "TASKQ_GRCAE" in rows[6][1]


def test_a_check_without_its_engine_says_what_it_found_before(check, folder: Path) -> None:
    """And then why it is no good."""
    path = folder / "broken.sqlite3"
    path.write_bytes(b"this is no database" * 100)
    url = f"sqlite:///{path}"
    process = check("--connect-timeout", "1", FLASK_TASKQ_BROKER_URL=url)
    output, errors = process.communicate(timeout=NET)
    assert process.returncode == 3
    assert output.startswith(f"engine      SQLite, {url}: not reached\n")
    assert "broken.sqlite3" in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_check_ends_on_a_signal_with_its_child(check, folder: Path, number: int) -> None:
    """Even while the app is being built, which may take for ever."""
    fifo = folder / "gate"
    os.mkfifo(fifo)
    process = check(TEST_GATE=str(fifo))
    with open(fifo, "w") as gate:  # the factory has come so far
        child = next(pid for pid in processes_of_session(process.pid) if pid != process.pid)
        descriptor = os.pidfd_open(child)
        process.send_signal(number)
        assert process.wait(NET) == 128 + number
        assert select.select([descriptor], [], [], NET)[0]
        os.close(descriptor)
        assert gate.writable()
    assert processes_of_session(process.pid) == []


def test_a_check_ends_though_the_app_has_left_a_thread(check) -> None:
    """It is no daemon, and would keep the process for ever."""
    process = check(TEST_THREAD="1")
    output, _ = process.communicate(timeout=NET)
    assert process.returncode == 0
    assert ": reached" in output
