"""The checker against real workers on engines that do what none may do."""

from __future__ import annotations

from pathlib import Path

import pytest

from .harness import job
from .harness import LEASE
from .harness import Rig
from .history import find_changed
from .history import find_lost

#: Both engines are SQLite's, broken.
pytestmark = pytest.mark.parametrize("storage", ["sqlite"], indirect=True)


def test_an_engine_that_settles_before_the_run_loses_jobs(rig: Rig, folder: Path) -> None:
    """What is killed then has succeeded on paper, and the checker says so."""
    web = rig.start_web()
    rig.start_worker(2, FAULTS_DEFECT="settle before the run")
    go = folder / "go"
    sent = web.send(*(job("wait_for_file", str(go)) for _ in range(2 * rig.threads)))
    [run, *_] = rig.wait_for("start", 2 * rig.threads, jobs=sent)
    rig.kill(run["pid"])
    go.touch()
    history = rig.finish()
    rig.note_figures(history)
    hit = {one["job"] for one in history.of("start") if one["pid"] == run["pid"]}
    wrong = find_lost(history)
    assert len(hit) == rig.threads
    for job_id in hit:
        [text] = [text for text in wrong if job_id in text]
        assert "no run of it came to its end" in text


def test_an_engine_that_does_not_fence_settles_jobs_twice(rig: Rig) -> None:
    """A worker that was frozen overwrites what others did, and the checker says so."""
    rig.shorten_leases()
    web = rig.start_web()
    frozen = rig.start_worker(1, FAULTS_DEFECT="settle without fencing")
    sent = web.send(job("work", 2_000))
    rig.wait_for("start")
    rig.freeze(frozen, LEASE)
    rig.start_worker(1)
    rig.keep_record(sent[0])
    rig.thaw(frozen)
    rig.wait_for("settled", 2, jobs=sent)
    history = rig.finish()
    rig.note_figures(history)
    wrong = find_changed(history)
    assert [text for text in wrong if "is doubled: it was settled as Succeeded" in text]
    assert [text for text in wrong if "changed after the job had ended" in text]
