"""A worker in threads of a test's process."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Final
from typing import Self

from ..broker import Broker
from ..engines.memory import MemoryEngine
from ..record import JobRecord
from ..record import Status
from ..worker.worker import Worker

#: How long jobs may take to end when the block does, in milliseconds.
_GRACE: Final = 10_000

#: How often the worker renews its lease, if it has to, in seconds.
_TICK: Final = 1.0

#: How all threads of a worker are called, to begin with.
_PREFIX: Final = "taskq-"


class ThreadedWorker:
    """A worker whose threads live as long as a ``with`` block.

    :param broker: of the app whose actors run.
    :param engine: the broker's.
    :param threads: how many jobs run at the same time.
    """

    def __init__(self, broker: Broker, engine: MemoryEngine, threads: int) -> None:
        self._engine = engine
        self._worker = Worker(broker, worker_threads=threads)
        self._others = _threads()
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name=f"{_PREFIX}ticker", daemon=True)

    def __enter__(self) -> Self:
        self._worker.start()
        self._ticker.start()
        return self

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
            self._stop(0 if exc is not None else _GRACE)

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

    def tick(self) -> None:
        """Renew the worker's lease if that is due."""
        self._worker.tick()

    def _busy(self) -> list[JobRecord]:
        # A job that must run alone in a process waits for one, which no test has.
        jobs = self._engine.store.with_status(Status.RUNNING, Status.QUEUED)
        return [job.record for job in jobs if not job.isolated]

    def _tick(self) -> None:
        while not self._ended.wait(_TICK):
            self._worker.tick()

    def _stop(self, grace: int) -> None:
        __tracebackhide__ = True
        self._ended.set()
        self._ticker.join()
        self._worker.stop(grace)
        for thread in _threads() - self._others:
            thread.join(_TICK)
        left = [thread.name for thread in _threads() - self._others]
        if left:
            raise AssertionError(
                f"threads of the worker have not ended: {', '.join(sorted(left))}; does a job"
                " wait for something that never comes?"
            )


def _threads() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if one.name.startswith(_PREFIX)}
