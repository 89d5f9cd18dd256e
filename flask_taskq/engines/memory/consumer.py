"""The reading end: claims jobs, settles them, and keeps what they tell."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from collections.abc import Sequence

from ...errors import LeaseLost
from ...record import Status
from ..base import Cancelled
from ..base import Consumer
from ..base import Delivery
from ..base import Done
from ..base import Expired
from ..base import Failed
from ..base import GivenBack
from ..base import Report
from ..base import Reported
from ..base import Retry
from ..base import Settled
from ..base import Settlement
from ..keeping import add_attempt
from ..keeping import add_lines
from ..keeping import cut_progress
from .store import Store
from .store import StoredJob


class MemoryConsumer(Consumer):
    def __init__(
        self,
        store: Store,
        queues: Sequence[str],
        worker: str,
        isolated: bool,
        only: str | None,
    ) -> None:
        self._store = store
        self._queues = list(queues)
        self._worker = worker
        self._isolated = isolated
        self._only = only
        self._interrupted = False

    def fetch(self, limit: int, timeout: int) -> list[Delivery]:
        store = self._store
        until = store.clock.monotonic() + timeout
        with store.changed:
            while True:
                if not store.is_alive(self._worker):
                    raise LeaseLost(f"worker {self._worker} has no lease any more")
                deliveries = self._claim(limit)
                left = until - store.clock.monotonic()
                if deliveries or left <= 0 or self._interrupted:
                    self._interrupted = False
                    return deliveries
                store.clock.wait(store.changed, self._until_next_due(left))

    def _until_next_due(self, left: float) -> float:
        due_at = self._store.next_due()
        if due_at is None:
            return left
        return max(0, min(left, due_at - self._store.clock.now()))

    def _claim(self, limit: int) -> list[Delivery]:
        self._store.promote()
        ready = list(itertools.islice(self._ready(), limit))
        return [self._deliver(job) for job in ready]

    def _ready(self) -> Iterator[StoredJob]:
        if self._only is not None:
            job = self._store.table.get(self._only)
            if job is not None and job.record.status is Status.QUEUED:
                yield job
            return
        for job_id in self._store.order.ids(Status.QUEUED):
            job = self._store.table[job_id]
            if job.record.queue in self._queues and job.isolated is self._isolated:
                yield job

    def _deliver(self, job: StoredJob) -> Delivery:
        now = self._store.clock.now()
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
        store = self._store
        with store.changed:
            stale = []
            for settlement in settlements:
                delivery = settlement.delivery
                job = store.table.get(delivery.id)
                if job is None or not self._holds(job, delivery):
                    stale.append(delivery)
                else:
                    would_run_again = isinstance(settlement, (Retry, GivenBack))
                    is_stopped = job.record.cancel_requested and would_run_again
                    self._keep(job, settlement)
                    self._settle(job, settlement)
                    if not is_stopped:
                        store.insert_new(settlement.follow_ups)
            deliveries = []
            if then_fetch and store.is_alive(self._worker):
                deliveries = self._claim(then_fetch)
            store.changed.notify_all()
            return Settled(stale, deliveries)

    def report_if_held(self, reports: Sequence[Report]) -> Reported:
        stale, cancelled = [], []
        with self._store.changed:
            for report in reports:
                job = self._store.table.get(report.delivery.id)
                if job is None or not self._holds(job, report.delivery):
                    stale.append(report.delivery)
                    continue
                self._keep(job, report)
                if job.record.cancel_requested:
                    cancelled.append(report.delivery)
        return Reported(stale, cancelled)

    def _keep(self, job: StoredJob, told: Report | Settlement) -> None:
        record = job.record
        if told.progress is not None or told.logs:
            job.update(
                progress=cut_progress(told.progress) if told.progress else record.progress,
                logs=add_lines(record.logs, told.logs),
                updated_at=self._store.clock.now(),
            )

    def _holds(self, job: StoredJob, delivery: Delivery) -> bool:
        return (
            job.record.status is Status.RUNNING
            and job.record.worker == delivery.worker
            and job.claim == delivery.claim
        )

    def _settle(self, job: StoredJob, settlement: Settlement) -> None:
        finish = self._store.finish
        started = {"started_at": settlement.started_at or job.record.started_at}
        charged: dict[str, object] = {}
        if isinstance(settlement, (Retry, Failed, Cancelled)):
            now = self._store.clock.now()
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
                    updated_at=self._store.clock.now(),
                    **charged,
                )
            case GivenBack() if job.record.cancel_requested:
                finish(job, Status.CANCELLED, attempt=job.record.attempt - 1)
            case GivenBack():
                self._give_back(job, settlement)
            case _:
                raise TypeError(f"{type(settlement).__name__} is no settlement")

    def _give_back(self, job: StoredJob, settlement: GivenBack) -> None:
        now = self._store.clock.now()
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

    def add_queue(self, queue: str) -> None:
        self._queues.append(queue)

    def interrupt(self) -> None:
        with self._store.changed:
            self._interrupted = True
            self._store.changed.notify_all()

    def close(self) -> None:
        pass
