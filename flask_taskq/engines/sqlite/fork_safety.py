"""Prepares connections and sockets for :func:`os.fork`.

A child process must not inherit an open SQLite connection. It is not enough that the child
ignores the inherited connection and opens another one. The library in the child still has the
record of locks that only the parent holds, and takes no locks of its own for the same file.
When the parent closes the file, the log is deleted although the child still writes to it.
Therefore every connection is closed just before a fork, when no thread is inside SQLite. Each
process opens its own connections when it needs them. ``subprocess`` does not use these
handlers, since it runs no Python code in its child.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from typing import Protocol


class ForkAware(Protocol):
    """An object with resources that a child process must not inherit."""

    def rest(self) -> Iterator[None]:
        """Before a fork: stop all use of the object, close what cannot be inherited, and yield.

        The object stays unused until this generator is closed or deleted.
        """

    def after_fork_in_child(self) -> None:
        """Reset the object, including its locks. The threads that may have held them do not
        exist in the child."""


_lock = threading.Lock()
_watched: weakref.WeakSet[ForkAware] = weakref.WeakSet()

# The suspended generators of :meth:`ForkAware.rest`. Each is inside a "with" statement until
# the fork is over. An asynchronous exception, such as one from a signal handler, may end any of
# the steps below early. The interpreter ignores that exception. Even then, C code clears this
# list, and each generator leaves its "with" statement.
_resting: list[Iterator[None]] = []


def watch(thing: ForkAware) -> None:
    """Call this object around every fork, for as long as it exists."""
    with _lock:
        _watched.add(thing)


def _hold() -> Iterator[None]:
    with _lock:
        yield


def _before() -> None:
    _rest(_hold())
    for thing in list(_watched):
        _rest(thing.rest())


def _rest(resting: Iterator[None]) -> None:
    for _ in resting:
        _resting.append(resting)
        break


def _after_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    for thing in list(_watched):
        thing.after_fork_in_child()


os.register_at_fork(before=_before, after_in_parent=_resting.clear)
os.register_at_fork(after_in_child=_resting.clear)
os.register_at_fork(after_in_child=_after_in_child)
