"""Makes the engine calls of jobs in other threads.

An exception that is raised in a job must not interrupt a call on a connection: its next user
would read the reply to another call. And a job that waits in the engine for another job must
still be interruptible.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from typing import Final

from ...errors import ConnectionClosed

#: How often exceptions can be raised in a thread that waits for its call, in seconds.
_HEAR: Final = 0.05

#: The most relay threads for each thread that is served. When a job is interrupted, its call
#: continues, and the next job must not wait for it.
_SPARE: Final = 4


class _Call:
    """One call that has not returned."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._function = function
        self._args = args
        self.value: Any = None
        self.error: BaseException | None = None
        # Released by the thread that makes the call. A plain lock stays
        # consistent when an exception is raised at any moment. A condition does not.
        self.is_made = threading.Lock()
        self.is_made.acquire()

    def make(self) -> None:
        try:
            self.value = self._function(*self._args)
        except BaseException as error:
            self.error = error
        finally:
            self.is_made.release()


class EngineCalls:
    """Makes the engine calls of runner threads in relay threads.

    :param call: makes the calls of all other threads.
    :param threads: how many threads it serves.
    """

    def __init__(self, call: Callable[..., Any], threads: int) -> None:
        self._call = call
        self._pid = os.getpid()
        self._served = threading.local()
        self._is_closed = False
        self._pool = ThreadPoolExecutor(_SPARE * threads, thread_name_prefix="taskq-relay")

    def serve_this_thread(self, raise_interrupt: Callable[[], None] = lambda: None) -> None:
        """Relay the calls of the current thread from now on.

        :param raise_interrupt: called repeatedly in a :meth:`wait`; an exception ends it.
        """
        self._served.raise_interrupt = raise_interrupt

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function of the engine, and wait for what it returns or raises."""
        return self._relay(function, args, may_end=False)

    def wait(self, function: Callable[..., Any], *args: Any) -> Any:
        """As :meth:`call`, but give up when an exception is to be raised in the thread that
        waits.
        """
        return self._relay(function, args, may_end=True)

    def _relay(
        self, function: Callable[..., Any], args: tuple[Any, ...], *, may_end: bool
    ) -> Any:
        raise_interrupt = getattr(self._served, "raise_interrupt", None)
        if raise_interrupt is None:
            return self._call(function, *args)
        if os.getpid() != self._pid:
            # A job has forked: the threads of the pool do not exist in this process.
            return self._call(function, *args)
        call = _Call(function, args)
        self._pool.submit(call.make)
        while not call.is_made.acquire(timeout=_HEAR):
            if may_end:
                raise_interrupt()
            if self._is_closed:
                raise ConnectionClosed("the worker that ran this job has stopped")
        if call.error is not None:
            raise call.error
        return call.value

    def close(self) -> None:
        """Accept no more calls, and do not wait for those that have not returned."""
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
