"""The engine interface in plain Python, for tests and as a reference implementation.

All jobs are in one :class:`Store`. It is read and changed only while its condition is held.
:func:`flask_taskq.jobs.lifecycle.apply` makes each change.
"""

from __future__ import annotations

import itertools
import operator
import threading
from bisect import bisect_left
from bisect import bisect_right
from bisect import insort
from collections import Counter
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from ..clock import Clock
from ..config import Settings
from ..errors import LeaseLost
from ..jobs import lifecycle
from ..jobs.delivery import Delivery
from ..jobs.delivery import Envelope
from ..jobs.delivery import Report
from ..jobs.delivery import Settlement
from ..jobs.lifecycle import Change
from ..jobs.lifecycle import Retention
from ..jobs.record import JobRecord
from ..jobs.record import Lane
from ..jobs.record import Status
from . import listing
from .base import Consumer
from .base import Engine
from .base import Enqueued
from .base import HOUSEKEEPING_LIMIT
from .base import Jobs
from .base import Queues
from .base import Reported
from .base import Settled
from .base import Workers
from .listing import Count
from .listing import Entry
from .listing import Filter
from .listing import find_page
from .listing import Key
from .listing import merge_newest
from .listing import name_queued
from .listing import Page
from .listing import QueueState
from .listing import Section
from .listing import wanted_final
from .listing import WorkerInfo

WAITING: Final = (Status.QUEUED, Status.SCHEDULED)


@dataclass
class StoredJob:
    """A record, and the job's position.

    :param number: the position of the job in the order of sending.
    :param place: the position of the job in its queue, assigned when the job became queued.
    """

    record: JobRecord
    number: int
    place: int = 0

    @property
    def turn(self) -> Key:
        """The sort key for the jobs of one status."""
        record = self.record
        if record.status is Status.QUEUED:
            return (record.priority, self.place, record.id)
        return (record.scheduled_for or record.finished_at or 0, self.number, record.id)


class _Changed(threading.Condition):
    """A condition that a "with" statement enters and leaves in C code.

    The methods of the base class are Python code. An asynchronous exception, such as one from a
    signal handler, could arrive there after the lock was taken and before "with" has recorded
    that. The lock would then never be released.
    """

    __enter__ = property(operator.attrgetter("_lock.__enter__"))
    __exit__ = property(operator.attrgetter("_lock.__exit__"))


