"""F13 and F14: a worker is told to stop, politely and less so."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.support.machine_time import machine_seconds

from .harness import job
from .harness import Rig


def test_a_worker_told_to_stop_gives_back_what_it_cannot_finish(rig: Rig, folder: Path) -> None:
    """F13: it claims nothing more, gives unstarted jobs back at once, lets running ones go
    on for the grace time, and charges nobody with the interruption."""
    grace = 0.5
    web = rig.start_web()
    worker = rig.start_worker(2, "--grace", str(int(grace * 1000)))
    go = folder / "go"
    long = web.send(*(job("wait_for_file", str(go)) for _ in range(4)))
    rig.wait_for("start", 4, jobs=long)
    short = web.send(*(job("work", 200) for _ in range(40)))
    rig.wait_for("start", 1, jobs=short)
    told_at = rig.stop(worker)
    assert worker.wait() == 0
    assert machine_seconds(told_at) <= grace + 5
    gone_at = time.monotonic()
    go.touch()
    rig.start_worker(2)
    history = rig.check()
    claims = [one["at"] for one in history.of("claimed") if one["at"] < gone_at]
    assert machine_seconds(told_at, max(claims)) <= 0.1
    back = [one for one in history.of("settled") if one["outcome"] == "Released"]
    unstarted = [one["at"] for one in back if one["job"] not in long]
    assert machine_seconds(told_at, max(unstarted, default=told_at)) <= 1
    assert {one["job"] for one in back} >= set(long)
    interrupted = [history.runs[job_id][0] for job_id in long]
    assert {run.outcome for run in interrupted} == {"Shutdown"}
    assert min(run.ended or 0.0 for run in interrupted) - told_at >= grace
    assert {history.records[job_id].attempt for job_id in long + short} == {1}


@pytest.mark.long
@pytest.mark.parametrize(("second", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_worker_told_twice_stops_at_once(second: int, code: int, rig: Rig) -> None:
    """F14: within two seconds, with a code that says so, and nothing is lost."""
    web = rig.start_web()
    worker = rig.start_worker(2, "--grace", "60000", "--log-level", "info")
    sent = web.send(*(job("yielding", 600) for _ in range(12)))
    rig.wait_for("start", 8, jobs=sent)
    rig.stop(worker)
    worker.wait_for_log("SIGTERM: stopping")
    told_at = rig.stop(worker, second)
    assert worker.wait() == code
    assert machine_seconds(told_at) <= 2
    rig.start_worker(2)
    rig.check()


@pytest.mark.long
def test_a_worker_told_three_times_is_killed(rig: Rig) -> None:
    """F14: a job that nothing can interrupt does not keep it, and runs again elsewhere."""
    web = rig.start_web()
    worker = rig.start_worker(1, "--grace", "60000", "--log-level", "info")
    sent = web.send(job("hold_gil", 2_000))
    rig.wait_for("start", 1, jobs=sent)
    for text in ("SIGTERM: stopping", "SIGTERM again", ""):
        told_at = rig.stop(worker)
        worker.wait_for_log(text)
    assert worker.wait() == 143
    assert machine_seconds(told_at) <= 1
    rig.start_worker(1)
    rig.check()
