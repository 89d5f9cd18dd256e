"""F36 and F37: a worker stands still, or seems to."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.machine_time import machine_seconds

from .harness import job
from .harness import LEASE
from .harness import Rig


def test_a_frozen_worker_cannot_change_what_others_did(rig: Rig, folder: Path) -> None:
    """F36: it stands still for twice its lease. Its jobs run elsewhere, twice in all; those
    that it goes on with are told within a second, and what it says about any is refused."""
    rig.shorten_leases()
    web = rig.start_web()
    frozen = rig.start_worker(1)
    go = folder / "go"
    short = web.send(*(job("work", 2_000) for _ in range(2)))
    open_ended = web.send(*(job("wait_for_file", str(go)) for _ in range(2)))
    sent = short + open_ended
    rig.wait_for("start", 4)
    rig.freeze(frozen, 2 * LEASE)
    frozen_at = time.monotonic()
    rig.start_worker(1)
    go.touch()
    for job_id in sent:
        rig.keep_record(job_id)
    go.unlink()
    rig.let_pass(frozen_at + 2 * LEASE - time.monotonic())
    thawed_at = time.monotonic()
    rig.thaw(frozen)
    rig.wait_for("late", 4, jobs=sent)
    history = rig.check()
    assert history.count_runs() == [2] * 4
    assert {history.records[job_id].attempt for job_id in sent} == {1}
    for job_id in open_ended:
        told = history.runs[job_id][0]
        assert told.outcome == "LeaseLost"
        assert told.ended is not None
        assert machine_seconds(thawed_at, told.ended) <= 1


@pytest.mark.long
def test_a_job_that_lets_no_thread_run_keeps_its_lease(rig: Rig) -> None:
    """F37: nothing in its process can run for twice the lease; its supervisor renews it."""
    rig.shorten_leases()
    web = rig.start_web()
    rig.start_worker(1)
    sent = web.send(job("hold_gil", int(2 * LEASE * 1000)))
    rig.wait_for("start")
    rig.start_worker(1)
    rig.wait_until_done(sent)
    history = rig.check()
    assert history.count_runs() == [1]
