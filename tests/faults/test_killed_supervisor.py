"""F2 and F3: a supervisor is killed, alone or with everything below it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.support.machine_time import machine_seconds

from .harness import GRACE
from .harness import job
from .harness import LEASE
from .harness import Load
from .harness import LOST
from .harness import Rig
from .history import percentile
from .history import recoveries


def test_orphans_finish_what_they_run_and_end(rig: Rig, folder: Path) -> None:
    """F2: they outlive their lease for it, run nothing twice, and leave within the grace."""
    rig.shorten_leases()
    web = rig.start_web()
    worker = rig.start_worker(2)
    orphans = rig.processes()
    go = folder / "go"
    running = web.send(*(job("wait_for_file", str(go)) for _ in range(2)))
    rig.wait_for("start", 2, jobs=running)
    rig.start_worker(1)
    with Load(web, lambda: [job("work", 50)], interval=0.05):
        rig.let_pass(0.5)
        rig.note_fault("kill", [worker.process.pid])
        killed_at = time.monotonic()
        worker.signal(signal.SIGKILL)
        rig.let_pass(LEASE * 1.2)
        go.touch()
        worker.wait_until_gone()
        assert machine_seconds(killed_at) <= GRACE + 2
    history = rig.check()
    assert set(history.count_runs()) == {1}
    claims = [one["at"] for one in history.of("claimed") if one["pid"] in orphans]
    assert machine_seconds(killed_at, max(claims)) <= 0.5


def test_jobs_of_a_lost_machine_run_elsewhere(rig: Rig, folder: Path) -> None:
    """F3: every process of a worker is gone at once; its lease and five seconds later all
    of its jobs have begun again on another one."""
    rig.shorten_leases()
    web = rig.start_web()
    lost, _ = rig.start_worker(2, elsewhere=True), rig.start_worker(1)
    go = folder / "go"
    running = web.send(*(job("wait_for_file", str(go)) for _ in range(3 * rig.threads)))
    rig.wait_for("start", len(running))
    with Load(web, lambda: [job("work", 50)], interval=0.05):
        rig.lose(lost)
        go.touch()
        rig.let_pass(1)
    history = rig.check()
    found = recoveries(history, "lose")
    assert len(found) == 2 * rig.threads
    assert percentile([one.after for one in found], 100) <= LOST