class Store:
    """The jobs and the workers of one app.

    :param settings: the settings of the app.
    :param clock: the source of the time.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.retention = Retention.from_settings(settings)
        self.changed = _Changed()
        self._numbers = itertools.count(1)
        self._places = itertools.count(1)
        self.clear()

    def clear(self) -> None:
        """Remove all jobs and all workers."""
        self.table: dict[str, StoredJob] = {}
        # The sort keys of jobs by status. They are always sorted, because a sort in each fetch
        # would make the cost of many waiting jobs grow with the square of their number.
        self.turns: dict[Status, list[Key]] = {status: [] for status in Status}
        #: The id of the job that holds each unique key.
        self.keys: dict[str, str] = {}
        self.paused: set[str] = set()
        self.leases: dict[str, float] = {}
        self.infos: dict[str, WorkerInfo] = {}

    def insert_new(self, envelope: Envelope) -> Enqueued:
        """Add a job, unless its id is known or another job holds its unique key."""
        now = self.clock.now()
        holder = self.keys.get(envelope.unique_key or "", "")
        known = self.table.get(envelope.id) or self.table.get(holder)
        if known is None:
            known = StoredJob(lifecycle.begin(envelope, now), next(self._numbers))
            if known.record.status is Status.QUEUED:
                known.place = next(self._places)
            self._put(known)
            reason = None
        else:
            reason = "id" if known.record.id == envelope.id else "unique"
        record = known.record
        return Enqueued(record.id, record.status, record.scheduled_for, reason, now)

    def change(self, job: StoredJob, change: Change) -> Status:
        """Apply a change to a job that has the source status of the transition."""
        before = job.record
        self._take_out(job)
        job.record = lifecycle.apply(before, change, self.clock.now(), self.retention)
        if change.transition.effects.takes_place:
            job.place = next(self._places)
        self._put(job)
        return job.record.status

    def replace(self, job: StoredJob, record: JobRecord) -> None:
        """Store a record that was changed without a transition."""
        self._take_out(job)
        job.record = record
        self._put(job)

    def remove(self, job: StoredJob) -> None:
        """Remove a job."""
        self._take_out(job)
        del self.table[job.record.id]

    def _put(self, job: StoredJob) -> None:
        record = job.record
        self.table[record.id] = job
        insort(self.turns[record.status], job.turn)
        if record.unique_key is not None and not record.status.is_final:
            self.keys[record.unique_key] = record.id

    def _take_out(self, job: StoredJob) -> None:
        record = job.record
        turns = self.turns[record.status]
        del turns[bisect_left(turns, job.turn)]
        if self.keys.get(record.unique_key or "") == record.id:
            del self.keys[record.unique_key or ""]

    def find(self, job_id: str) -> StoredJob | None:
        """Return a job, or None if there is none or its retention time is over."""
        job = self.table.get(job_id)
        return None if job is None or self._is_over(job.record) else job

    def _is_over(self, record: JobRecord) -> bool:
        return record.expires_at is not None and record.expires_at <= self.clock.now()

    def with_status(self, *statuses: Status) -> list[StoredJob]:
        """Return all jobs with one of these statuses, in the order of their sort keys."""
        return [self.table[turn[-1]] for status in statuses for turn in self.turns[status]]

    def held_by(self, delivery: Delivery) -> StoredJob | None:
        """Return the job of a delivery, or None if the delivery is not held under its token."""
        job = self.table.get(delivery.id)
        if job is None or job.record.status is not Status.RUNNING:
            return None
        token = (job.record.worker, job.record.claim)
        return job if token == (delivery.worker, delivery.claim) else None

    def promote(self) -> None:
        """Queue the scheduled jobs that are due."""
        now = self.clock.now()
        while (due_at := self.next_due()) is not None and due_at <= now:
            self.change(self.table[self.turns[Status.SCHEDULED][0][-1]], lifecycle.promote())

    def next_due(self) -> int | None:
        """Return when the next scheduled job is due, in milliseconds since the epoch."""
        turns = self.turns[Status.SCHEDULED]
        due_at: int | None = turns[0][0] if turns else None
        return due_at

    def is_alive(self, worker: str) -> bool:
        """Return whether a worker has a valid lease."""
        return self.leases.get(worker, 0) > self.clock.monotonic()


class MemoryConsumer(Consumer):
    def __init__(self, store: Store, queues: Sequence[str], worker: str, lane: Lane) -> None:
        self._store = store
        self._queues = list(queues)
        self._worker = worker
        self._lane = lane
        self._interrupted = False

    def fetch(self, limit: int, timeout: int) -> list[Delivery]:
        store = self._store
        until = store.clock.monotonic() + timeout
        with store.changed:
            while True:
                self._check_lease()
                deliveries = self._fetch_now(limit)
                left = until - store.clock.monotonic()
                if deliveries or left <= 0 or self._interrupted:
                    self._interrupted = False
                    return deliveries
                store.clock.wait(store.changed, self._until_next_due(left))

    def claim(self, job_ids: Sequence[str]) -> list[Delivery]:
        store = self._store
        with store.changed:
            self._check_lease()
            store.promote()
            jobs = [job for job_id in job_ids if (job := store.table.get(job_id)) is not None]
            return [self._claim(job) for job in jobs if job.record.status is Status.QUEUED]

    def _check_lease(self) -> None:
        if not self._store.is_alive(self._worker):
            raise LeaseLost(f"worker {self._worker} has no lease any more")

    def _until_next_due(self, left: float) -> float:
        due_at = self._store.next_due()
        if due_at is None:
            return left
        return max(0, min(left, due_at - self._store.clock.now()))

    def _fetch_now(self, limit: int) -> list[Delivery]:
        self._store.promote()
        return [self._claim(job) for job in list(itertools.islice(self._ready(), limit))]

    def _ready(self) -> Iterator[StoredJob]:
        for turn in self._store.turns[Status.QUEUED]:
            job = self._store.table[turn[-1]]
            queue = job.record.queue
            is_served = queue in self._queues and queue not in self._store.paused
            if is_served and job.record.lane is self._lane:
                yield job

    def _claim(self, job: StoredJob) -> Delivery:
        self._store.change(job, lifecycle.claim(self._worker, self._store.clock.now()))
        return lifecycle.deliver(job.record)

    def settle_if_held(self, settlements: Sequence[Settlement], then_fetch: int = 0) -> Settled:
        store = self._store
        outcomes: list[Status | None] = []
        ready: list[str] = []
        with store.changed:
            for settlement in settlements:
                outcomes.append(self._settle(settlement, ready))
            deliveries = []
            if then_fetch and store.is_alive(self._worker):
                deliveries = self._fetch_now(then_fetch)
            store.changed.notify_all()
        return Settled(outcomes, deliveries, ready)

    def _settle(self, settlement: Settlement, ready: list[str]) -> Status | None:
        store = self._store
        job = store.held_by(settlement.delivery)
        if job is None:
            return None
        now = store.clock.now()
        is_stopped = job.record.cancel_requested
        change = lifecycle.settle(settlement, job.record.attempts, now)
        store.replace(job, lifecycle.note(job.record, settlement, now))
        outcome = store.change(job, change)
        if not (is_stopped and change.otherwise):
            stored = [store.insert_new(envelope) for envelope in settlement.follow_ups]
            ready += [one.id for one in stored if one.is_new and one.status is Status.QUEUED]
        return outcome

    def report_if_held(self, reports: Sequence[Report]) -> Reported:
        stale, cancelled = [], []
        with self._store.changed:
            for report in reports:
                job = self._store.held_by(report.delivery)
                if job is None:
                    stale.append(report.delivery)
                    continue
                now = self._store.clock.now()
                self._store.replace(job, lifecycle.note(job.record, report, now))
                if job.record.cancel_requested:
                    cancelled.append(report.delivery)
        return Reported(stale, cancelled)

    def add_queue(self, queue: str) -> None:
        self._queues.append(queue)

    def interrupt(self) -> None:
        with self._store.changed:
            self._interrupted = True
            self._store.changed.notify_all()

    def close(self) -> None:
        pass


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
        store = self._store
        with store.changed:
            job = store.find(job_id)
            if job is None:
                return None
            change = lifecycle.cancel(job.record.status)
            if change is not None:
                store.change(job, change)
            elif job.record.status is Status.RUNNING and not job.record.cancel_requested:
                store.replace(job, lifecycle.ask_to_cancel(job.record, store.clock.now()))
            store.changed.notify_all()
            return job.record

    def requeue(self, job_id: str) -> JobRecord | None:
        store = self._store
        with store.changed:
            job = store.find(job_id)
            if job is None:
                return None
            change = lifecycle.requeue(job.record.status)
            if change is not None and job.record.unique_key not in store.keys:
                store.change(job, change)
            store.changed.notify_all()
            return job.record

    def delete(self, job_id: str) -> JobRecord | None:
        with self._store.changed:
            job = self._store.find(job_id)
            if job is None:
                return None
            if job.record.status is not Status.RUNNING:
                self._store.remove(job)
            self._store.changed.notify_all()
            return job.record

    def page(self, wanted: Filter, cursor: str | None = None, limit: int = 50) -> Page:
        with self._store.changed:
            return find_page(self._sections(wanted), wanted, cursor, limit)

    def _sections(self, wanted: Filter) -> Iterator[Section]:
        if wanted.has(Status.RUNNING):
            yield Section("running", partial(self._read, Status.RUNNING, lambda job: True))
        if wanted.has(Status.QUEUED):
            queued = self._store.with_status(Status.QUEUED)
            for queue in sorted({job.record.queue for job in queued}):
                for lane in sorted(Lane):
                    stands = partial(_stands_in, queue, lane)
                    read = partial(self._read, Status.QUEUED, stands)
                    yield Section(name_queued(queue, lane), read)
        if wanted.has(Status.SCHEDULED):
            yield Section("scheduled", partial(self._read, Status.SCHEDULED, lambda job: True))
        if final := wanted_final(wanted):
            yield Section("final", partial(self._read_newest, final))

    def _read(
        self,
        status: Status,
        fits: Callable[[StoredJob], bool],
        after: Key | None,
        limit: int,
    ) -> list[Entry]:
        turns = self._store.turns[status]
        start = 0 if after is None else bisect_right(turns, tuple(after))
        entries: list[Entry] = []
        for turn in turns[start:]:
            job = self._store.table[turn[-1]]
            if fits(job):
                entries.append((turn, job.record))
                if len(entries) == limit:
                    break
        return entries

    def _read_newest(
        self, statuses: Sequence[Status], after: Key | None, limit: int
    ) -> list[Entry]:
        lists = []
        for status in statuses:
            turns = self._store.turns[status]
            end = len(turns) if after is None else bisect_left(turns, tuple(after))
            newest = [self._store.table[turn[-1]] for turn in turns[max(0, end - limit) : end]]
            lists.append([(job.turn, self._if_kept(job.record)) for job in reversed(newest)])
        return merge_newest(lists, limit)

    def _if_kept(self, record: JobRecord) -> JobRecord | None:
        return None if self._store.find(record.id) is None else record

    def counts(self, wanted: Filter) -> dict[Status, Count]:
        counts = {}
        with self._store.changed:
            for status in Status:
                if wanted.has(status):
                    turns = self._store.turns[status]
                    looked_at = [
                        self._store.find(turn[-1]) for turn in turns[-listing.WINDOW :]
                    ]
                    number = sum(
                        job is not None and wanted.fits(job.record) for job in looked_at
                    )
                    counts[status] = Count(number, len(turns) <= listing.WINDOW)
        return counts

    def prune(self) -> int:
        store = self._store
        with store.changed:
            over = (job_id for job_id in store.table if store.find(job_id) is None)
            removed = list(itertools.islice(over, HOUSEKEEPING_LIMIT))
            for job_id in removed:
                store.remove(store.table[job_id])
            return len(removed)


def _stands_in(queue: str, lane: Lane, job: StoredJob) -> bool:
    return job.record.queue == queue and job.record.lane is lane


class MemoryQueues(Queues):
    def __init__(self, store: Store) -> None:
        self._store = store

    def depths(self) -> dict[str, int]:
        with self._store.changed:
            waiting = self._store.with_status(*WAITING)
            return dict(Counter(job.record.queue for job in waiting))

    def states(self) -> list[QueueState]:
        with self._store.changed:
            queued = self._store.with_status(Status.QUEUED)
            scheduled = self._store.with_status(Status.SCHEDULED)
            waits = Counter(job.record.queue for job in queued)
            waits_later = Counter(job.record.queue for job in scheduled)
            first = {job.record.queue: job.record.updated_at for job in reversed(queued)}
            paused = self._store.paused
            return [
                QueueState(
                    name, waits[name], waits_later[name], first.get(name), name in paused
                )
                for name in sorted({*waits, *waits_later, *paused})
            ]

    def paused(self) -> set[str]:
        with self._store.changed:
            return set(self._store.paused)

    def pause(self, queue: str) -> None:
        with self._store.changed:
            self._store.paused.add(queue)

    def resume(self, queue: str) -> None:
        with self._store.changed:
            self._store.paused.discard(queue)
            self._store.changed.notify_all()

    def has_due(self, queues: Sequence[str], lane: Lane) -> bool:
        with self._store.changed:
            now = self._store.clock.now()
            served = set(queues) - self._store.paused
            return any(
                job.record.lane is lane
                and job.record.queue in served
                and (job.record.scheduled_for or 0) <= now
                for job in self._store.with_status(*WAITING)
            )

    def purge(self, queue: str) -> int:
        with self._store.changed:
            waiting = self._store.with_status(*WAITING)
            removed = [job for job in waiting if job.record.queue == queue]
            for job in removed:
                self._store.remove(job)
            self._store.changed.notify_all()
            return len(removed)


class MemoryWorkers(Workers):
    def __init__(self, store: Store) -> None:
        self._store = store

    def register(self, worker: str, info: WorkerInfo | None = None) -> None:
        with self._store.changed:
            self._prolong(worker)
            if info is not None:
                self._store.infos[worker] = info

    def renew(self, workers: Sequence[str]) -> list[str]:
        with self._store.changed:
            for worker in workers:
                if worker in self._store.leases:
                    self._prolong(worker)
            return [worker for worker in workers if worker not in self._store.leases]

    def _prolong(self, worker: str) -> None:
        lease = self._store.settings.lease
        self._store.leases[worker] = self._store.clock.monotonic() + lease

    def count(self) -> int:
        with self._store.changed:
            return sum(map(self._store.is_alive, self._store.leases))

    def all(self) -> dict[str, WorkerInfo]:
        with self._store.changed:
            alive = filter(self._store.is_alive, self._store.leases)
            return {worker: self._store.infos.get(worker, WorkerInfo()) for worker in alive}

    def list_on(self, host: str) -> dict[str, WorkerInfo]:
        with self._store.changed:
            infos = self._store.infos.items()
            return {worker: info for worker, info in infos if info.host == host}

    def hand_back(self, worker: str, started: Sequence[str] | None, cause: str) -> list[str]:
        with self._store.changed:
            if worker not in self._store.leases:
                return []
            return self._take_from(worker, started or (), started is None, cause)

    def reap(self) -> list[str]:
        store = self._store
        with store.changed:
            over = [worker for worker in store.leases if not store.is_alive(worker)]
            for worker in over:
                self._take_from(worker, (), True, "its lease ran out")
            return over

    def _take_from(
        self, worker: str, started: Collection[str], vanished: bool, cause: str
    ) -> list[str]:
        store = self._store
        del store.leases[worker]
        store.infos.pop(worker, None)
        failed = []
        for job in store.with_status(Status.RUNNING):
            record = job.record
            if record.worker != worker:
                continue
            change = lifecycle.lose(
                crashes=record.crashes,
                suspects=record.suspects,
                crashed=record.id in started,
                vanished=vanished,
                cause=cause,
                max_crashes=store.settings.max_crashes,
                now=store.clock.now(),
            )
            if store.change(job, change) is Status.FAILED:
                failed.append(record.id)
        store.changed.notify_all()
        return failed


class MemoryEngine(Engine):
    """An engine that stores jobs in this process. They are lost when the process ends, and no
    other process can access them."""

    is_shared = False

    def __init__(self, settings: Settings, clock: Clock) -> None:
        super().__init__(settings, clock)
        self.store = Store(settings, clock)
        self.jobs = MemoryJobs(self.store)
        self.queues = MemoryQueues(self.store)
        self.workers = MemoryWorkers(self.store)

    def set_clock(self, clock: Clock) -> None:
        """Use another clock, as tests do."""
        self.clock = self.store.clock = clock

    def connect(self) -> None:
        pass

    def close(self) -> None:
        pass

    def enqueue(self, envelopes: Sequence[Envelope]) -> list[Enqueued]:
        with self.store.changed:
            stored = [self.store.insert_new(envelope) for envelope in envelopes]
            self.store.changed.notify_all()
        return stored

    def consumer(
        self, queues: Sequence[str], worker: str, lane: Lane = Lane.ORDINARY
    ) -> Consumer:
        return MemoryConsumer(self.store, queues, worker, lane)

    def records(self, *statuses: Status) -> list[JobRecord]:
        """Return the records of all jobs with one of these statuses, in the order of
        sending."""
        with self.store.changed:
            jobs = sorted(self.store.with_status(*statuses), key=lambda job: job.number)
            return [job.record for job in jobs]

    def clear(self) -> None:
        """Remove all jobs and all workers."""
        with self.store.changed:
            self.store.clear()
            self.store.changed.notify_all()
