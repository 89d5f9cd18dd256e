"""The workers, their leases, and the reclaim of jobs from workers that have died."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from collections.abc import Sequence

import msgspec

from ...jobs.lifecycle import lose
from ...jobs.record import Status
from ..base import Workers
from ..listing import WorkerInfo
from .store import Store
from .transitions import change

_info_decoder = msgspec.json.Decoder(WorkerInfo)


def is_alive(lease: tuple[float, int] | None, now: float) -> bool:
    """Return whether a lease is valid.

    :param lease: the end and the length of the lease, or None if there is no lease.
    :param now: the time of the monotonic clock. This clock restarts when the machine boots. If
        an end is further away than the length of the lease, the lease is from before the boot.
    """
    return lease is not None and now < lease[0] <= now + lease[1]


class SQLiteWorkers(Workers):
    """The workers. Each has a row with its lease."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def register(self, worker: str, info: WorkerInfo | None = None) -> None:
        store = self._store
        lease = store.settings.lease

        def register(connection: sqlite3.Connection) -> None:
            # The lease begins here, after the wait for the lock.
            until = store.clock.monotonic() + lease
            connection.execute(store.statements.register, (worker, until, lease))
            if info is not None:
                values = (info.host, msgspec.json.encode(info), worker)
                connection.execute(store.statements.introduce, values)

        store.write(register)

    def renew(self, workers: Sequence[str]) -> list[str]:
        store = self._store
        lease = store.settings.lease

        def renew(connection: sqlite3.Connection) -> list[str]:
            # The lease begins here, after the wait for the lock.
            until = store.clock.monotonic() + lease
            return [
                worker
                for worker in workers
                if not connection.execute(
                    store.statements.renew, (until, lease, worker)
                ).rowcount
            ]

        return store.write(renew)

    def count(self) -> int:
        return len(self._alive())

    def all(self) -> dict[str, WorkerInfo]:
        return {worker: _to_info(data) for worker, data in self._alive()}

    def _alive(self) -> list[tuple[str, bytes | None]]:
        statement = self._store.statements.workers
        now = self._store.clock.monotonic()
        return self._store.read(lambda on: on.execute(statement, (now, now)).fetchall())

    def list_on(self, host: str) -> dict[str, WorkerInfo]:
        statement = self._store.statements.workers_on
        rows = self._store.read(lambda on: on.execute(statement, (host,)).fetchall())
        return {worker: _to_info(data) for worker, data in rows}

    def hand_back(self, worker: str, started: Sequence[str] | None, cause: str) -> list[str]:
        store = self._store
        running = frozenset(started or ())

        def hand_back(connection: sqlite3.Connection) -> list[str] | None:
            lease = connection.execute(store.statements.lease, (worker,)).fetchone()
            if lease is None:
                return None
            return self._take_from(connection, worker, running, started is None, cause)

        failed = store.write(hand_back)
        if failed is not None:
            store.wakeup.notify()
        return failed or []

    def reap(self) -> list[str]:
        store = self._store
        if not store.read(self._lapsed):
            return []

        def reap(connection: sqlite3.Connection) -> list[str]:
            over = self._lapsed(connection)  # a lease may have been renewed meanwhile
            for worker in over:
                self._take_from(connection, worker, (), True, "its lease ran out")
            return over

        reaped = store.write(reap)
        if reaped:
            store.wakeup.notify()
        return reaped

    def _lapsed(self, connection: sqlite3.Connection) -> list[str]:
        now = self._store.clock.monotonic()
        rows = connection.execute(self._store.statements.lapsed, (now, now)).fetchall()
        return [worker for (worker,) in rows]

    def _take_from(
        self,
        connection: sqlite3.Connection,
        worker: str,
        started: Collection[str],
        vanished: bool,
        cause: str,
    ) -> list[str]:
        statements = self._store.statements
        now = self._store.clock.now()
        connection.execute(statements.forget, (worker,))
        failed = []
        held = connection.execute(statements.held, (worker,)).fetchall()
        for seq, job_id, crashes, suspects, cancel_requested in held:
            wanted = lose(
                # A damaged row must not prevent the reclaim of the other jobs.
                crashes=crashes if type(crashes) is int else 0,
                suspects=suspects if type(suspects) is int else 0,
                crashed=job_id in started,
                vanished=vanished,
                cause=cause,
                max_crashes=self._store.settings.max_crashes,
                now=now,
            )
            row = wanted.transition
            if cancel_requested and wanted.otherwise is not None:
                row = wanted.otherwise
            store = self._store
            change(connection, store.changes, wanted, row, seq, now, store.retention)
            if row.target is Status.FAILED:
                failed.append(job_id)
        return failed


def _to_info(data: bytes | None) -> WorkerInfo:
    try:
        return WorkerInfo() if data is None else _info_decoder.decode(data)
    except (msgspec.DecodeError, TypeError):
        return WorkerInfo()  # it is damaged, or from another release
