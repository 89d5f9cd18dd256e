"""The engine: the contract's front, over a :class:`~.store.Store`."""

from __future__ import annotations

from collections.abc import Sequence

from ...clock import Clock
from ...config import Settings
from ...jobs.delivery import Envelope
from ..base import Consumer
from ..base import Engine
from .consumer import SQLiteConsumer
from .records import SQLiteJobs
from .records import SQLiteQueues
from .sender import to_row
from .store import Store
from .workers import SQLiteWorkers


class SQLiteEngine(Engine):
    """Jobs in an SQLite file, for all processes of one machine.

    :raises ConfigurationError: the URL or the options are wrong.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        super().__init__(settings, clock)
        self._store = Store(settings, clock)
        self.jobs = SQLiteJobs(self._store)
        self.queues = SQLiteQueues(self._store)
        self.workers = SQLiteWorkers(self._store)

    def connect(self) -> None:
        # Opening is all: it looks at the place, the file and the schema.
        self._store.sender.read(lambda connection: None)

    def enqueue(self, envelopes: Sequence[Envelope]) -> int:
        now = self.clock.now()
        if envelopes:
            self._store.sender.insert([to_row(envelope, now) for envelope in envelopes])
        return now

    def consumer(
        self, queues: Sequence[str], worker: str, *, isolated: bool = False
    ) -> Consumer:
        return SQLiteConsumer(self._store, queues, worker, isolated)

    def close(self) -> None:
        self._store.close()
