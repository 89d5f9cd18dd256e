"""Raise an exception in another thread, and only while that thread allows it.

CPython delivers such an exception between two bytecodes, wherever the thread happens to
be. A :class:`Gate` keeps it out of everything but the actor's own code: it is raised only
while the gate is open, and one that was set but not yet delivered is withdrawn when the
gate closes.

It lets one exception in and is closed behind it. With two, the second could arrive while
the first one is on its way out through ``__exit__``, and leave the gate open for good.
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
    """Where an exception from outside may enter one thread. Used as a context manager."""

    def __init__(self) -> None:
        # Holds one entry while the gate is open. Whoever takes it out, which is one step of
        # the list and so needs no lock, closes the gate: the thread, or who raises in it.
        # A lock around this was rejected: the exception could arrive while it is taken.
        self._open: list[tuple[int, threading.Lock]] = []
        self._sent = threading.Lock()

    def __enter__(self) -> Gate:
        self._sent = threading.Lock()
        self._sent.acquire()
        self._open.append((threading.get_ident(), self._sent))
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            try:
                self._open.pop()
            except IndexError:
                self._sent.acquire()
                _set_async_exception(threading.get_ident(), None)
        except Interrupt:
            # It came when the actor had ended already, and is not followed by another.
            pass

    def raise_inside(self, exception: type[Interrupt]) -> bool:
        """Raise ``exception`` in the thread if its gate is open, and close the gate.

        A thread that sits in a call of C code sees it when that call returns.

        :return: whether the gate was open.
        """
        try:
            thread_id, sent = self._open.pop()
        except IndexError:
            return False
        try:
            _set_async_exception(thread_id, exception)
        finally:
            # Also when it was raised here, in a thread that called this on itself.
            sent.release()
        return True
