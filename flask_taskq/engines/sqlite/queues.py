"""The waiting jobs of the queues, and the paused queues."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Final

from ...jobs.record import Lane
from ..base import Queues
from ..listing import QueueState
from .store import Store
from .store import take_places

#: The number of jobs that one transaction removes from a queue. It is limited so that senders
#: can write in between.
PURGED_AT_ONCE: Final = 2_000


class SQLiteQueues(Queues):
    """The queues of an SQLite file."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def depths(self) -> dict[str, int]:
        def count(connection: sqlite3.Connection) -> dict[str, int]:
            depths: Counter[str] = Counter()
            for statement in self._store.statements.depths:
                depths.update(dict(connection.execute(statement).fetchall()))
            return dict(depths)

        return self._store.read(count)

    def states(self) -> list[QueueState]:
        statements = self._store.statements

        def look(connection: sqlite3.Connection) -> list[QueueState]:
            queued, scheduled = (
                dict(connection.execute(statement).fetchall())
                for statement in statements.depths
            )
            paused = {queue for (queue,) in connection.execute(statements.paused)}
            states = []
            for queue in sorted({*queued, *scheduled, *paused}):
                first = [
                    row
                    for lane in Lane
                    for row in connection.execute(statements.oldest, (queue, lane.value))
                ]
                states.append(
                    QueueState(
                        queue=queue,
                        queued=queued.get(queue, 0),
                        scheduled=scheduled.get(queue, 0),
                        oldest=min(first)[2] if first else None,
                        is_paused=queue in paused,
                    )
                )
            return states

        return self._store.read(look)

    def paused(self) -> set[str]:
        statement = self._store.statements.paused
        return self._store.read(lambda on: {queue for (queue,) in on.execute(statement)})

    def pause(self, queue: str) -> None:
        statement = self._store.statements.pause
        self._store.write(lambda on: on.execute(statement, (queue,)))

    def resume(self, queue: str) -> None:
        statement = self._store.statements.resume
        self._store.write(lambda on: on.execute(statement, (queue,)))
        self._store.wakeup.notify()

    def has_due(self, queues: Sequence[str], lane: Lane) -> bool:
        statement = self._store.statements.has_due(len(queues))
        now = self._store.clock.now()
        values = (*queues, lane.value, now, *queues, lane.value)
        return bool(self._store.read(lambda on: on.execute(statement, values).fetchone()[0]))

    def purge(self, queue: str) -> int:
        statements = self._store.statements
        # Jobs that are sent meanwhile are not removed, so that the loop ends.
        newest = self._store.read(lambda on: on.execute(statements.newest).fetchone()[0] or 0)

        def purge(connection: sqlite3.Connection) -> int:
            take_places(connection, statements, 0)
            rows = []
            for statement in statements.waiting:
                values = (queue, newest, PURGED_AT_ONCE)
                rows += connection.execute(statement, values).fetchall()
            live, _, job = statements.delete
            connection.executemany(live, rows)
            connection.executemany(job, rows)
            return len(rows)

        removed = 0
        while count := self._store.write(purge):
            removed += count
        return removed
