"""The resources that the parts of the engine share: file, connections, settings and clock."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from ...clock import Clock
from ...config import Settings
from ...jobs.lifecycle import Retention
from ..sql.statements import Statements
from ..sql.transition_statements import Changes
from .database import Database
from .database import Handle
from .database import Readers
from .database import Version
from .files import Location
from .group_commit import Sender
from .wakeup import WakeUp

T = TypeVar("T")


class Store:
    """The file of one app, as this process uses it. Everything is opened when it is first
    needed."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.database = Database(Location.from_settings(settings), settings.namespace)
        self.statements = self.database.statements
        self.changes = Changes(self.database.tables)
        self.retention = Retention.from_settings(settings)
        self.wakeup = WakeUp(self.database.path)
        self.sender = Sender(self.database, self.wakeup)
        self.readers = Readers(self.database)
        # Waiting callers compare version numbers, which are only comparable on one connection.
        # This connection never writes, so it sees every change.
        self._watch = Handle(self.database, query_only=True)

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work``, which only reads. It takes no lock that blocks a writer."""
        return self.readers.read(work)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work`` in one transaction."""
        return self.sender.write(work)

    def version(self) -> Version:
        """Return a value that changes whenever any connection has written."""
        return self._watch.data_version()

    def close(self) -> None:
        """Close all connections and sockets."""
        self.sender.close()
        self._watch.close()
        self.readers.close()
        self.wakeup.close()


def take_places(connection: sqlite3.Connection, statements: Statements, count: int) -> int:
    """Reserve places for jobs that become queued.

    :param count: the number of places. With 0, the places of rows that are about to be deleted
        are not assigned again.
    :return: the first of the places.
    """
    last: int = connection.execute(statements.take_places, (count,)).fetchall()[0][0]
    return last - count + 1
