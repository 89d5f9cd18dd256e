"""A worker that is the first process of a container."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from flask_taskq import TaskQ

from . import app as jobs
from .harness import APP
from .harness import NET
from .harness import PATIENCE

ORPHANS = 5


@pytest.fixture
def container(env: dict[str, str]) -> Iterator[int]:
    """The id, seen from here, of a supervisor that is process 1 of a namespace."""
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    command += [sys.executable, "-m", "flask", "--app", f"{APP}:create_app"]
    outer = subprocess.Popen(
        [*command, "taskq", "worker", "-p", "1"],
        env=env,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert outer.stderr is not None
    assert any("is ready as worker" in line for line in outer.stderr)
    reader = threading.Thread(target=outer.stderr.read)
    reader.start()
    [first] = children_of(outer.pid)
    yield first
    with suppress(ProcessLookupError):  # it has ended
        os.kill(first, signal.SIGKILL)
    outer.wait(NET)
    reader.join(NET)
    outer.stderr.close()


def children_of(parent: int) -> list[int]:
    """All processes below this one, also those that have ended and wait to be asked how."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def wait_for_children(parent: int, count: int) -> None:
    """Look again and again, since nobody tells."""
    nobody = threading.Event()
    for _ in range(int(NET / 0.01)):
        if len(children_of(parent)) == count:
            return
        nobody.wait(0.01)
    raise AssertionError(f"{children_of(parent)} are below it, not {count}")


def test_what_jobs_leave_behind_does_not_stay_as_zombies(
    taskq: TaskQ, container: int, folder: Path
) -> None:
    """They are handed to the first process, and nobody else can take their exit status."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    jobs.leave_orphans.send(str(fifo), ORPHANS).get_result(block=True, timeout=PATIENCE)
    wait_for_children(container, 1 + ORPHANS)
    fifo.write_text("end\n" * ORPHANS)
    wait_for_children(container, 1)
    assert jobs.work.send(0).get_result(block=True, timeout=PATIENCE)


def test_a_process_that_dies_beside_orphans_is_replaced(
    taskq: TaskQ, container: int, folder: Path
) -> None:
    """The code that waits for orphans does not take its exit status."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    jobs.leave_orphans.send(str(fifo), ORPHANS).get_result(block=True, timeout=PATIENCE)
    job = jobs.crash.send()
    fifo.write_text("end\n" * ORPHANS)
    record = taskq.broker.wait_for_record(job.id, PATIENCE)
    assert record.crashes == 3
    assert record.error is not None and "signal 9" in record.error.message


def test_it_ends_when_it_is_told_to(taskq: TaskQ, container: int) -> None:
    """The kernel keeps signals from a first process that does nothing about them."""
    descriptor = os.pidfd_open(container)
    os.kill(container, signal.SIGTERM)
    poll = select.poll()
    poll.register(descriptor)
    assert poll.poll(NET * 1000)
    os.close(descriptor)
