"""The engine class. It passes calls on to the parts that use a :class:`~.store.Store`."""

from __future__ import annotations

from collections.abc import Sequence

from ...clock import Clock
from ...config import Settings
from ...jobs.delivery import Envelope
from ...jobs.record import Lane
from ..base import Consumer
from ..base import Engine
from ..base import Enqueued
from .consumer import SQLiteConsumer
from .queues import SQLiteQueues
from .records import SQLiteJobs
from .store import Store
from .workers import SQLiteWorkers


class SQLiteEngine(Engine):
    """An engine that stores jobs in an SQLite file, for all processes of one machine.

    :raises ConfigurationError: the URL or the options are wrong.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        super().__init__(settings, clock)
        self._store = Store(settings, clock)
        self.jobs = SQLiteJobs(self._store)
        self.queues = SQLiteQueues(self._store)
        self.workers = SQLiteWorkers(self._store)

    def connect(self) -> None:
        # Opening a connection checks the folder, the file and the schema.
        self._store.sender.read(lambda connection: None)

    def enqueue(self, envelopes: Sequence[Envelope]) -> list[Enqueued]:
        if not envelopes:
            return []
        return self._store.sender.insert(envelopes, self.clock.now())

    def consumer(
        self, queues: Sequence[str], worker: str, lane: Lane = Lane.ORDINARY
    ) -> Consumer:
        return SQLiteConsumer(self._store, queues, worker, lane)

    def close(self) -> None:
        self._store.close()
