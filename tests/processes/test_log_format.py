"""The log of a real worker, as programs and people read it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

from flask_taskq import TaskQ

from . import app as jobs
from .harness import Recorder
from .harness import WorkerCommand

START = Callable[..., WorkerCommand]


def test_every_line_of_json_is_an_object(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """The supervisor's and its processes', at the level that was asked for."""
    worker = start_worker("-p", "1", "--log-format", "json", "--log-level", "debug")
    worker.wait_until_ready(1)
    good, bad = jobs.work.send(1), jobs.fail.send()
    worker.wait_for_log(good.id)
    worker.wait_for_log(bad.id)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    worker.close()
    lines = [json.loads(line) for line in worker.log.splitlines()]
    assert {line["level"] for line in lines} >= {"DEBUG", "INFO", "WARNING"}
    assert len({line["process"] for line in lines}) == 2
    of_jobs = {line["job_id"]: line for line in lines if "job_id" in line}
    assert of_jobs[good.id]["actor"] == "work"
    assert of_jobs[bad.id]["exception"].startswith("Traceback")


def test_a_line_of_text_names_the_job(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Also one that another library logged inside the job."""
    worker = start_worker("-p", "1")
    worker.wait_until_ready(1)
    job = jobs.log.send("hello\n2026-01-01 00:00:00,000 INFO forged")
    [line] = worker.wait_for_log(r"(.*)hello")
    assert f"some.library: [job {job.id}] " in line
    worker.wait_for_log(f"job {job.id} succeeded")
    assert "\n2026-01-01" not in worker.log
