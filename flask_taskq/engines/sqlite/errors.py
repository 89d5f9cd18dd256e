"""Translates errors of sqlite3 to errors of this package."""

from __future__ import annotations

import sqlite3

from ...errors import BrokerError
from ...errors import BrokerFull
from ...errors import ConnectionClosed
from ...errors import ConnectionFailed

_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_UNUSABLE = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_AUTH,
}
#: With these errors only the statement fails, and the connection remains usable.
_STATEMENT_ONLY = {*_LOCKED, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG}


def _code(error: sqlite3.Error) -> int | None:
    # Errors that the sqlite3 module itself raises, such as for a closed connection, have
    # no code. The low byte of an extended code is the primary code.
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def is_locked(error: sqlite3.Error) -> bool:
    """Return whether another connection held a lock."""
    return _code(error) in _LOCKED


def is_cut_short(error: sqlite3.Error) -> bool:
    """Return whether a file was shorter than expected, as with the log of another database."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code == sqlite3.SQLITE_IOERR_SHORT_READ


def spares_connection(error: BaseException) -> bool:
    """Return whether the connection remains usable after this error."""
    if not isinstance(error, sqlite3.Error):
        return True
    return _code(error) in _STATEMENT_ONLY


def translate(error: sqlite3.Error, path: str, *, opening: bool = False) -> BrokerError:
    """Return this package's error for an error of sqlite3.

    :param opening: whether the error occurred while the connection was being opened.
    """
    code = _code(error)
    if code in _LOCKED:
        kind = ConnectionFailed if opening else ConnectionClosed
        return kind(
            f"{path} stayed locked by another process for the whole busy_timeout; look for a"
            " program that keeps a write transaction open in it (an sqlite3 shell after"
            f" BEGIN, a backup or a VACUUM): {error}"
        )
    full = code == sqlite3.SQLITE_FULL
    if full or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_SHMSIZE:
        return BrokerFull(
            f"there is no room left for {path}; nothing was stored: {error}; make room on its"
            " disk, or let TASKQ_BROKER_URL name a file on another one"
        )
    if code in _UNUSABLE:
        return ConnectionFailed(
            f"{path} cannot be used as a database: {error}; check that it is an SQLite file,"
            " undamaged, and that the user of this process may write it and its folder"
        )
    if code == sqlite3.SQLITE_IOERR:
        return ConnectionClosed(
            f"reading or writing {path} failed: {error}; look for errors of its disk in the"
            " log of the system"
        )
    if opening:
        return ConnectionFailed(
            f"{path} cannot be opened: {error}; let TASKQ_BROKER_URL name a file that the user"
            " of this process may write"
        )
    if code == sqlite3.SQLITE_ERROR or code is None:
        return ConnectionClosed(
            f"{path} does not answer as it should: {error}; was it changed from outside?"
        )
    return BrokerError(f"{path}: {error}")
