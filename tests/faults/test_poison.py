"""F17: a job crashes the interpreter of every process that runs it."""

from __future__ import annotations

import os

from tests.support.machine_time import machine_seconds

from .harness import is_shared
from .harness import job
from .harness import Load
from .harness import Rig

#: What the system tells the start of a process by, in seconds.
TICK = 1 / os.sysconf("SC_CLK_TCK")

#: What a supervisor says who waits with the second successor in a row.
PAUSE = "starting another process in 1000 ms"


def test_a_job_that_crashes_its_process_is_stopped_at_the_third_time(rig: Rig) -> None:
    """F17: it fails with the signal as the reason; its neighbors run again, and succeed.
    The place of a dead process is taken within a second, and what it takes to start one;
    a second process that dies there as soon as it serves is replaced another second later."""
    web = rig.start_web()
    worker = rig.start_worker(2)
    with Load(web, lambda: [job("work", 100) for _ in range(4)], interval=0.1):
        rig.let_pass(0.3)
        [poison] = web.send(job("poison", expected="failed"))
        rig.wait_until_done([poison])
        # The first two, and the successors of those that it has crashed.
        rig.follower.wait_for("ready", 4, where=is_shared)
        rig.let_pass(0.3)
    worker.wait_for_log("died while it ran")
    history = rig.check()
    record = history.records[poison]
    assert record is not None and record.error is not None
    assert (record.crashes, record.error.code) == (3, "worker_lost")
    assert "signal 11" in record.error.message
    assert len(history.runs[poison]) == 3
    assert max(history.count_runs()) <= 1 + 3
    # The third run had its process to itself: there was nobody who could be hurt.
    alone = history.faults[2].pids
    runs = [run for runs in history.runs.values() for run in runs if run.pid in alone]
    assert [run.job for run in runs if run.settled is None] == [poison]
    begun = [one["born"] for one in history.of("ready") if not one["isolated"]]
    for crash in history.faults[:2]:
        successor = min(at for at in begun if at > crash.at - TICK)
        pause = 1 if PAUSE in worker.log and crash is not history.faults[0] else 0
        assert machine_seconds(crash.at, successor) <= 1 + pause
