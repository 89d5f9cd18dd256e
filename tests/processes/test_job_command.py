"""``flask taskq job`` beside a worker."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from . import app as jobs
from .harness import APP
from .harness import NET


@pytest.fixture
def wait(env):
    """Starts ``flask taskq job ID --wait``, and returns when it says that the job runs."""
    started = []

    def wait(job_id):
        command = [sys.executable, "-m", "flask", "--app", f"{APP}:create_app"]
        process = subprocess.Popen(
            [*command, "taskq", "job", job_id, "--wait"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stderr.readline() == "running\n"
        return process

    yield wait
    for process in started:
        process.kill()
        process.communicate(timeout=NET)


@pytest.fixture
def gate(folder: Path):
    """A job waits for a line in it."""
    os.mkfifo(folder / "gate")
    return folder / "gate"


def test_waiting_ends_with_the_job(start_worker, recorder, taskq, wait, gate):
    """Then it is listed."""
    start_worker("-p", "1")
    job = jobs.wait_for_line.send(str(gate))
    recorder.wait_for("start")
    process = wait(job.id)
    gate.write_text("done")
    output, _ = process.communicate(timeout=NET)
    assert process.returncode == 0
    assert re.search(r"^status +succeeded$", output, re.MULTILINE)


def test_ctrl_c_ends_the_waiting_and_not_the_job(start_worker, recorder, taskq, wait, gate):
    """The job was started by somebody else, perhaps for many."""
    start_worker("-p", "1")
    job = jobs.wait_for_line.send(str(gate))
    recorder.wait_for("start")
    process = wait(job.id)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=NET)
    assert (process.returncode, output) == (130, "")
    assert f"job {job.id} goes on" in errors
    gate.write_text("done")
    assert job.get_result(block=True, timeout=int(NET * 1000)) == "done"
