"""The front of the engine: one app's jobs, in this process."""

from __future__ import annotations

from collections.abc import Sequence

from ...clock import Clock
from ...config import Settings
from ...record import JobRecord
from ...record import Status
from ..base import Consumer
from ..base import Engine
from ..base import Envelope
from .consumer import MemoryConsumer
from .records import MemoryJobs
from .records import MemoryQueues
from .store import Store
from .workers import MemoryWorkers


class MemoryEngine(Engine):
    """Jobs in this process: nothing is kept when it ends, no other process sees them."""

    is_shared = False

    def __init__(self, settings: Settings, clock: Clock) -> None:
        super().__init__(settings, clock)
        self.store = Store(settings, clock)
        self.jobs = MemoryJobs(self.store)
        self.queues = MemoryQueues(self.store)
        self.workers = MemoryWorkers(self.store)

    def set_clock(self, clock: Clock) -> None:
        """Live by another clock, as a test does."""
        self.clock = self.store.clock = clock

    def connect(self) -> None:
        pass

    def close(self) -> None:
        pass

    def enqueue(self, envelopes: Sequence[Envelope]) -> int:
        with self.store.changed:
            now = self.store.insert_new(envelopes)
            self.store.changed.notify_all()
        return now

    def consumer(
        self,
        queues: Sequence[str],
        worker: str,
        *,
        isolated: bool = False,
        only: str | None = None,
    ) -> Consumer:
        """A reading end for a registered worker.

        :param isolated: fetch only the jobs that must run alone; otherwise only the rest.
        :param only: fetch the job of this id and no other, wherever and how it must run.
        """
        return MemoryConsumer(self.store, queues, worker, isolated, only)

    def records(self, *statuses: Status) -> list[JobRecord]:
        """The records of all jobs with one of these statuses, in the order of their sending."""
        with self.store.changed:
            jobs = sorted(self.store.with_status(*statuses), key=lambda job: job.number)
            return [job.record for job in jobs]

    def clear(self) -> None:
        """Forget all jobs and all workers."""
        with self.store.changed:
            self.store.clear()
            self.store.changed.notify_all()
