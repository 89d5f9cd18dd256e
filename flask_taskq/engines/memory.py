"""The contract in plain Python: the engine for tests, and the reference for readers."""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left
from bisect import insort
from collections import Counter
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ..clock import Clock
from ..config import Settings
from ..errors import LeaseLost
from ..record import FINAL
from ..record import JobRecord
from ..record import Status
from .base import Cancelled
from .base import Consumer
from .base import Delivery
from .base import Done
from .base import Envelope
from .base import Expired
from .base import Failed
from .base import GivenBack
from .base import HOUSEKEEPING_LIMIT
from .base import HOUSEKEEPING_SIZE
from .base import Queues
from .base import Report
from .base import Reported
from .base import Retry
from .base import Settled
from .base import Settlement
from .base import StoredJobs
from .base import StoringEngine
from .base import weigh
from .base import Workers
from .judgement import judge
from .keeping import add_attempt
from .keeping import add_lines
from .keeping import cut_progress

WAITING = (Status.QUEUED, Status.SCHEDULED)


class _Order:
    """The ids of jobs by status, and in each in the order of their turns.

    Sorted at all times, because a fetch that sorted first would make a thousand waiting jobs
    cost a million steps.
    """

    def __init__(self) -> None:
        self._turns: dict[Status, list[tuple[int, int, str]]] = {one: [] for one in Status}

    def ids(self, status: Status) -> Iterator[str]:
        return (job_id for _, _, job_id in self._turns[status])

    def put(self, job: _Job) -> None:
        insort(self._turns[job.record.status], job.turn)

    def drop(self, job: _Job) -> None:
        turns = self._turns[job.record.status]
        del turns[bisect_left(turns, job.turn)]


@dataclass
class _Job:
    """A record, and what the engine needs besides it."""

    record: JobRecord
    order: _Order
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


