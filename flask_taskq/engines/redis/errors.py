"""Translates errors of the server and the driver to errors of this package."""

from __future__ import annotations

import re
from typing import Final

from redis import exceptions

from ...errors import BrokerError
from ...errors import BrokerFull
from ...errors import ConnectionClosed
from ...errors import ConnectionFailed

#: Error codes of a server that changes its role, waits for its master, or is busy. The only
#: remedy is to reconnect, which also determines the server's address again, and to repeat the
#: call. If a command in a script fails, the code is in the middle of the error text.
_TRANSIENT: Final = re.compile(
    r"\b(READONLY|LOADING|UNBLOCKED|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|BUSY"
    r"|NOREPLICAS)\b"
)
_FULL: Final = re.compile(r"\b(OOM|MISCONF)\b")
_REFUSED: Final = re.compile(r"\b(NOAUTH|WRONGPASS|NOPERM)\b|(?i:invalid password|protected)")
_UNTRUSTED: Final = re.compile(r"certificate verify failed: (.+?)\.?(?= \(_ssl|$)")
_MOVED: Final = re.compile(r"^(?:MOVED )?\d+ (\S*):(\d+)$")


class Refused(ConnectionFailed):
    """The server is reachable, but it denies access or its certificate is not trusted. Another
    attempt does not help."""


def _text(error: BaseException) -> str:
    # The driver removes the error code from the text of errors for which it has a class.
    words = {
        exceptions.ReadOnlyError: "READONLY",
        exceptions.BusyLoadingError: "LOADING",
        exceptions.MasterDownError: "MASTERDOWN",
        exceptions.ClusterDownError: "CLUSTERDOWN",
        exceptions.TryAgainError: "TRYAGAIN",
        exceptions.MovedError: "MOVED",
        exceptions.AskError: "ASK",
        exceptions.OutOfMemoryError: "OOM",
        exceptions.NoPermissionError: "NOPERM",
        exceptions.AuthenticationError: "NOAUTH",
    }
    for kind, word in words.items():
        if isinstance(error, kind):
            return f"{word} {error}"
    return str(error)


def is_transient(error: BaseException) -> bool:
    """Return whether the call should be repeated over a new connection."""
    text = _text(error)
    if _REFUSED.search(text) or _UNTRUSTED.search(text):
        return False
    if isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError, OSError)):
        return True
    return bool(_TRANSIENT.search(text))


def spares_connection(error: BaseException) -> bool:
    """Return whether the connection remains usable after this error, because the error was a
    reply."""
    is_reply = isinstance(error, exceptions.ResponseError)
    return is_reply and not _TRANSIENT.search(_text(error))


def moved_to(error: BaseException) -> tuple[str, int] | None:
    """Return the host and the port of the cluster node that has the keys, if the error names
    it."""
    found = _MOVED.match(str(error).removeprefix("MOVED "))
    return None if found is None else (found[1], int(found[2]))


def translate(error: BaseException, where: str, *, opening: bool = False) -> BrokerError:
    """Return this package's error for an error of the driver.

    :param where: the server's URL without its password, and the configuration key of the URL.
    :param opening: whether the error occurred while the connection was being opened.
    """
    text = _text(error)
    if _REFUSED.search(text):
        return Refused(
            f"{where} refuses: {error}; check the user and the password in its URL, and"
            " that the user may run scripts on the keys of TASKQ_NAMESPACE"
        )
    if untrusted := _UNTRUSTED.search(text):
        return Refused(
            f"{where} is not trusted: certificate verify failed: {untrusted[1]}; the"
            " option ssl_ca_certs names a file with the authority that signed it, and the"
            " host in the URL must be a name that it is for"
        )
    if _FULL.search(text):
        return BrokerFull(
            f"{where} takes nothing more; nothing was stored: {error}; give the server more"
            " memory (maxmemory) or a disk with room, whichever it names"
        )
    reason = str(error).rstrip(".")
    if _TRANSIENT.search(text):
        kind = ConnectionFailed if opening else ConnectionClosed
        return kind(
            f"{where} is not ready: {reason}; it starts, changes its role, or is busy: try"
            " again soon"
        )
    if isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError, OSError)):
        if opening:
            return ConnectionFailed(
                f"{where} cannot be reached: {reason}; check that the server is running, and"
                " that host and port in the URL are right"
            )
        return ConnectionClosed(
            f"{where} does not answer any more: {reason}; check that the server is running"
        )
    return BrokerError(f"{where}: {error}")
