"""Group commit: threads that send at the same time share a commit.

A commit that waits for the disk takes as long for a hundred jobs as for one. Callers that
arrive while one is under way are therefore stored together in the next. One of them does
it for all, in its own thread; there is no thread of ours, which a fork would lose.
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
from .changing import insert_new
from .database import Database
from .database import Handle
from .database import LogLostError
from .wakeup import WakeUp

T = TypeVar("T")

#: How long a caller trusts, in seconds, that another one is at work for it. Only an
#: exception that is raised into that thread from outside can break the trust.
PATIENCE: Final = 1.0


#: How long a leader waits, in seconds, until as many callers are there as the last time.
#: Those have just been report that their jobs are stored, and may be about to send more.
GATHERING: Final = 0.0005


class _Bell:
    """Wakes one thread, which may come to wait for it before or afterwards."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, timeout: float) -> None:
        """Wait to be woken for at most ``timeout`` seconds."""
        self._lock.acquire(timeout=timeout)

    def wake(self) -> None:
        """End one :meth:`wait`, the present one or the next."""
        try:
            self._lock.release()
        except RuntimeError:
            pass  # has been woken already

    def forget(self) -> None:
        """Make the next :meth:`wait` wait, whatever has been."""
        self._lock.acquire(blocking=False)


class _NotAllNewError(Exception):
    """A job is known, or its key is held: which one, is seen only one by one."""


class _Call:
    """One caller's jobs on their way."""

    def __init__(self, envelopes: Sequence[Envelope], now: int) -> None:
        self.envelopes = envelopes
        self.now = now
        self.done = False
        self.stored: list[Enqueued] = []
        self.error: Exception | None = None
        #: The call that this one wakes when it is woken itself.
        self.successor: _Call | None = None
        #: Rings when it is done, or is this caller's turn to do it.
        self.turn = _Bell()


class Sender(Handle):
    """The connection of this process that writes what callers send."""

    def __init__(self, database: Database, wakeup: WakeUp) -> None:
        super().__init__(database, synchronous=database.options.synchronous)
        self._wakeup = wakeup
        self._waiting: deque[_Call] = deque()
        self._led = 1  # how many calls the last leader took along
        self._gathered = _Bell()

    def insert(self, envelopes: Sequence[Envelope], now: int) -> list[Enqueued]:
        """Store jobs, all or none, unless they are known, and wake consumers.

        :return: what is stored of each.
        """
        call = _Call(envelopes, now)
        self._waiting.append(call)
        while not call.done:
            # The holder of the lock looks for waiting calls after it has released it, and this
            # one was added before that: it cannot be missed. Should
            # another thread take the lock in between, this caller waits for that commit,
            # which has its jobs too.
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
        # Without this, the first thread to return after a commit begins the next one alone, and
        # the others wait for two. A thread that sends alone does not wait here.
        if len(self._waiting) < self._led:
            self._gathered.forget()
            if len(self._waiting) < self._led:
                self._gathered.wait(GATHERING)
        self._led = len(self._waiting)

    def _lead(self, own: _Call) -> None:
        self._gather()
        calls = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if own not in calls:  # another leader had taken it along and was torn out
            calls.append(own)
        try:
            self._store(calls)
        except BaseException:
            self._waiting.extendleft(
                call for call in reversed(calls) if call is not own and not call.done
            )
            raise
        # Each wakes the next one. Woken together, they would only queue up once more, for
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
                # The same for all. A copy each, since raising one adds to its traceback.
                for call in calls:
                    call.error = type(error)(*error.args)
                    call.error.__cause__ = error.__cause__
            else:
                # Something in one call's rows: alone, the others can be stored.
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
                # On the files that are there now. Their ids keep jobs from being stored twice.
                self._guarded(one_by_one, writes=True)

    def after_fork_in_child(self) -> None:
        super().after_fork_in_child()
        self._waiting.clear()  # their threads are not here
        self._led = 1
        self._gathered = _Bell()


def insert_calls(
    statements: Statements, calls: Sequence[_Call], connection: sqlite3.Connection
) -> None:
    """Store the jobs of several callers, all of which are new.

    :raises _NotAllNewError: one is not. Nothing is stored then.
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
    """Store the jobs of several callers, but those that are known."""
    for call in calls:
        call.stored = insert_new(connection, statements, call.envelopes, call.now)
