"""Workers whose Redis server goes away, and comes back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import suppress

import pytest

from flask_taskq import TaskQ
from flask_taskq.errors import BrokerError
from tests.support.redis_server import free_port
from tests.support.redis_server import RedisServer

from . import app as jobs
from .harness import NET
from .harness import Recorder
from .harness import WorkerCommand
from .test_killed_child import assert_all_succeeded
from .test_killed_child import send_work

START = Callable[..., WorkerCommand]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """It has everything on its disk before it answers."""
    with RedisServer(appendonly="yes", appendfsync="always") as server:
        yield server


@pytest.fixture
def broker_url(server: RedisServer) -> str:
    return server.url


class Load:
    """Sends jobs, one after the other, and notes those whose sending was acknowledged."""

    def __init__(self, taskq: TaskQ) -> None:
        self.ids: list[str] = []
        self._broker = taskq.broker
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._send)
        self._message = lambda: jobs.work.message(5)
        self._thread.start()

    def _send(self) -> None:
        while not self._stop.is_set():
            with suppress(BrokerError):
                job = self._broker.enqueue(self._message())
                with self._changed:
                    self.ids.append(job.id)
                    self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        """Until so many more were acknowledged."""
        with self._changed:
            wanted = len(self.ids) + count
            assert self._changed.wait_for(lambda: len(self.ids) >= wanted, NET)

    def end(self) -> list[str]:
        self._stop.set()
        self._thread.join(NET)
        return self.ids


def test_nothing_is_lost_when_the_server_is_killed_under_load(
    server: RedisServer, taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Three times. What was acknowledged is done, and only what a kill hit runs again."""
    start_worker("-p", "2").wait_until_ready(2)
    load = Load(taskq)
    for _ in range(3):
        load.wait_for(100)
        server.kill()
        server.start()
    load.wait_for(100)
    ids = load.end()

    assert_all_succeeded(taskq, ids)
    runs = recorder.runs()
    assert set(ids) <= set(runs)
    assert max(runs.values()) <= 1 + 3


def test_a_child_and_the_server_are_killed_at_once(
    server: RedisServer, taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """The dead child's jobs are handed back when the server is there to be told."""
    worker = start_worker("-p", "2")
    victim = worker.wait_until_ready(2)[0]
    ids = send_work(taskq, 300, 20)
    recorder.wait_for("end", 50)
    os.kill(victim, signal.SIGKILL)
    server.kill()
    server.start()

    assert_all_succeeded(taskq, ids)
    assert max(recorder.runs().values()) <= 1 + 2


def test_jobs_that_run_through_a_restart_run_once(
    server: RedisServer, taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Their outcome is kept until the server takes it."""
    start_worker("-p", "2", "-t", "4").wait_until_ready(2)
    ids = send_work(taskq, 8, 700)
    recorder.wait_for("start", 8)
    server.stop()
    recorder.wait_for("end", 8)
    server.start()

    assert_all_succeeded(taskq, ids)
    assert set(recorder.runs().values()) == {1}


def test_a_worker_stops_though_its_server_stands_still(
    server: RedisServer, taskq: TaskQ, start_worker: START
) -> None:
    """It cannot give anything back, and ends all the same."""
    worker = start_worker("-p", "1", FLASK_TASKQ_BROKER_URL=f"{server.url}?timeout=500")
    worker.wait_until_ready(1)
    os.kill(server.pid, signal.SIGSTOP)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_worker_waits_for_its_server(start_worker: START) -> None:
    """It says so, without the password, and goes to work when the server is there."""
    port = free_port()
    url = f"redis://:hunter2@127.0.0.1:{port}/0"
    worker = start_worker("-p", "1", FLASK_TASKQ_BROKER_URL=url)
    worker.wait_for_log("cannot connect, will try again")
    with RedisServer(port, requirepass="hunter2"):
        worker.wait_until_ready(1)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert "hunter2" not in worker.log


def test_a_worker_gives_up_when_its_server_does_not_come(start_worker: START) -> None:
    """After the time that it was given: exit code 3."""
    url = f"redis://127.0.0.1:{free_port()}/0?timeout=100"
    worker = start_worker("--connect-timeout", "500", FLASK_TASKQ_BROKER_URL=url)
    assert worker.wait() == 3
    assert "cannot be reached" in worker.log


@pytest.mark.parametrize(
    ("options", "url", "text"),
    [
        ({"requirepass": "right"}, "redis://:wrong@127.0.0.1:{}/0", "refuses"),
        ({"maxmemory_policy": "allkeys-lru"}, "redis://127.0.0.1:{}/0", "noeviction"),
    ],
)
def test_a_worker_refuses_a_server_that_will_not_do(
    options: dict[str, str], url: str, text: str, start_worker: START
) -> None:
    """Trying again would not help: exit code 2."""
    with RedisServer(**options) as server:
        worker = start_worker(FLASK_TASKQ_BROKER_URL=url.format(server.port))
        assert worker.wait() == 2
    assert text in worker.log
    assert "wrong" not in worker.log
