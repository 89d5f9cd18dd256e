"""Raise an exception in another thread, and only while that thread allows it.

CPython delivers such an exception between two bytecodes, wherever the thread happens to
be. A :class:`Gate` keeps it out of everything but the actor's own code: it is raised only
while the gate is open, and one that was set but not yet delivered is withdrawn when the
gate closes.
"""

from __future__ import annotations

import ctypes
import threading

from .errors import Interrupt


def _set_async_exception(thread_id: int, exception: type[BaseException] | None) -> None:
    # PyThreadState_SetAsyncExc(NULL) withdraws an exception that is still pending.
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread_id),
        ctypes.py_object(exception) if exception is not None else None,
    )


class Gate:
    """Where exceptions from outside may enter one thread. Used as a context manager."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread_id: int | None = None

    def __enter__(self) -> Gate:
        with self._lock:
            self._thread_id = threading.get_ident()
        return self

    def __exit__(self, *exc_info: object) -> None:
        # An exception set just before the lock was taken arrives somewhere in here. The
        # actor has already ended by then, so it is dropped and the closing begins again.
        while True:
            try:
                with self._lock:
                    if self._thread_id is not None:
                        _set_async_exception(self._thread_id, None)
                        self._thread_id = None
                return
            except Interrupt:
                continue

    def raise_inside(self, exception: type[Interrupt]) -> bool:
        """Raise ``exception`` in the thread if its gate is open.

        A thread that sits in a call of C code sees it when that call returns.

        :return: whether the gate was open.
        """
        with self._lock:
            if self._thread_id is None:
                return False
            _set_async_exception(self._thread_id, exception)
            return True
