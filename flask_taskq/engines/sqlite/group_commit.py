"""Group commit: threads that send at the same time share a transaction.

A commit that waits for the disk takes as long for a hundred jobs as for one. Callers that
arrive during a commit are therefore stored together in the next transaction. One of these
callers, the leader, stores the jobs of all of them in its own thread. There is no background
thread, because a child process would not have it after a fork.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Final
from typing import TypeVar

from ...errors import BrokerConnectionError
from ...jobs.delivery import Envelope
from ...jobs.record import Status
from ..base import Enqueued
from ..sql.rows import Row
from ..sql.rows import to_rows
from ..sql.statements import Statements
from .database import Database
from .database import Handle
from .database import LogLostError
from .transitions import insert_new
from .wakeup import WakeUp

T = TypeVar("T")

#: How long a caller waits for the leader, in seconds, before it checks again. The leader only
#: fails to wake it if an asynchronous exception has interrupted the leader.
PATIENCE: Final = 1.0


#: How long a leader waits, in seconds, for as many callers as in the previous transaction.
#: Those callers have just learned that their jobs are stored, and may be about to send more.
GATHERING: Final = 0.0005


class _Bell:
    """Wakes one thread. The thread may start to wait before or after the wake-up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, timeout: float) -> None:
        """Wait for a wake-up for at most ``timeout`` seconds."""
        self._lock.acquire(timeout=timeout)

    def wake(self) -> None:
        """End the present :meth:`wait`. If there is none, end the next one."""
        try:
            self._lock.release()
        except RuntimeError:
            pass  # a wake-up is pending already

    def forget(self) -> None:
        """Discard a pending wake-up, so that the next :meth:`wait` waits."""
        self._lock.acquire(blocking=False)


class _NotAllNewError(Exception):
    """A job's id is known, or its unique key is held. Only inserting the jobs one by one shows
    which."""


class _Call:
    """The jobs of one caller, until they are stored."""

    def __init__(self, envelopes: Sequence[Envelope], now: int) -> None:
        self.envelopes = envelopes
        self.now = now
        self.done = False
        self.stored: list[Enqueued] = []
        self.error: Exception | None = None
        #: The call that this one wakes after it was woken itself.
        self.successor: _Call | None = None
        #: Wakes the caller when the call is done, or when the caller may become the leader.
        self.turn = _Bell()


class Sender(Handle):
    """The connection of this process that stores the jobs of all callers."""

    def __init__(self, database: Database, wakeup: WakeUp) -> None:
        super().__init__(database, synchronous=database.options.synchronous)
        self._wakeup = wakeup
        self._waiting: deque[_Call] = deque()
        self._led = 1  # the number of calls in the last transaction
        self._gathered = _Bell()

    def insert(self, envelopes: Sequence[Envelope], now: int) -> list[Enqueued]:
        """Store all of these jobs or none, except known ones, and wake consumers.

        :return: what is stored for each envelope.
        """
        call = _Call(envelopes, now)
        self._waiting.append(call)
        while not call.done:
            # The holder of the lock checks for waiting calls after it has released the lock.
            # This call was added before that check, so it cannot be missed. If another caller
            # takes the lock in between, this caller waits for that transaction, which includes
            # its jobs.
            if not self._lock.locked():
                leads = False
                try:
                    with self._lock:
                        if leads := not call.done:
                            self._lead(call)
                finally:
                    self._wake_next()
                if leads:
                    self._wakeup.notify()
            else:
                if len(self._waiting) == self._led:
                    self._gathered.wake()
                call.turn.wait(PATIENCE)
        if call.successor is not None:
            call.successor.turn.wake()
        if call.error is not None:
            raise call.error
        return call.stored

    def _wake_next(self) -> None:
        try:
            self._waiting[0].turn.wake()
        except IndexError:
            pass

    def _gather(self) -> None:
        # Without this wait, the first thread to return after a commit would start the next
        # transaction alone, and the others would wait for two commits. A thread that sends
        # alone does not wait here.
        if len(self._waiting) < self._led:
            self._gathered.forget()
            if len(self._waiting) < self._led:
                self._gathered.wait(GATHERING)
        self._led = len(self._waiting)

    def _lead(self, own: _Call) -> None:
        self._gather()
        calls = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if own not in calls:  # another leader had taken it and was interrupted by an exception
            calls.append(own)
        try:
            self._store(calls)
        except BaseException:
            self._waiting.extendleft(
                call for call in reversed(calls) if call is not own and not call.done
            )
            raise
        # Each caller wakes the next one. If all woke at the same time, they would only wait for
        # the interpreter's lock.
        others = [call for call in calls if call is not own]
        for call, successor in pairwise(others):
            call.successor = successor
        for call in calls:
            call.done = True
        if others:
            others[0].turn.wake()

    def _store(self, calls: list[_Call]) -> None:
        try:
            self._insert(calls)
        except Exception as error:
            if len(calls) == 1:
                calls[0].error = error
            elif isinstance(error, BrokerConnectionError):
                # The error is the same for all callers. Each gets a copy, since raising an
                # exception extends its traceback.
                for call in calls:
                    call.error = type(error)(*error.args)
                    call.error.__cause__ = error.__cause__
            else:
                # The error is caused by the rows of one call. The other calls can be stored
                # alone.
                for call in calls:
                    self._store([call])

    def _insert(self, calls: list[_Call]) -> None:
        statements = self.database.statements
        try:
            self._guarded(partial(insert_calls, statements, calls), writes=True)
        except (_NotAllNewError, LogLostError):
            one_by_one = partial(insert_calls_one_by_one, statements, calls)
            try:
                self._guarded(one_by_one, writes=True)
            except LogLostError:
                # This uses the files that are there now. No job is stored twice, because ids
                # are unique.
                self._guarded(one_by_one, writes=True)

    def after_fork_in_child(self) -> None:
        super().after_fork_in_child()
        self._waiting.clear()  # the child process does not have their threads
        self._led = 1
        self._gathered = _Bell()


def insert_calls(
    statements: Statements, calls: Sequence[_Call], connection: sqlite3.Connection
) -> None:
    """Store the jobs of several callers, provided that all of the jobs are new.

    :raises _NotAllNewError: a job is not new. Nothing is stored then.
    """
    seq: int = connection.execute(statements.last_place).fetchone()[0]
    jobs: list[Row] = []
    lives: list[Row] = []
    for call in calls:
        now = call.now
        call.stored = stored = []
        for envelope in call.envelopes:
            seq += 1
            job, live = to_rows(envelope, seq, now)
            jobs.append(job)
            lives.append(live)
            status = Status.QUEUED if live[5] is None else Status.SCHEDULED
            stored.append(Enqueued(envelope.id, status, live[5], None, now))
    try:
        connection.executemany(statements.insert_job, jobs)
        connection.executemany(statements.insert_live, lives)
    except sqlite3.IntegrityError as error:
        raise _NotAllNewError from error


def insert_calls_one_by_one(
    statements: Statements, calls: Sequence[_Call], connection: sqlite3.Connection
) -> None:
    """Store the jobs of several callers, except known jobs."""
    for call in calls:
        call.stored = insert_new(connection, statements, call.envelopes, call.now)
