"""A whole worker dies, and others on its machine see that it is dead."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from flask_taskq import TaskQ
from tests.support.machine_time import machine_seconds

from . import app as jobs
from .harness import ON_EVERY_ENGINE
from .harness import Recorder
from .harness import WorkerCommand

pytestmark = ON_EVERY_ENGINE

START = Callable[..., WorkerCommand]

#: How soon jobs begin again when nobody has to wait for a lease, in seconds.
SOON = 2.0

#: A lease that is long beside that, in seconds.
LEASE = 5.0

#: A job that lasts until its process is killed, in milliseconds.
LONG = 600_000


def kill(worker: WorkerCommand) -> float:
    """Kill every process of a worker at once, and say when."""
    killed_at = time.monotonic()
    worker.signal_all(signal.SIGKILL)
    worker.wait_until_gone()
    return killed_at


def begun_again(recorder: Recorder, count: int, since: float) -> list[float]:
    """When jobs that had been running began for the second time, each of them."""
    starts = recorder.wait_for("start", 2 * count)
    again = [one["at"] for one in starts if one["at"] > since]
    assert len(again) == count
    return again


def test_a_new_worker_takes_over_from_a_dead_one_at_once(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """As after a crash of a service that its machine starts again: nobody waits for the
    lease. What had started is not known any more, and no job is charged a crash."""
    doomed = start_worker("-p", "2", "-t", "2")
    doomed.wait_until_ready(2)
    sent = [jobs.work.send(LONG) for _ in range(4)]
    recorder.wait_for("start", 4)
    killed_at = kill(doomed)
    worker = start_worker("-p", "1", "-t", "4")
    worker.wait_until_ready(1)
    again = begun_again(recorder, 4, killed_at)
    assert machine_seconds(min(worker.ready_at.values()), max(again)) <= SOON
    records = [job.refresh().record for job in sent]
    assert {(record.crashes, record.suspects) for record in records} == {(0, 1)}


def test_a_worker_that_is_there_takes_over_from_a_dead_one_at_once(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """It need not be started anew to find out."""
    doomed = start_worker("-p", "1", "-t", "2")
    doomed.wait_until_ready(1)
    for _ in range(2):
        jobs.work.send(LONG)
    recorder.wait_for("start", 2)
    start_worker("-p", "1", "-t", "2").wait_until_ready(1)
    killed_at = kill(doomed)
    again = begun_again(recorder, 2, killed_at)
    assert machine_seconds(killed_at, max(again)) <= SOON


def test_where_death_cannot_be_proven_the_lease_decides(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """As between containers: another one's processes are not to be seen, dead or alive."""
    lease = {"FLASK_TASKQ_LEASE": str(int(LEASE * 1000))}
    doomed = start_worker("-p", "1", apart=True, **lease)
    doomed.wait_until_ready(1)
    jobs.work.send(LONG)
    recorder.wait_for("start")
    killed_at = kill(doomed)
    start_worker("-p", "1", **lease).wait_until_ready(1)
    start_worker("-p", "1", apart=True, **lease).wait_until_ready(1)
    [again] = begun_again(recorder, 1, killed_at)
    # It was renewed at the latest a fifth of it before, and there is some slack for a machine
    # that stands still.
    assert again - killed_at >= LEASE / 2


def test_nothing_is_taken_from_a_worker_whose_supervisor_alone_is_dead(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Its process goes on, and ends what it runs, while others look on."""
    orphaned = start_worker("-p", "1", "--grace", "20000")
    orphaned.wait_until_ready(1)
    job = jobs.work.send(3_000)
    recorder.wait_for("start")
    start_worker("-p", "1").wait_until_ready(1)
    orphaned.signal(signal.SIGKILL)
    recorder.wait_for("end")
    orphaned.wait_until_gone()
    assert recorder.runs()[job.id] == 1
