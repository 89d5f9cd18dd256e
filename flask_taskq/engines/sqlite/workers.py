"""The processes that hold jobs, and what becomes of the jobs of those that are gone."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from collections.abc import Sequence

import msgspec

from ...jobs.lifecycle import judge
from ...jobs.record import Status
from ..base import Holder
from ..base import Workers
from .store import Store

_processes_decoder = msgspec.json.Decoder(tuple[tuple[int, int], ...])


def is_alive(lease: tuple[float, int] | None, now: float) -> bool:
    """Whether a lease still holds.

    :param lease: when it ends and how long it is, or None if there is none.
    :param now: of the monotonic clock. It begins anew when the machine is started, so that
        an end further away than the lease is long is from before that.
    """
    return lease is not None and now < lease[0] <= now + lease[1]


class SQLiteWorkers(Workers):
    """A row for each worker, with its lease."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def register(self, worker: str, holder: Holder | None = None) -> None:
        store = self._store
        lease = store.settings.lease

        def register(connection: sqlite3.Connection) -> None:
            # Counted from here, when the wait for the lock is over.
            until = store.clock.monotonic() + lease
            connection.execute(store.statements.register, (worker, until, lease))
            if holder is not None:
                connection.execute(store.statements.forget_strangers)
                processes = msgspec.json.encode(holder.processes)
                connection.execute(store.statements.introduce, (worker, holder.host, processes))

        store.write(register)

    def renew(self, workers: Sequence[str]) -> list[str]:
        store = self._store
        lease = store.settings.lease

        def renew(connection: sqlite3.Connection) -> list[str]:
            # Counted from here, when the wait for the lock is over.
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
        statement = self._store.statements.count_workers
        now = self._store.clock.monotonic()
        return int(self._store.read(lambda c: c.execute(statement, (now, now)).fetchone()[0]))

    def list_holders(self, host: str) -> dict[str, Holder]:
        statement = self._store.statements.holders
        rows = self._store.read(lambda on: on.execute(statement, (host,)).fetchall())
        return {
            worker: Holder(host, _processes_decoder.decode(processes))
            for worker, processes in rows
        }

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
            store.doorbell.ring()
        return failed or []

    def reap(self) -> list[str]:
        store = self._store
        if not store.read(self._lapsed):
            return []

        def reap(connection: sqlite3.Connection) -> list[str]:
            over = self._lapsed(connection)  # again: it may have been renewed meanwhile
            for worker in over:
                self._take_from(connection, worker, (), True, "its lease ran out")
            return over

        reaped = store.write(reap)
        if reaped:
            store.doorbell.ring()
        return reaped

    def has_isolated(self, queues: Sequence[str]) -> bool:
        statement = self._store.statements.has_isolated(len(queues))
        values = (*queues, self._store.clock.now(), *queues)
        return bool(self._store.read(lambda c: c.execute(statement, values).fetchone()[0]))

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
        connection.execute(statements.forget_holder, (worker,))
        failed = []
        held = connection.execute(statements.held, (worker,)).fetchall()
        for seq, job_id, crashes, suspects, cancel_requested in held:
            verdict = judge(
                # A row may be damaged, and must not keep the others from being taken.
                crashes=crashes if type(crashes) is int else 0,
                suspects=suspects if type(suspects) is int else 0,
                crashed=job_id in started,
                vanished=vanished,
                cause=cause,
                max_crashes=self._store.settings.max_crashes,
                now=now,
            )
            counters = (verdict.crashes, verdict.suspects)
            if verdict.status is Status.FAILED:
                error = msgspec.json.encode(verdict.error)
                expires_at = self._store.expires_at(now, failed=True)
                connection.execute(
                    statements.bury, (error, *counters, now, now, expires_at, seq)
                )
                failed.append(job_id)
            elif cancel_requested:
                expires_at = self._store.expires_at(now)
                connection.execute(statements.stop_held, (*counters, now, now, expires_at, seq))
            else:
                place = (verdict.status.value, verdict.due_at, verdict.isolated)
                connection.execute(statements.reclaim, (*place, *counters, now, seq))
        return failed
