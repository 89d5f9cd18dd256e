"""What happens to connections and sockets around :func:`os.fork`.

An SQLite connection must not be carried into a child. To leave the inherited one alone
there and to open another is not enough: the library in the child remembers locks that only
the parent has, takes none of its own for the same file, and when the parent closes, the log
that the child still writes to is deleted. So every connection is closed in the moment
before a fork, when no thread is inside SQLite, and each side opens its own when it needs
one. ``subprocess`` does not come here, since it runs no Python code in its child.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """Something that must not be carried through a fork as it is."""

    def before_fork(self) -> None:
        """Come to rest, let go of what cannot be inherited, and stay so."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Begin anew. No other thread exists yet, whatever locks they held."""


_lock = threading.Lock()
_watched: weakref.WeakSet[ForkAware] = weakref.WeakSet()
_resting: list[ForkAware] = []


def watch(thing: ForkAware) -> None:
    """Tell this object of every fork, for as long as it exists."""
    with _lock:
        _watched.add(thing)


def _before() -> None:
    _lock.acquire()
    _resting[:] = _watched
    for thing in _resting:
        thing.before_fork()


def _after_in_parent() -> None:
    for thing in _resting:
        thing.after_fork_in_parent()
    _resting.clear()
    _lock.release()


def _after_in_child() -> None:
    global _lock
    # A server that forks in C may have left out the steps before.
    for thing in _resting or list(_watched):
        thing.after_fork_in_child()
    _resting.clear()
    _lock = threading.Lock()


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
