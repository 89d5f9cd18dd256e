"""Workers in threads of a test's process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Final
from typing import Self

from flask import Flask

from ..actors.broker import Broker
from ..engines.memory import MemoryEngine
from ..errors import ConfigurationError
from ..jobs.record import JobRecord
from ..jobs.record import Lane
from ..jobs.record import Status
from ..worker.threads.worker import Worker as WorkerThreads
from .draining import find_broker

#: How long jobs may take to end when the block does, in milliseconds.
_GRACE: Final = 10_000

#: How often the worker renews its lease, if it has to, in seconds.
_TICK: Final = 1.0

#: How long its threads may take to end when it has stopped, in seconds.
_END: Final = 5.0

#: How often join() looks whether all is done, in seconds: engines do not report it.
_LOOK: Final = 0.02

#: How all threads of a worker are called, to begin with.
_PREFIX: Final = "taskq-"


class Worker:
    """A worker in threads of this process, for any engine.

    Either a context manager, or :meth:`start`, :meth:`join` and :meth:`stop`. It has no
    supervisor: jobs of processes that died stay where they are, and one that must run alone in
    a process, after its second crash, waits.

    :param app: the app whose jobs run, or its broker.
    :param queues: names of the queues; None takes those of all actors that are declared.
    :param worker_threads: how many jobs run at the same time, besides those of async actors.
    :raises ConfigurationError: the app has no ``TaskQ``, or ``TASKQ_EAGER`` is on.
    """

    def __init__(
        self,
        app: Flask | Broker,
        *,
        queues: Iterable[str] | None = None,
        worker_threads: int = 8,
    ) -> None:
        broker = app if isinstance(app, Broker) else find_broker(app)
        if broker.run_at_once is not None:
            raise ConfigurationError(
                "TASKQ_EAGER is on: jobs run where they are sent, and none is left to a worker"
            )
        self._broker = broker
        self._queues = None if queues is None else list(queues)
        self._worker_threads = worker_threads
        self._worker: WorkerThreads | None = None
        self._others: set[threading.Thread] = set()
        self._changed = threading.Condition()
        self._is_over = False
        self._ticker = threading.Thread()

    def start(self) -> None:
        """Reach the engine, and start the threads.

        :raises RuntimeError: it is started already.
        :raises BrokerError: the engine is out of reach.
        """
        if self._worker is not None:
            raise RuntimeError("this worker is started already")
        self._broker.engine.connect()
        self._others, self._is_over = _threads(), False
        self._worker = WorkerThreads(
            self._broker, queues=self._queues, worker_threads=self._worker_threads
        )
        self._worker.start()
        self._ticker = threading.Thread(target=self._tick, name=f"{_PREFIX}ticker", daemon=True)
        self._ticker.start()

    def join(self, timeout: int | None = 10_000) -> None:
        """Wait until no job waits in the worker's queues, nor runs in it. Those for a later
        time, and those that failed and are to run again, count.

        :param timeout: milliseconds of the machine's time; None waits for ever.
        :raises AssertionError: that took longer.
        """
        worker = self._running()
        until = None if timeout is None else time.monotonic() + timeout / 1000
        while not worker.has_finished(_TICK):
            if until is not None and time.monotonic() >= until:
                __tracebackhide__ = True
                depths = self._broker.engine.queues.depths()
                left = {name: depths[name] for name in worker.queues if name in depths}
                waiting = ", ".join(f"{count} in {name!r}" for name, count in left.items())
                raise AssertionError(
                    f"the jobs have not ended after {timeout:,} ms; waiting:"
                    f" {waiting or 'none, but some are running'}"
                )
            time.sleep(_LOOK)

    def stop(self, timeout: int = _GRACE) -> None:
        """Let the jobs that run end, give the others back, and end the threads.

        :param timeout: how long running jobs may go on, in milliseconds. Then they are
            interrupted, and released.
        :raises AssertionError: a thread does not end.
        """
        __tracebackhide__ = True
        if self._worker is None:
            return
        worker, self._worker = self._worker, None
        # First, so that it does not take the worker that signs off for one that was lost.
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        self._ticker.join()
        worker.stop(timeout)
        self._check_ended(worker)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        self.stop(0 if exc is not None else _GRACE)

    def tick(self) -> None:
        """Renew the worker's lease if that is due."""
        worker = self._worker
        if worker is not None:
            worker.tick()

    def _running(self) -> WorkerThreads:
        if self._worker is None:
            raise RuntimeError("this worker is not started")
        return self._worker

    def _tick(self) -> None:
        while True:
            with self._changed:
                if not self._is_over:
                    # By the clock of the jobs: when a test moves that on, the lease is over.
                    self._broker.clock.wait(self._changed, _TICK * 1_000)
                if self._is_over:
                    return
            self.tick()

    def _check_ended(self, worker: WorkerThreads) -> None:
        __tracebackhide__ = True
        _join(worker.threads, _END)
        # All others that have come since, which may be those of another worker.
        _join(_threads() - self._others, _TICK)
        left = [thread.name for thread in worker.threads if thread.is_alive()]
        if left:
            raise AssertionError(
                f"threads of the worker have not ended: {', '.join(sorted(left))}; does a job"
                " wait for something that never comes?"
            )


class ThreadedWorker(Worker):
    """A worker of jobs in memory, whose threads live as long as a ``with`` block. The end of
    the block waits until all jobs have run that may run now.

    :param broker: of the app whose actors run.
    :param engine: the broker's.
    :param threads: how many jobs run at the same time.
    """

    def __init__(self, broker: Broker, engine: MemoryEngine, threads: int) -> None:
        super().__init__(broker, worker_threads=threads)
        self._engine = engine

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        try:
            if exc is None:
                self.wait_until_idle()
        finally:
            super().__exit__(exc_type, exc, traceback)

    @property
    def is_idle(self) -> bool:
        """Whether no job runs, or may run now."""
        with self._engine.store.changed:
            self._engine.store.promote()
            return not self._busy()

    def wait_until_idle(self, timeout: int = 10_000) -> None:
        """Wait until all jobs have run that may run now, and those that they sent.

        :param timeout: milliseconds of the machine's time.
        :raises AssertionError: that took longer.
        """
        changed = self._engine.store.changed
        with changed:
            if not changed.wait_for(lambda: self.is_idle, timeout / 1000):
                __tracebackhide__ = True
                busy = self._busy()
                names = ", ".join(f"{one.actor} ({one.status})" for one in busy[:5])
                count = "1 job has" if len(busy) == 1 else f"{len(busy)} jobs have"
                raise AssertionError(f"{count} not ended after {timeout:,} ms: {names}")

    def _busy(self) -> list[JobRecord]:
        # A job that must run alone in a process waits for one, which no test has.
        jobs = self._engine.store.with_status(Status.RUNNING, Status.QUEUED)
        return [job.record for job in jobs if job.record.lane is not Lane.ALONE]


def _join(threads: Iterable[threading.Thread], timeout: float) -> None:
    until = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _threads() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if one.name.startswith(_PREFIX)}