class MemoryEngine(StoringEngine):
    """Jobs in this process: nothing is kept when it ends, no other process sees them."""

    is_shared = False

    def __init__(self, settings: Settings, clock: Clock) -> None:
        super().__init__(settings, clock)
        self.changed = threading.Condition()
        self.table: dict[str, _Job] = {}
        # The ids of records that were given away, and until when each is taken.
        self.given_away: dict[str, int] = {}
        self.leases: dict[str, float] = {}
        self.order = _Order()
        self._numbers = itertools.count(1)
        self._places = itertools.count(1)
        self.jobs = _Jobs(self)
        self.queues = _Queues(self)
        self.workers = _Workers(self)

    def connect(self) -> None:
        pass

    def close(self) -> None:
        pass

    def enqueue(self, envelopes: Sequence[Envelope]) -> None:
        with self.changed:
            self.insert_new(envelopes)
            self.changed.notify_all()

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
        return _Consumer(self, queues, worker, isolated, only)

    def records(self, *statuses: Status) -> list[JobRecord]:
        """The records of all jobs with one of these statuses, in the order of their sending."""
        with self.changed:
            jobs = sorted(self.with_status(*statuses), key=lambda job: job.number)
            return [job.record for job in jobs]

    def clear(self) -> None:
        """Forget all jobs and all workers."""
        with self.changed:
            self.table.clear()
            self.given_away.clear()
            self.leases.clear()
            self.order = _Order()
            self.changed.notify_all()

    def _insert(self, envelope: Envelope) -> None:
        now = self.clock.now()
        later = envelope.due_at is not None and envelope.due_at > now
        job = _Job(
            JobRecord(
                id=envelope.id,
                queue=envelope.queue,
                actor=envelope.actor,
                priority=envelope.priority,
                status=Status.SCHEDULED if later else Status.QUEUED,
                message=envelope.message,
                created_at=envelope.created_at,
                updated_at=now,
                scheduled_for=envelope.due_at if later else None,
                max_attempts=envelope.max_attempts,
            ),
            order=self.order,
            number=next(self._numbers),
            place=0 if later else next(self._places),
        )
        self.table[envelope.id] = job
        self.order.put(job)

    # What follows is called with the condition held.

    def insert_new(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            if envelope.id not in self.table and envelope.id not in self.given_away:
                self._insert(envelope)

    def find(self, job_id: str) -> _Job | None:
        job = self.table.get(job_id)
        if job is not None:
            expires_at = job.record.expires_at
            if expires_at is not None and expires_at <= self.clock.now():
                return None
        return job

    def with_status(self, *statuses: Status) -> list[_Job]:
        return [self.table[job_id] for one in statuses for job_id in self.order.ids(one)]

    def remove(self, job: _Job) -> None:
        self.order.drop(job)
        del self.table[job.record.id]

    def adopt(self, record: JobRecord) -> None:
        known = self.table.get(record.id)
        if known is not None:
            self.remove(known)
        if (record.expires_at or 0) > self.clock.now():
            job = _Job(record, order=self.order, number=next(self._numbers))
            self.table[record.id] = job
            self.order.put(job)

    def promote(self) -> None:
        now = self.clock.now()
        while (due_at := self.next_due()) is not None and due_at <= now:
            job = self.table[next(self.order.ids(Status.SCHEDULED))]
            job.place = next(self._places)
            job.update(status=Status.QUEUED, scheduled_for=None, updated_at=now)

    def next_due(self) -> int | None:
        job_id = next(self.order.ids(Status.SCHEDULED), None)
        return None if job_id is None else self.table[job_id].record.scheduled_for

    def finish(self, job: _Job, status: Status, **changes: object) -> None:
        now = self.clock.now()
        failed = status is Status.FAILED
        ttl = self.settings.failed_ttl if failed else self.settings.result_ttl
        job.released_since, job.releases, job.isolated = None, 0, False
        job.update(
            status=status,
            finished_at=now,
            updated_at=now,
            expires_at=now + ttl,
            scheduled_for=None,
            status_reason=None,
            **changes,
        )

    def is_alive(self, worker: str) -> bool:
        return self.leases.get(worker, 0) > self.clock.monotonic()

    def take_from(
        self, worker: str, started: Collection[str], vanished: bool, cause: str
    ) -> list[str]:
        del self.leases[worker]
        failed = []
        for job in self.with_status(Status.RUNNING):
            record = job.record
            if record.worker != worker:
                continue
            now = self.clock.now()
            verdict = judge(
                crashes=record.crashes,
                suspects=record.suspects,
                crashed=record.id in started,
                vanished=vanished,
                cause=cause,
                max_crashes=self.settings.max_crashes,
                now=now,
            )
            counters = {
                "crashes": verdict.crashes,
                "suspects": verdict.suspects,
                "attempt": record.attempt - 1,
                "worker": None,
            }
            if verdict.status is Status.FAILED:
                self.finish(job, Status.FAILED, error=verdict.error, **counters)
                failed.append(record.id)
            elif record.cancel_requested:
                self.finish(job, Status.CANCELLED, **counters)
            else:
                job.isolated = job.isolated or verdict.isolated
                job.update(
                    status=verdict.status,
                    scheduled_for=verdict.due_at,
                    status_reason="worker_lost",
                    updated_at=now,
                    **counters,
                )
        self.changed.notify_all()
        return failed


class _Consumer(Consumer):
    def __init__(
        self,
        engine: MemoryEngine,
        queues: Sequence[str],
        worker: str,
        isolated: bool,
        only: str | None,
    ) -> None:
        self._engine = engine
        self._queues = list(queues)
        self._worker = worker
        self._isolated = isolated
        self._only = only
        self._interrupted = False

    def fetch(self, limit: int, timeout: int) -> list[Delivery]:
        engine = self._engine
        until = engine.clock.monotonic() + timeout
        with engine.changed:
            while True:
                if not engine.is_alive(self._worker):
                    raise LeaseLost(f"worker {self._worker} has no lease any more")
                deliveries = self._claim(limit)
                left = until - engine.clock.monotonic()
                if deliveries or left <= 0 or self._interrupted:
                    self._interrupted = False
                    return deliveries
                engine.clock.wait(engine.changed, self._until_next_due(left))

    def _until_next_due(self, left: float) -> float:
        due_at = self._engine.next_due()
        if due_at is None:
            return left
        return max(0, min(left, due_at - self._engine.clock.now()))

    def _claim(self, limit: int) -> list[Delivery]:
        self._engine.promote()
        ready = list(itertools.islice(self._ready(), limit))
        return [self._deliver(job) for job in ready]

    def _ready(self) -> Iterator[_Job]:
        if self._only is not None:
            job = self._engine.table.get(self._only)
            if job is not None and job.record.status is Status.QUEUED:
                yield job
            return
        for job_id in self._engine.order.ids(Status.QUEUED):
            job = self._engine.table[job_id]
            if job.record.queue in self._queues and job.isolated is self._isolated:
                yield job

    def _deliver(self, job: _Job) -> Delivery:
        now = self._engine.clock.now()
        job.claim += 1
        job.update(
            status=Status.RUNNING,
            worker=self._worker,
            attempt=job.record.attempt + 1,
            started_at=now,
            updated_at=now,
            status_reason=None,
            progress=None,
        )
        record = job.record
        return Delivery(
            id=record.id,
            queue=record.queue,
            actor=record.actor,
            priority=record.priority,
            message=record.message,
            worker=self._worker,
            attempt=record.attempt,
            claim=job.claim,
            created_at=record.created_at,
            crashes=record.crashes,
            released_since=job.released_since,
            releases=job.releases,
        )

    def settle_if_held(self, settlements: Sequence[Settlement], then_fetch: int = 0) -> Settled:
        engine = self._engine
        with engine.changed:
            stale = []
            for settlement in settlements:
                delivery = settlement.delivery
                job = engine.table.get(delivery.id)
                if job is None or not self._holds(job, delivery):
                    stale.append(delivery)
                else:
                    would_run_again = isinstance(settlement, (Retry, GivenBack))
                    is_stopped = job.record.cancel_requested and would_run_again
                    self._keep(job, settlement)
                    self._settle(job, settlement)
                    if not is_stopped:
                        engine.insert_new(settlement.follow_ups)
            deliveries = []
            if then_fetch and engine.is_alive(self._worker):
                deliveries = self._claim(then_fetch)
            engine.changed.notify_all()
            return Settled(stale, deliveries)

    def report_if_held(self, reports: Sequence[Report]) -> Reported:
        stale, cancelled = [], []
        with self._engine.changed:
            for report in reports:
                job = self._engine.table.get(report.delivery.id)
                if job is None or not self._holds(job, report.delivery):
                    stale.append(report.delivery)
                    continue
                self._keep(job, report)
                if job.record.cancel_requested:
                    cancelled.append(report.delivery)
        return Reported(stale, cancelled)

    def _keep(self, job: _Job, told: Report | Settlement) -> None:
        record = job.record
        if told.progress is not None or told.logs:
            job.update(
                progress=cut_progress(told.progress) if told.progress else record.progress,
                logs=add_lines(record.logs, told.logs),
                updated_at=self._engine.clock.now(),
            )

    def _holds(self, job: _Job, delivery: Delivery) -> bool:
        return (
            job.record.status is Status.RUNNING
            and job.record.worker == delivery.worker
            and job.claim == delivery.claim
        )

    def _settle(self, job: _Job, settlement: Settlement) -> None:
        finish = self._engine.finish
        started = {"started_at": settlement.started_at or job.record.started_at}
        charged: dict[str, object] = {}
        if isinstance(settlement, (Retry, Failed, Cancelled)):
            now = self._engine.clock.now()
            attempts = add_attempt(job.record.attempts, settlement, now)
            charged = {**started, "error": settlement.error, "attempts": attempts}
        match settlement:
            case Done():
                finish(job, Status.SUCCEEDED, result=settlement.result, error=None, **started)
            case Failed():
                finish(job, Status.FAILED, **charged)
            case Cancelled():
                finish(job, Status.CANCELLED, **charged)
            case Expired():
                attempt = job.record.attempt - 1
                finish(job, Status.EXPIRED, error=settlement.error, attempt=attempt)
            case Retry() if job.record.cancel_requested:
                finish(job, Status.CANCELLED, **charged)
            case Retry():
                job.released_since, job.releases = None, 0
                job.update(
                    status=Status.SCHEDULED,
                    scheduled_for=settlement.at,
                    worker=None,
                    updated_at=self._engine.clock.now(),
                    **charged,
                )
            case GivenBack() if job.record.cancel_requested:
                finish(job, Status.CANCELLED, attempt=job.record.attempt - 1)
            case GivenBack():
                self._give_back(job, settlement)
            case _:
                raise TypeError(f"{type(settlement).__name__} is no settlement")

    def _give_back(self, job: _Job, settlement: GivenBack) -> None:
        now = self._engine.clock.now()
        if settlement.at is not None and settlement.started_at is None:
            job.released_since = job.released_since or now
            job.releases += 1
        elif settlement.at is not None:
            job.released_since, job.releases = None, 0
        job.update(
            status=Status.QUEUED if settlement.at is None else Status.SCHEDULED,
            scheduled_for=settlement.at,
            status_reason=settlement.reason,
            attempt=job.record.attempt - 1,
            worker=None,
            updated_at=now,
        )

    def interrupt(self) -> None:
        with self._engine.changed:
            self._interrupted = True
            self._engine.changed.notify_all()

    def close(self) -> None:
        pass


class _Jobs(StoredJobs):
    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine

    def get(self, job_id: str) -> JobRecord | None:
        with self._engine.changed:
            job = self._engine.find(job_id)
            return None if job is None else job.record

    def wait(self, job_id: str, timeout: int | None) -> JobRecord | None:
        engine = self._engine
        until = None if timeout is None else engine.clock.monotonic() + timeout
        with engine.changed:
            while True:
                job = engine.find(job_id)
                if job is None or job.record.status.is_final:
                    return None if job is None else job.record
                left = None if until is None else until - engine.clock.monotonic()
                if left is not None and left <= 0:
                    return job.record
                engine.clock.wait(engine.changed, left)

    def cancel(self, job_id: str) -> JobRecord | None:
        with self._engine.changed:
            job = self._engine.find(job_id)
            if job is None:
                return None
            if job.record.status in WAITING:
                self._engine.finish(job, Status.CANCELLED, cancel_requested=True)
            elif job.record.status is Status.RUNNING and not job.record.cancel_requested:
                job.update(cancel_requested=True, updated_at=self._engine.clock.now())
            self._engine.changed.notify_all()
            return job.record

    def prune(self) -> int:
        engine = self._engine
        with engine.changed:
            over = (job_id for job_id in engine.table if engine.find(job_id) is None)
            removed = list(itertools.islice(over, HOUSEKEEPING_LIMIT))
            for job_id in removed:
                engine.remove(engine.table[job_id])
            now = engine.clock.now()
            free = [job_id for job_id, until in engine.given_away.items() if until <= now]
            for job_id in free:
                del engine.given_away[job_id]
            return len(removed) + len(free)

    def list_final(self) -> list[JobRecord]:
        with self._engine.changed:
            final = [job.record for job in self._engine.with_status(*FINAL)]
        final.sort(key=lambda record: record.finished_at or 0)
        sizes = itertools.accumulate(map(weigh, final), initial=0)
        chosen = itertools.islice(zip(final, sizes, strict=False), HOUSEKEEPING_LIMIT)
        return [record for record, before in chosen if before < HOUSEKEEPING_SIZE]

    def adopt(self, records: Sequence[JobRecord]) -> None:
        with self._engine.changed:
            for record in records:
                self._engine.adopt(record)
            self._engine.changed.notify_all()

    def give_away(self, records: Sequence[JobRecord]) -> int:
        removed = 0
        with self._engine.changed:
            for record in records:
                job = self._engine.table.get(record.id)
                if job is None or not job.record.status.is_final:
                    continue
                if job.record.version == record.version:
                    self._engine.remove(job)
                    self._engine.given_away[record.id] = record.expires_at or 0
                    removed += 1
            self._engine.changed.notify_all()
        return removed


class _Queues(Queues):
    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine

    def depths(self) -> dict[str, int]:
        with self._engine.changed:
            waiting = self._engine.with_status(*WAITING)
            return dict(Counter(job.record.queue for job in waiting))

    def purge(self, queue: str) -> int:
        with self._engine.changed:
            waiting = self._engine.with_status(*WAITING)
            removed = [job for job in waiting if job.record.queue == queue]
            for job in removed:
                self._engine.remove(job)
            self._engine.changed.notify_all()
            return len(removed)


class _Workers(Workers):
    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine

    def register(self, worker: str) -> None:
        with self._engine.changed:
            self._prolong(worker)

    def renew(self, workers: Sequence[str]) -> list[str]:
        with self._engine.changed:
            for worker in workers:
                if worker in self._engine.leases:
                    self._prolong(worker)
            return [worker for worker in workers if worker not in self._engine.leases]

    def _prolong(self, worker: str) -> None:
        lease = self._engine.settings.lease
        self._engine.leases[worker] = self._engine.clock.monotonic() + lease

    def hand_back(self, worker: str, started: Sequence[str], cause: str) -> list[str]:
        with self._engine.changed:
            if worker not in self._engine.leases:
                return []
            return self._engine.take_from(worker, started, False, cause)

    def reap(self) -> list[str]:
        engine = self._engine
        with engine.changed:
            over = [worker for worker in engine.leases if not engine.is_alive(worker)]
            for worker in over:
                engine.take_from(worker, (), True, "its lease ran out")
            return over

    def has_isolated(self, queues: Sequence[str]) -> bool:
        with self._engine.changed:
            now = self._engine.clock.now()
            return any(
                job.isolated
                and job.record.queue in queues
                and (job.record.scheduled_for or 0) <= now
                for job in self._engine.with_status(*WAITING)
            )
