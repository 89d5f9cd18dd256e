"""What proves that a worker is dead, and what does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from flask_taskq.engines.listing import WorkerInfo
from flask_taskq.worker.identity import describe_worker
from flask_taskq.worker.liveness import find_host
from flask_taskq.worker.liveness import is_dead
from tests.support.namespaces import in_another_namespace

pytestmark = pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="needs Linux")

TELL = """
import sys, msgspec
from flask_taskq.worker.identity import describe_worker
info = describe_worker(has_supervisor=sys.argv[1] == "True")
print(msgspec.json.encode(info).decode(), flush=True)
sys.stdin.read()
"""


def start(
    *prefix: str, has_supervisor: bool = False
) -> tuple[subprocess.Popen[str], WorkerInfo]:
    """A process that lives until its input ends, and what it takes itself for."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", TELL, str(has_supervisor)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, msgspec.json.decode(line, type=WorkerInfo)


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], WorkerInfo]]:
    """Another process, below this one."""
    process, info = start()
    assert info.processes
    yield process, info
    process.kill()
    process.communicate()


def test_a_process_that_runs_is_not_dead(
    other: tuple[subprocess.Popen[str], WorkerInfo],
) -> None:
    """Nor is this one."""
    mine = describe_worker(has_supervisor=False)
    assert mine.processes
    assert not is_dead(mine)
    assert other[1].host == mine.host
    assert not is_dead(other[1])


def test_a_process_that_is_stopped_is_not_dead(
    other: tuple[subprocess.Popen[str], WorkerInfo],
) -> None:
    """It may go on, and its jobs with it."""
    process, info = other
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    assert not is_dead(info)


def test_a_process_that_was_killed_is_dead(
    other: tuple[subprocess.Popen[str], WorkerInfo],
) -> None:
    """Before its parent has waited for it, and afterwards."""
    process, info = other
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(info)
    process.wait()
    assert is_dead(info)


def test_another_process_with_its_id_does_not_keep_it_alive(
    other: tuple[subprocess.Popen[str], WorkerInfo],
) -> None:
    """It has started at another time."""
    [(pid, started)] = other[1].processes
    assert is_dead(WorkerInfo(host=other[1].host, processes=((pid, started - 1),)))


def test_a_worker_is_not_dead_while_its_supervisor_lives() -> None:
    """Who knows what its process was running, and hands that back itself."""
    process, info = start(has_supervisor=True)
    assert info.processes
    assert [pid for pid, _ in info.processes] == [process.pid, os.getpid()]
    process.kill()
    process.communicate()
    assert not is_dead(info)


def test_a_process_that_is_only_hidden_is_not_dead(
    other: tuple[subprocess.Popen[str], WorkerInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    """/proc can be mounted so that it shows nobody the processes of other users."""
    read = Path.read_text

    def hide(path: Path, *args: str, **options: str) -> str:
        if path.name == "stat":
            raise FileNotFoundError(path)
        return read(path, *args, **options)

    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", hide)
    monkeypatch.setattr(os, "kill", refuse)
    assert not is_dead(other[1])


def test_processes_of_another_namespace_are_of_another_host() -> None:
    """Their ids mean other processes there."""
    process, info = start(*in_another_namespace())
    process.communicate()
    assert info.processes
    assert info.host != find_host()


def test_a_namespace_with_the_number_of_one_that_ended_is_another_host() -> None:
    """The system gives numbers again that came free."""
    hosts = []
    for _ in range(5):
        process, info = start(*in_another_namespace())
        process.communicate()
        hosts.append(info.host)
    assert len(set(hosts)) == 5


def test_nothing_is_known_where_proc_is_that_of_another_namespace() -> None:
    """What it says of an id, it says of another process."""
    prefix = [word for word in in_another_namespace() if word != "--mount-proc"]
    process, info = start(*prefix)
    process.communicate()
    assert (info.host, info.processes) == ("", ())
