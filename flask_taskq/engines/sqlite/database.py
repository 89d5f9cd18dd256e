"""Connections to the database file. One thread at a time uses a connection."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any
from typing import Final
from typing import TypeVar

from ...errors import BrokerConnectionError
from ...errors import ConfigurationError
from ...errors import ConnectionClosed
from ...errors import ConnectionFailed
from ...loggers import get_logger
from ..sql.statements import Statements
from . import fork_safety
from . import log_guard
from .errors import is_cut_short
from .errors import is_locked
from .errors import spares_connection
from .errors import translate
from .files import folder_time
from .files import Found
from .files import identify
from .files import Identity
from .files import Location
from .files import log_size
from .files import look_at
from .files import Opened
from .files import prepare
from .files import remove_leftovers
from .files import Watch
from .tables import find_tables
from .tables import prepare_tables

logger = get_logger(__name__)

T = TypeVar("T")

#: The number of times that a connection was opened, and the value of ``PRAGMA data_version`` on
#: the present connection.
Version = tuple[int, int]

#: When the log restarts from its beginning, its file is truncated to this size, in bytes.
JOURNAL_SIZE_LIMIT: Final = 64 * 1024 * 1024

#: The size of a connection's page cache in KiB. The index of random ids outgrows SQLite's
#: default of 2,000 KiB at about ten thousand jobs, and sending then takes a fifth longer.
CACHE_SIZE: Final = 16_000

#: The number of pages in the log, of 4 KiB each, after which SQLite starts a checkpoint. This
#: is four times the default. The same pages change repeatedly, so that a longer log makes
#: sending in batches faster by a fifth.
CHECKPOINT_PAGES: Final = 4_000

#: How long SQLite itself waits for a lock, in milliseconds, before the call is repeated. SQLite
#: sleeps 1, 2, 5, 10 and finally 100 ms between its attempts. With many writers, a connection
#: that sleeps for that long can miss the lock for seconds.
TRY_AGAIN: Final = 20

#: How long to wait, in seconds, before checking again whether a log can be used.
UNSETTLED: Final = 0.005

#: How many times a transaction is started before giving up, if the log is removed meanwhile.
BEGINNINGS: Final = 5

# Open connections that a child process has inherited, because the hooks before the fork have
# not closed them. They stay referenced, since closing them would affect the parent's file.
_abandoned: list[sqlite3.Connection] = []


class LogLostError(ConnectionClosed):
    """A transaction was written to a log that other processes may not read. It is not known
    whether it is stored.

    :param result: the result of the transaction, which applies if it is stored.
    """

    def __init__(self, text: str, result: object = None) -> None:
        super().__init__(text)
        self.result = result


class _UnsettledError(Exception):
    """The files of a new connection do not belong together, or do not do so yet."""


class Database:
    """A file with the tables of a namespace. It opens connections and checks that they lead to
    the file."""

    def __init__(self, location: Location, namespace: str) -> None:
        self.path = location.path
        self.options = location.options
        self.tables = find_tables(namespace)
        self.statements = Statements(self.tables)
        self._prepared = False
        # The database whose loss a call has reported, and a loss that no call has reported yet.
        self._told: Identity | None = None
        self._untold: ConnectionClosed | None = None

    def open(self, synchronous: str, query_only: bool) -> tuple[sqlite3.Connection, Watch]:
        """Return a new connection, and a watch for the files that it has open.

        :raises ConnectionFailed: the file cannot be used.
        :raises ConnectionClosed: the previous database is gone, and no call has reported this
            yet.
        :raises ConfigurationError: the location or the schema is not acceptable.
        """
        until = time.monotonic() + self.options.busy_timeout / 1000
        while True:
            # The connections of a process share the index of the log. As long as one of them
            # has an old index open, a new connection would use it to read the new log.
            in_use = [handle for handle in _all_handles() if not handle.let_go_if_lost()]
            untold, self._untold = self._untold, None
            if untold is not None:
                raise untold
            try:
                opened = self._open(synchronous, query_only)
                self._told = None
                return opened
            except (_UnsettledError, ConnectionFailed) as error:
                if isinstance(error, ConnectionFailed) and not in_use:
                    raise
                if time.monotonic() >= until:
                    raise ConnectionFailed(
                        f"{self.path} cannot be used: its log, {self.path}-wal, was deleted or"
                        " replaced while a process had it open, and that process has not"
                        " opened it anew yet; end it, or let it send or look at a job"
                    ) from error
            time.sleep(UNSETTLED)

    def _open(self, synchronous: str, query_only: bool) -> tuple[sqlite3.Connection, Watch]:
        before = look_at(self.path)
        if before is None or not self._prepared:
            prepare(self.path)
            self._prepared = True
            before = look_at(self.path)
        connection = None
        try:
            connection = sqlite3.connect(
                self.path,
                timeout=self.options.busy_timeout / 1000,
                isolation_level=None,
                check_same_thread=False,
            )
            self._set_up(connection, synchronous, query_only)
            opened = self._find_opened(before)
            if log_size(self.path) == 0:
                _check_empty_log(connection)
            if not log_guard.keep(opened):
                raise _UnsettledError
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.Error):
                if is_cut_short(error):
                    raise _UnsettledError from error
                raise translate(error, self.path, opening=True) from error
            raise
        return connection, Watch(self.path, opened)

    def _find_opened(self, before: Found | None) -> Opened:
        found = look_at(self.path)
        if found is None or before is None or found.database != before.database:
            raise ConnectionFailed(f"{self.path} was replaced while it was opened")
        if found.log is None or found.shared is None:
            raise _UnsettledError
        if before.log not in (None, found.log) or before.shared not in (None, found.shared):
            raise _UnsettledError
        return Opened(found.database, found.log, found.shared)

    def check(self, opened: Opened) -> None:
        """Make sure that the path still leads to the database that was opened.

        SQLite would continue to write to a deleted file without an error.

        :raises ConnectionClosed: the path leads to another file or to none.
        """
        found = identify(self.path)
        if found == opened.database:
            return
        if found is not None:
            remove_leftovers(self.path, opened)
        what = "deleted" if found is None else "replaced by another file"
        self._told, self._untold = opened.database, None
        raise ConnectionClosed(
            f"{self.path} was {what} while it was in use; what was stored in it is not"
            " seen any more, and the next call opens what is there by then"
        )

    def note_loss(self, opened: Opened) -> None:
        """Check like :meth:`check`, for a connection that no thread is using. The next call
        reports a loss."""
        if opened.database == self._told:
            return
        try:
            self.check(opened)
        except ConnectionClosed as error:
            self._untold = error
        except BrokerConnectionError:
            pass  # the check is not possible, and the next call fails for the same reason

    def write_back(self, connection: sqlite3.Connection, opened: Opened) -> bool:
        """Store the content of a removed log in the database.

        :return: whether all of the content is in the database.
        """
        until = time.monotonic() + self.options.busy_timeout / 1000
        # SQLite must not wait for locks here, since each attempt must follow a new check of
        # whether write-back is allowed.
        connection.execute("PRAGMA busy_timeout = 0")
        while self._may_write_back(opened):
            # The checkpoint also resets the index, so that it refers to neither an old nor a
            # new log.
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if not busy:
                return True
            if time.monotonic() >= until:
                break
            time.sleep(UNSETTLED)
        return False

    def _may_write_back(self, opened: Opened) -> bool:
        """Return whether no process can have stored anything since the log was removed."""
        found = look_at(self.path)
        if found is None or found.database != opened.database:
            return False
        if found.shared == opened.shared:
            # All processes still lock the same index. This prevents writes to any log other
            # than the one that the index refers to.
            return found.log in (None, opened.log) or log_size(self.path) == 0
        # A process that has opened the database since then has created files. This has changed
        # the time of the folder, even if the process has removed the files again.
        is_empty = found.log is None and found.shared is None
        return is_empty and folder_time(self.path) <= log_guard.taken_away_at(opened)

    def _set_up(
        self, connection: sqlite3.Connection, synchronous: str, query_only: bool
    ) -> None:
        if _one(connection, "PRAGMA page_count") == 0:
            # This is only possible while the file is empty. It lets prune() return unused pages
            # to the filesystem.
            connection.execute("PRAGMA auto_vacuum = incremental")
        self._use_wal(connection)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA temp_store = memory")
        connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_SIZE_LIMIT}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA cache_size = -{CACHE_SIZE}")
        connection.execute("PRAGMA foreign_keys = off")
        prepare_tables(connection, self.tables, self.path)
        if query_only:
            connection.execute("PRAGMA query_only = on")
        patience = min(self.options.busy_timeout, TRY_AGAIN)
        connection.execute(f"PRAGMA busy_timeout = {patience}")

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        until = time.monotonic() + self.options.busy_timeout / 1000
        while True:
            try:
                mode = _one(connection, "PRAGMA journal_mode = wal")
                break
            except sqlite3.OperationalError as error:
                # SQLite does not wait here if another process is changing the mode at the same
                # time.
                if not is_locked(error) or time.monotonic() >= until:
                    raise
                time.sleep(0.005)
        if mode != "wal":
            raise ConfigurationError(
                f"{self.path} cannot have a write-ahead log (its journal mode stays {mode});"
                " put it on another filesystem"
            )


def _one(connection: sqlite3.Connection, statement: str) -> Any:
    row = connection.execute(statement).fetchone()
    return None if row is None else row[0]


_handles: weakref.WeakSet[Handle] = weakref.WeakSet()


class Handle:
    """One connection of this process. It is opened when it is first needed, and again after a
    loss.

    A thread holds the lock of at most one handle at a time. A fork takes the locks of all
    handles, so that a thread with two locks could cause a deadlock.

    :param synchronous: whether a commit waits for the disk (``full``) or not (``normal``).
    """

    def __init__(
        self, database: Database, *, synchronous: str = "normal", query_only: bool = False
    ) -> None:
        self.database = database
        self._synchronous = synchronous
        self._query_only = query_only
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._watch: Watch | None = None
        # The number of times that it was opened. SQLite's data_version restarts with each
        # connection.
        self._openings = 0
        _handles.add(self)
        fork_safety.watch(self)

    # Only "with" statements take the lock, because they do so in C code. An asynchronous
    # exception, such as one from a signal handler, then finds the lock either free or certain
    # to be released.

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work``, which only reads. Each of its statements sees its own snapshot."""
        try:
            with self._lock:
                return self._guarded(work)
        finally:
            self._wake_next()

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work`` in one transaction. Either all of its changes are stored, or an error is
        raised."""
        try:
            with self._lock:
                return self._guarded(work, writes=True)
        finally:
            self._wake_next()

    def data_version(self) -> Version:
        """Return a value that changes when another connection, of any process, has written.

        The value also changes when the connection was opened again, as after a fork.
        """
        return self.read(self.read_version)

    def read_version(self, connection: sqlite3.Connection) -> Version:
        """Return the same as :meth:`data_version`, for use inside ``work``."""
        return self._openings, connection.execute("PRAGMA data_version").fetchone()[0]

    def close(self) -> None:
        """Close the connection. It is opened again when the handle is used again."""
        try:
            with self._lock:
                self._drop()
        finally:
            self._wake_next()

    def let_go_if_lost(self) -> bool:
        """Close the connection if its files were removed, unless another thread is using it.

        :return: False if the files were removed and the connection is in use. The thread that
            uses it detects the loss itself.
        """
        watch = self._watch
        if watch is None or self._is_current(watch):
            return True
        is_taken = False
        try:
            # This does not wait, because the other thread may be waiting for the handle of this
            # thread. The for statement takes the lock and stores the result in C code, so that
            # no asynchronous exception can occur in between.
            for is_taken in iter(partial(self._lock.acquire, False), False):  # noqa: B007
                if self._watch is not None and not self._is_current(self._watch):
                    self._put_away()
                break
        finally:
            if is_taken:
                self._lock.release()
                self._wake_next()
        return is_taken

    def __del__(self) -> None:
        if getattr(self, "_connection", None) is not None:
            self._drop()

    def _wake_next(self) -> None:
        """Called after the lock was released."""

    # The following methods are called with the lock held.

    def _guarded(self, work: Callable[[sqlite3.Connection], T], writes: bool = False) -> T:
        try:
            if not writes:
                return self._patiently(work, self._current())
            connection, watch = self._begun()
            result = work(connection)
            connection.execute("COMMIT")
            self._confirm(connection, watch, result)
            return result
        except BaseException as error:
            self._recover(error)
            if isinstance(error, sqlite3.Error):
                raise translate(error, self.database.path) from error
            raise

    def _connected(self) -> tuple[sqlite3.Connection, Watch]:
        if self._connection is not None:
            # An asynchronous exception may have interrupted the previous caller while it was
            # rolling back or closing the connection.
            try:
                if self._connection.in_transaction:
                    self._drop()
            except sqlite3.ProgrammingError:
                self._connection = self._watch = None
        if self._connection is None or self._watch is None:
            self._openings += 1
            self._connection, self._watch = self.database.open(
                self._synchronous, self._query_only
            )
        return self._connection, self._watch

    def _current(self) -> sqlite3.Connection:
        """Return a connection to the database that is at the path now."""
        connection, watch = self._connected()
        if not watch.is_current():
            # A connection with a removed log would never see a change.
            self.database.check(watch.opened)
            self._drop()
            connection, watch = self._connected()
        return connection

    def _begun(self) -> tuple[sqlite3.Connection, Watch]:
        """Return a connection to the database that is at the path now, in a write
        transaction."""
        for _ in range(BEGINNINGS):
            connection, watch = self._connected()
            # The write lock is taken at once. A transaction that reads first cannot wait for
            # the lock later. It fails if another transaction was faster.
            self._patiently(_begin, connection)
            # The check follows the lock, because from then on no other process can write. A
            # transaction that is based on a removed log would corrupt the file.
            if watch.is_current():
                return connection, watch
            self.database.check(watch.opened)
            connection.execute("ROLLBACK")
            self._drop()
        raise self._lost()

    def _confirm(self, connection: sqlite3.Connection, watch: Watch, result: object) -> None:
        """Make sure that other processes can read the committed changes.

        The check follows the commit, because the files may be removed at any moment before it.
        """
        if watch.is_current():
            return
        self.database.check(watch.opened)
        if not self.database.write_back(connection, watch.opened):
            raise self._lost(result)
        self._drop()

    def _lost(self, result: object = None) -> LogLostError:
        path = self.database.path
        return LogLostError(
            f"{path}-wal or {path}-shm was deleted or replaced while it was in use, and what"
            " was stored last is not seen by others; the next call opens what is there by"
            " then. Nothing but SQLite may touch these files",
            result,
        )

    @staticmethod
    def _is_current(watch: Watch) -> bool:
        try:
            return watch.is_current()
        except BrokerConnectionError:
            return False

    def _patiently(self, step: Callable[[sqlite3.Connection], T], on: sqlite3.Connection) -> T:
        until = None
        while True:
            try:
                return step(on)
            except sqlite3.OperationalError as error:
                if not is_locked(error):
                    raise
                if until is None:
                    until = time.monotonic() + self.database.options.busy_timeout / 1000
                if time.monotonic() >= until:
                    raise

    def _recover(self, error: BaseException) -> None:
        # Asynchronous exceptions, such as a time limit raised in this thread, also end here.
        # After any error, no open transaction may be left for the next caller.
        if self._connection is None:
            return
        lost = isinstance(error, BrokerConnectionError) or not spares_connection(error)
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            lost = True
        if lost:
            self._drop()

    def _put_away(self) -> None:
        """Drop a connection that no thread is using. It is opened again when it is needed."""
        if self._watch is not None and not self._is_current(self._watch):
            self.database.note_loss(self._watch.opened)
        self._drop()

    def _drop(self) -> None:
        connection, watch = self._connection, self._watch
        if connection is not None and watch is not None:
            is_lost = not self._is_current(watch)
            if is_lost:
                self._save(connection, watch)
            log_guard.release(watch.opened, leave_log=is_lost)
            with suppress(sqlite3.Error):
                connection.close()
        # These are cleared after the close, because Database.open() takes a handle without a
        # watch for closed.
        self._connection = self._watch = None

    def _save(self, connection: sqlite3.Connection, watch: Watch) -> None:
        """Store the content of a removed log in the database, if that is possible."""
        path = self.database.path
        with suppress(sqlite3.Error, BrokerConnectionError):
            found = look_at(path)
            if found is None or found.database != watch.opened.database:
                return  # the database was deleted or replaced, too
            if found.shared != watch.opened.shared:
                # A process that was in a transaction when its index was removed may still write
                # to the removed log. Waiting for the write lock lets this transaction end.
                # Later transactions do not write to that log, and a write with a new index is
                # only allowed after it ended.
                connection.execute("PRAGMA query_only = off")
                self._patiently(_begin, connection)
                connection.execute("ROLLBACK")
            if self.database.write_back(connection, watch.opened):
                return
            if found.log == watch.opened.log:
                return  # other processes still read this log
        logger.error(
            "%s-wal was deleted or replaced while it was in use: jobs that were in it, and not"
            " in %s yet, may be lost. Nothing but SQLite may touch these files",
            path,
            path,
        )

    # Around a fork; see the module ``forks``.

    def rest(self) -> Iterator[None]:
        if self._is_used_here():
            return  # the forking thread uses this handle itself, and must not wait for it
        try:
            with self._lock:
                self._put_away()
                yield
        finally:
            self._wake_next()

    def _is_used_here(self) -> bool:
        frame: FrameType | None = sys._getframe(2)  # the caller of rest()
        while frame is not None:
            is_ours = frame.f_globals.get("__package__") == __package__
            if is_ours and frame.f_locals.get("self") is self:
                return True
            frame = frame.f_back
        return False

    def after_fork_in_child(self) -> None:
        if self._connection is not None:
            _abandoned.append(self._connection)
            self._connection = self._watch = None
        self._lock = threading.Lock()


class Readers:
    """A few read-only connections. With several, a slow read does not delay the others."""

    def __init__(self, database: Database, keep: int = 4) -> None:
        self._database = database
        self._keep = keep
        self._idle: list[Handle] = []

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work`` on one of the connections."""
        try:
            handle = self._idle.pop()
        except IndexError:
            handle = Handle(self._database, query_only=True)
        try:
            return handle.read(work)
        finally:
            if len(self._idle) < self._keep:
                self._idle.append(handle)
            else:
                handle.close()

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()


def _all_handles() -> list[Handle]:
    while True:
        try:
            return list(_handles)
        except RuntimeError:
            pass  # another thread has just created a handle


def _check_empty_log(connection: sqlite3.Connection) -> None:
    """Make sure that the index does not refer to a removed log.

    :raises _UnsettledError: the index refers to a removed log, or may do so.
    """
    busy = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[0]
    if busy:
        raise _UnsettledError


def _begin(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
