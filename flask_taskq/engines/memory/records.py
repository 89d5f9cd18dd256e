"""Jobs and queues, as everybody sees them who is not a worker."""

from __future__ import annotations

import itertools
from collections import Counter

from ...record import JobRecord
from ...record import Status
from ..base import HOUSEKEEPING_LIMIT
from ..base import Jobs
from ..base import Queues
from .store import Store
from .store import WAITING


class MemoryJobs(Jobs):
    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, job_id: str) -> JobRecord | None:
        with self._store.changed:
            job = self._store.find(job_id)
            return None if job is None else job.record

    def wait(self, job_id: str, timeout: int | None) -> JobRecord | None:
        store = self._store
        until = None if timeout is None else store.clock.monotonic() + timeout
        with store.changed:
            while True:
                job = store.find(job_id)
                if job is None or job.record.status.is_final:
                    return None if job is None else job.record
                left = None if until is None else until - store.clock.monotonic()
                if left is not None and left <= 0:
                    return job.record
                store.clock.wait(store.changed, left)

    def cancel(self, job_id: str) -> JobRecord | None:
        with self._store.changed:
            job = self._store.find(job_id)
            if job is None:
                return None
            if job.record.status in WAITING:
                self._store.finish(job, Status.CANCELLED, cancel_requested=True)
            elif job.record.status is Status.RUNNING and not job.record.cancel_requested:
                job.update(cancel_requested=True, updated_at=self._store.clock.now())
            self._store.changed.notify_all()
            return job.record

    def prune(self) -> int:
        store = self._store
        with store.changed:
            over = (job_id for job_id in store.table if store.find(job_id) is None)
            removed = list(itertools.islice(over, HOUSEKEEPING_LIMIT))
            for job_id in removed:
                store.remove(store.table[job_id])
            return len(removed)


class MemoryQueues(Queues):
    def __init__(self, store: Store) -> None:
        self._store = store

    def depths(self) -> dict[str, int]:
        with self._store.changed:
            waiting = self._store.with_status(*WAITING)
            return dict(Counter(job.record.queue for job in waiting))

    def purge(self, queue: str) -> int:
        with self._store.changed:
            waiting = self._store.with_status(*WAITING)
            removed = [job for job in waiting if job.record.queue == queue]
            for job in removed:
                self._store.remove(job)
            self._store.changed.notify_all()
            return len(removed)
