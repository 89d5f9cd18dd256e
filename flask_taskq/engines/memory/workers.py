"""Who works, under which lease, and what becomes of the jobs of those that are gone."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence

from ...record import Status
from ..base import Holder
from ..base import Workers
from ..judgement import judge
from .store import Store
from .store import WAITING


class MemoryWorkers(Workers):
    def __init__(self, store: Store) -> None:
        self._store = store

    def register(self, worker: str, holder: Holder | None = None) -> None:
        with self._store.changed:
            self._prolong(worker)
            if holder is not None:
                self._store.holders[worker] = holder

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

    def list_holders(self, host: str) -> dict[str, Holder]:
        with self._store.changed:
            holders = self._store.holders.items()
            return {worker: one for worker, one in holders if one.host == host}

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
        store.holders.pop(worker, None)
        failed = []
        for job in store.with_status(Status.RUNNING):
            record = job.record
            if record.worker != worker:
                continue
            now = store.clock.now()
            verdict = judge(
                crashes=record.crashes,
                suspects=record.suspects,
                crashed=record.id in started,
                vanished=vanished,
                cause=cause,
                max_crashes=store.settings.max_crashes,
                now=now,
            )
            counters = {
                "crashes": verdict.crashes,
                "suspects": verdict.suspects,
                "attempt": record.attempt - 1,
                "worker": None,
            }
            if verdict.status is Status.FAILED:
                store.finish(job, Status.FAILED, error=verdict.error, **counters)
                failed.append(record.id)
            elif record.cancel_requested:
                store.finish(job, Status.CANCELLED, **counters)
            else:
                job.isolated = job.isolated or verdict.isolated
                job.update(
                    status=verdict.status,
                    scheduled_for=verdict.due_at,
                    status_reason="worker_lost",
                    updated_at=now,
                    **counters,
                )
        store.changed.notify_all()
        return failed

    def has_isolated(self, queues: Sequence[str]) -> bool:
        with self._store.changed:
            now = self._store.clock.now()
            return any(
                job.isolated
                and job.record.queue in queues
                and (job.record.scheduled_for or 0) <= now
                for job in self._store.with_status(*WAITING)
            )
