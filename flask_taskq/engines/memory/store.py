"""What the parts of the engine share: the jobs, their turns, the leases.

All of it is read and changed with the store's condition held.
"""

from __future__ import annotations

import itertools
import operator
import threading
from bisect import bisect_left
from bisect import insort
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from ...clock import Clock
from ...clock import END_OF_TIME
from ...config import Settings
from ...record import JobRecord
from ...record import Status
from ..base import Envelope
from ..base import Holder

WAITING: Final = (Status.QUEUED, Status.SCHEDULED)


class Order:
    """The ids of jobs by status, and in each in the order of their turns.

    Sorted at all times, because a fetch that sorted first would make a thousand waiting jobs
    cost a million steps.
    """

    def __init__(self) -> None:
        self._turns: dict[Status, list[tuple[int, int, str]]] = {one: [] for one in Status}

    def ids(self, status: Status) -> Iterator[str]:
        return (job_id for _, _, job_id in self._turns[status])

    def put(self, job: StoredJob) -> None:
        insort(self._turns[job.record.status], job.turn)

    def drop(self, job: StoredJob) -> None:
        turns = self._turns[job.record.status]
        del turns[bisect_left(turns, job.turn)]


class _Changed(threading.Condition):
    """A condition that "with" enters and leaves in C code.

    The methods of its class are Python code, and an exception that comes from outside, as by
    the handler of a signal, could come when the lock is taken and "with" does not know it yet.
    """

    __enter__ = property(operator.attrgetter("_lock.__enter__"))
    __exit__ = property(operator.attrgetter("_lock.__exit__"))


@dataclass
class StoredJob:
    """A record, and what the engine needs besides it."""

    record: JobRecord
    order: Order
    number: int
    place: int = 0
    claim: int = 0
    isolated: bool = False
    released_since: int | None = None
    releases: int = 0

    @property
    def turn(self) -> tuple[int, int, str]:
        record = self.record
        if record.status is Status.QUEUED:
            return (record.priority, self.place, record.id)
        return (record.scheduled_for or 0, self.number, record.id)

    def update(self, **changes: object) -> None:
        version = self.record.version + 1
        self.order.drop(self)
        self.record = msgspec.structs.replace(self.record, version=version, **changes)
        self.order.put(self)


class Store:
    """One app's jobs, and who works.

    :param settings: of the app.
    :param clock: the time.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.changed = _Changed()
        self._numbers = itertools.count(1)
        self._places = itertools.count(1)
        self.clear()

    def clear(self) -> None:
        """Forget all jobs and all workers."""
        self.table: dict[str, StoredJob] = {}
        self.leases: dict[str, float] = {}
        self.holders: dict[str, Holder] = {}
        self.order = Order()

    def insert_new(self, envelopes: Sequence[Envelope]) -> int:
        """Add jobs, but those whose ids are known. :return: the time now."""
        now = self.clock.now()
        for envelope in envelopes:
            if envelope.id not in self.table:
                self._insert(envelope, now)
        return now

    def _insert(self, envelope: Envelope, now: int) -> None:
        due_at = envelope.waits_until(now)
        self.add(
            JobRecord(
                id=envelope.id,
                queue=envelope.queue,
                actor=envelope.actor,
                priority=envelope.priority,
                status=Status.QUEUED if due_at is None else Status.SCHEDULED,
                message=envelope.message,
                created_at=now if envelope.created_at is None else envelope.created_at,
                updated_at=now,
                scheduled_for=due_at,
                max_attempts=envelope.max_attempts,
            )
        )

    def add(self, record: JobRecord) -> None:
        """Put a job into the table, and in its turn."""
        job = StoredJob(record, self.order, next(self._numbers))
        if record.status is Status.QUEUED:
            job.place = next(self._places)
        self.table[record.id] = job
        self.order.put(job)

    def remove(self, job: StoredJob) -> None:
        """Forget a job."""
        self.order.drop(job)
        del self.table[job.record.id]

    def find(self, job_id: str) -> StoredJob | None:
        """A job whose retention is not over."""
        job = self.table.get(job_id)
        if job is not None:
            expires_at = job.record.expires_at
            if expires_at is not None and expires_at <= self.clock.now():
                return None
        return job

    def with_status(self, *statuses: Status) -> list[StoredJob]:
        """All jobs with one of these statuses, in the order of their turns."""
        return [self.table[job_id] for one in statuses for job_id in self.order.ids(one)]

    def promote(self) -> None:
        """Queue the jobs whose time has come."""
        now = self.clock.now()
        while (due_at := self.next_due()) is not None and due_at <= now:
            job = self.table[next(self.order.ids(Status.SCHEDULED))]
            job.place = next(self._places)
            job.update(status=Status.QUEUED, scheduled_for=None, updated_at=now)

    def next_due(self) -> int | None:
        """When the next job's time comes, in ms since the epoch."""
        job_id = next(self.order.ids(Status.SCHEDULED), None)
        return None if job_id is None else self.table[job_id].record.scheduled_for

    def finish(self, job: StoredJob, status: Status, **changes: object) -> None:
        """Give a job a final status, and keep its record for its time."""
        now = self.clock.now()
        failed = status is Status.FAILED
        ttl = self.settings.failed_ttl if failed else self.settings.result_ttl
        job.released_since, job.releases, job.isolated = None, 0, False
        job.update(
            status=status,
            finished_at=now,
            updated_at=now,
            expires_at=min(now + ttl, END_OF_TIME),
            scheduled_for=None,
            status_reason=None,
            **changes,
        )

    def is_alive(self, worker: str) -> bool:
        """Whether a worker has a lease."""
        return self.leases.get(worker, 0) > self.clock.monotonic()
