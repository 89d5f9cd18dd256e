"""F1: processes that run jobs are killed, at every moment that a job has."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.processes.harness import WorkerCommand

from .event_log import Event
from .harness import Job
from .harness import job
from .harness import Load
from .harness import Rig
from .harness import Scale
from .history import throughput
from .points import POINTS

LONG = pytest.mark.long

#: Jobs by second, less than two processes can do.
OFFERED = 100


@pytest.mark.parametrize("round_", [1, *(pytest.param(n, marks=LONG) for n in range(2, 31))])
def test_a_process_killed_at_any_point_loses_no_job(round_: int, rig: Rig) -> None:
    """F1: each point of a job's life is reached, and somebody dies there."""
    web = rig.start_web()
    rig.start_worker(3)
    for number, point in enumerate(rig.random.sample(POINTS, len(POINTS)), 1):
        once = rig.folder / f"fail-{number}"
        once.touch()
        rig.arm(point)
        jobs = [job("fail_once", str(once)), *(job("work", 20) for _ in range(30))]
        if point == "mid-progress":
            jobs.append(job("tell_progress", 1_500))
        sent = web.send(*jobs)
        rig.wait_for("fault", number)
        rig.wait_until_done(sent)
    history = rig.check()
    assert {fault.point for fault in history.faults} == set(POINTS)
    assert max(history.count_runs()) >= 2


def test_processes_killed_under_load_lose_no_job(rig: Rig, scale: Scale) -> None:
    """F1: at random moments. Their jobs run again within a second, others run once, and
    others take the place of the dead: soon as many jobs are done as before."""
    web = rig.start_web()
    worker = rig.start_worker(3)
    with Load(web, lambda: make_jobs(rig), interval=5 / OFFERED):
        rig.wait_for("end", OFFERED)
        old = rig.weigh()
        for number in range(scale.kills):
            rig.let_pass(rig.random.uniform(0.2, 0.8) * scale.pace)
            if number == 1:
                # What is opened when it is first needed has been needed by now, but for a
                # process that has only just taken the place of the first one.
                before = {pid: weight for pid, weight in rig.weigh().items() if pid in old}
            rig.kill(rig.random.choice(wait_for_two(rig, worker)))
        for pid in wait_for_two(rig, worker):
            rig.wait_for_work(pid)
        if scale.judges_rates:
            rig.let_pass(2.5)
    heavier = rig.find_heavier(before, scale.kills - 1)
    history = rig.check()
    assert heavier == []
    if scale.judges_rates:
        first, last = history.faults[0].at, history.faults[-1].at
        base = min(throughput(history, first - 1, first), OFFERED)
        assert throughput(history, last + 1, last + 2.5) >= 0.9 * base


def make_jobs(rig: Rig) -> Sequence[Job]:
    return [job("work", rig.random.randrange(20, 100)) for _ in range(5)]


def wait_for_two(rig: Rig, worker: WorkerCommand) -> list[int]:
    """The processes that live, when one of them can be killed and another one is left."""

    def is_enough(_: Event) -> bool:
        return len(rig.processes(worker)) >= 2

    rig.follower.wait_for("ready", where=is_enough)
    return rig.processes(worker)


def test_jobs_that_were_only_fetched_are_not_blamed(rig: Rig) -> None:
    """F1: their process died before it could run any of them, and no crash is counted."""
    web = rig.start_web()
    rig.start_worker(1)
    rig.arm("after-claim")
    sent = web.send(*(job("work", 1) for _ in range(10)))
    rig.wait_for("fault")
    history = rig.check()
    assert {history.records[job_id].crashes for job_id in sent} == {0}
    assert set(history.count_runs()) == {1}


def test_a_job_that_is_being_cancelled_does_not_run_again(rig: Rig) -> None:
    """F1: its process is killed before it could heed the request."""
    web = rig.start_web()
    rig.start_worker(2)
    [job_id] = web.send(job("work", 60_000, expected="cancelled"))
    [run] = rig.wait_for("start")
    web.request("DELETE", f"/jobs/{job_id}")
    rig.kill(run["pid"])
    history = rig.check()
    assert history.count_runs() == [1]
