"""An app on a fresh storage, and its worker."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from typing import Self

from msgspec.structs import replace

from flask_taskq.actors.job import Job
from flask_taskq.jobs.delivery import Envelope
from flask_taskq.jobs.encoding import encode_message
from flask_taskq.jobs.message import generate_id

from . import app as bench_app
from .machine import descendants
from .storages import STORAGES

#: The argument of each job.
PAYLOAD: Final = "x" * 100

#: How many messages one ``send_many()`` has.
MANY: Final = 1_000

#: How many jobs are stored in a step where that is not what is measured.
FILLING: Final = 10_000

#: In how many milliseconds a worker has to have done what it is waited for.
PATIENCE: Final = 300_000

#: How long a worker is given to come to rest, in seconds.
SETTLING: Final = 0.5

_ENVIRONMENT: Final = ("BENCH_FOLDER", "FLASK_TASKQ_BROKER_URL", "FLASK_TASKQ_NAMESPACE")


class Bench:
    """One measurement's app: open, its context is the current one.

    :param url: of the engine; None for an SQLite file of its own.
    """

    def __init__(self, url: str | None) -> None:
        # Never the jobs of an app that happen to be in the same storage.
        namespace = f"bench_{secrets.token_hex(4)}"
        scheme = "sqlite" if url is None else url.partition("://")[0]
        self.storage = STORAGES[scheme](url, namespace)
        self._folder = tempfile.mkdtemp(prefix="bench")
        values = (self._folder, self.storage.url, namespace)
        os.environ.update(zip(_ENVIRONMENT, values, strict=True))
        self._app = bench_app.create_app()
        self.broker = bench_app.taskq.broker_for(self._app)
        self.message = encode_message(bench_app.noop.message(PAYLOAD), 10**6)
        #: Makes a connection to the baseline, also in another process.
        self.bare = self.storage.bare(self.message)

    def __enter__(self) -> Self:
        self._context = self._app.app_context()
        self._context.push()
        self.broker.engine.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self._context.pop()
        self.broker.close()
        self.storage.close()
        shutil.rmtree(self._folder)
        for name in _ENVIRONMENT:
            os.environ.pop(name, None)  # of two that are open, the first one has done it

    def context(self) -> AbstractContextManager[object]:
        """The app's context, for another thread."""
        return self._app.app_context()

    def send(self, count: int) -> None:
        """One by one."""
        for _ in range(count):
            bench_app.noop.send(PAYLOAD)

    def send_many(self, count: int) -> list[Job[None]]:
        """In steps of a thousand."""
        jobs: list[Job[None]] = []
        while len(jobs) < count:
            some = min(MANY, count - len(jobs))
            jobs += bench_app.taskq.send_many(
                bench_app.noop.message(PAYLOAD) for _ in range(some)
            )
        return jobs

    def fill(self, count: int, delay: int | None = None) -> None:
        """Store jobs that nobody looks at, past all that is not the engine.

        :param delay: in milliseconds.
        """
        now = self.broker.clock.now()
        envelope = Envelope(
            id="",
            queue="default",
            actor="noop",
            priority=0,
            message=self.message,
            created_at=now,
            due_at=None if delay is None else now + delay,
            max_attempts=4,
        )
        for begin in range(0, count, FILLING):
            some = range(min(FILLING, count - begin))
            self.broker.engine.enqueue([replace(envelope, id=generate_id()) for _ in some])

    @contextmanager
    def worker(self, log_level: str = "warning", processes: int | None = 1) -> Iterator[Worker]:
        """Processes of eight threads, below their supervisor.

        :param processes: how many; None for as many as it has by default.
        """
        path = Path(bench_app.__file__)
        command = [sys.executable, "-m", "flask", "--app", f"{path}:create_app"]
        options = ["-t", "8", "--log-level", log_level]
        if processes is not None:
            options += ["-p", str(processes)]
        process = subprocess.Popen(
            [*command, "taskq", "worker", *options], stderr=subprocess.DEVNULL
        )
        try:
            yield Worker(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


class Worker:
    """The processes of a worker.

    :param supervisor: its process id.
    """

    def __init__(self, supervisor: int) -> None:
        self.supervisor = supervisor

    def wait_until_ready(self) -> None:
        """Have it run a job."""
        bench_app.noop.send(PAYLOAD).get_result(block=True, timeout=PATIENCE)

    def wait_until_registered(self, bench: Bench) -> None:
        """Have it ask for jobs, of which it gets none."""
        while not bench.broker.engine.workers.count():
            time.sleep(0.05)
        time.sleep(SETTLING)

    @property
    def children(self) -> list[int]:
        """Process ids of those that run jobs."""
        return sorted(descendants(self.supervisor))
