"""Every exit code of ``flask taskq worker`` that its page has, and no other."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from flask_taskq import TaskQ
from flask_taskq.worker.processes.pid_file import write_pid_file

from . import app as jobs
from .harness import Recorder
from .harness import WorkerCommand

PAGE = Path(__file__).parents[2] / "docs" / "worker.rst"

Start = Callable[..., WorkerCommand]
Scenario = Callable[[Start, Path, Recorder], WorkerCommand]


def end_in_order(start: Start, folder: Path, recorder: Recorder) -> WorkerCommand:
    worker = start("-p", "1")
    worker.wait_until_ready(1)
    worker.signal(signal.SIGTERM)
    return worker


def start_twice(start: Start, folder: Path, recorder: Recorder) -> WorkerCommand:
    with write_pid_file(folder / "pid"):
        worker = start("--pid-file", str(folder / "pid"))
        worker.wait()
        assert f"process {os.getpid()} is running already" in worker.log
    return worker


def name_no_app(start: Start, folder: Path, recorder: Recorder) -> WorkerCommand:
    return start(app="no_such_module")


def reach_no_engine(start: Start, folder: Path, recorder: Recorder) -> WorkerCommand:
    path = folder / "broken.sqlite3"
    path.write_bytes(b"this is no database" * 100)
    url = f"sqlite:///{path}"
    return start("--connect-timeout", "1", FLASK_TASKQ_BROKER_URL=url)


def hurry(number: int) -> Scenario:
    def hurry(start: Start, folder: Path, recorder: Recorder) -> WorkerCommand:
        worker = start("-p", "1", "--grace", "60000")
        jobs.work.send(60_000)
        recorder.wait_for("start")
        worker.signal(signal.SIGTERM)
        worker.wait_for_log("SIGTERM: stopping")
        worker.signal(number)
        return worker

    return hurry


def hang_up_a_check(start: Start, folder: Path, recorder: Recorder) -> WorkerCommand:
    fifo = folder / "gate"
    os.mkfifo(fifo)
    worker = start("--check", TEST_GATE=str(fifo))
    with open(fifo, "w"):
        worker.signal(signal.SIGHUP)
        worker.wait()
    return worker


SCENARIOS: Final[dict[int, Scenario]] = {
    0: end_in_order,
    1: start_twice,
    2: name_no_app,
    3: reach_no_engine,
    129: hang_up_a_check,
    130: hurry(signal.SIGINT),
    143: hurry(signal.SIGTERM),
}


def test_the_page_has_every_exit_code() -> None:
    """In the first column of its table."""
    [table] = re.findall(r"^exit code +meaning\n=+ +=+\n(.*?)^=", PAGE.read_text(), re.M | re.S)
    codes = re.findall(r"^(\d[\d, ]*)", table, re.M)
    assert {int(code) for words in codes for code in words.split(",")} == set(SCENARIOS)


@pytest.mark.parametrize("code", SCENARIOS)
def test_the_exit_code_says_how_it_ended(
    code: int, start_worker: Start, taskq: TaskQ, folder: Path, recorder: Recorder
) -> None:
    """As the page says it."""
    assert SCENARIOS[code](start_worker, folder, recorder).wait() == code
