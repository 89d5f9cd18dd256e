"""F15: processes are replaced while they work."""

from __future__ import annotations

import signal
from collections.abc import Sequence

import pytest

from .harness import Job
from .harness import job
from .harness import Load
from .harness import Rig
from .history import History

PROCESSES = 2

#: A process writes down that it is ready when it has told its supervisor, and the one that
#: it replaces may hear of it before: by this part of the time that it took to start.
NEWS = 0.3


@pytest.mark.long
@pytest.mark.parametrize("options", [("--max-jobs", "40"), ("--max-memory", "128M")])
def test_worn_processes_are_replaced_without_a_gap(options: Sequence[str], rig: Rig) -> None:
    """F15: no job is lost and none runs twice, and there is always a process too many and
    never one too few."""
    web = rig.start_web()
    rig.start_worker(PROCESSES, *options)
    with Load(web, lambda: make_jobs(rig), interval=0.05):
        rig.wait_for("stopping", 2 * PROCESSES)
    history = rig.check()
    assert set(history.count_runs()) == {1}
    assert find_fewest(history, 2 * PROCESSES) >= PROCESSES


def test_a_reload_leaves_no_gap(rig: Rig) -> None:
    """F15: each process goes when another one is ready; a long job may finish."""
    web = rig.start_web()
    worker = rig.start_worker(PROCESSES)
    long = web.send(job("yielding", 1_500))
    rig.wait_for("start", jobs=long)
    with Load(web, lambda: make_jobs(rig), interval=0.05):
        worker.signal(signal.SIGHUP)
        rig.wait_for("stopping", PROCESSES)
    history = rig.check()
    assert set(history.count_runs()) == {1}
    assert find_fewest(history, PROCESSES) >= PROCESSES


def make_jobs(rig: Rig) -> Sequence[Job]:
    return [job("work", rig.random.randrange(10, 80)), *(job("leak", 1) for _ in range(3))]


def find_fewest(history: History, stops: int) -> int:
    """How many processes were at work when one of the first so many had just stopped."""
    counts = []
    for stop in history.of("stopping")[:stops]:
        at_work = {
            one["pid"]
            for one in history.of("ready")
            if one["at"] - stop["at"] <= NEWS * (one["at"] - one["born"])
        }
        at_work -= {one["pid"] for one in history.of("stopping") if one["at"] <= stop["at"]}
        counts.append(len(at_work))
    return min(counts)
