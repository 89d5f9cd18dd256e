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
from collections.abc import Iterator
from typing import Protocol


class ForkAware(Protocol):
    """Something that must not be carried through a fork as it is."""

    def rest(self) -> Iterator[None]:
        """Before a fork: come to rest, let go of what cannot be inherited, and yield.

        It rests until this generator is closed or thrown away.
        """

    def after_fork_in_child(self) -> None:
        """Begin anew. No other thread exists yet, whatever locks they held."""


_lock = threading.Lock()
_watched: weakref.WeakSet[ForkAware] = weakref.WeakSet()

# What rests until the fork is over: generators, each in the midst of a "with". An exception
# may come into any of the steps here, as by the handler of a signal, and is ignored by the
# interpreter, together with the rest of the step. Whatever has become of the others then,
# this list is emptied by C code, and each generator leaves its "with" however it ends.
_resting: list[Iterator[None]] = []


def watch(thing: ForkAware) -> None:
    """Call the fork hooks of this object, for as long as it exists."""
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
