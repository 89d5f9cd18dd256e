"""Raise an exception in another thread, and only while that thread allows it.

CPython delivers such an exception between two bytecodes, wherever the thread happens to
be. A :class:`Gate` keeps it out of everything but the actor's own code: it is raised only
while the actor runs, and one that was set but not yet delivered is withdrawn afterwards.
"""

from __future__ import annotations

import ctypes
import gc
import operator
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from functools import partial
from types import FrameType
from typing import Any
from typing import Final

from ..errors import Interrupt

#: How many exceptions come in during one call. :meth:`Gate.call` has one more level than
#: that, and an actor that has swallowed so many will swallow another.
MAX_INTERRUPTS: Final = 2

#: Functions that acquire or release something, in modules of the standard library where
#: they are Python code. An exception in the middle of one leaves a lock behind that is
#: never released, such as that of a logging handler, for which the whole process waits.
_HANDLING: Final = frozenset(
    {"acquire", "release", "_acquireLock", "_releaseLock", "__enter__", "__exit__"}
)
_HANDLERS: Final = frozenset({"contextlib", "importlib._bootstrap", "logging", "threading"})

#: Likewise the code of this package, such as that which sends a job or gets ready for a fork;
#: but for these modules, where a thread may stay for long in a call of C code.
_OURS: Final = f"{__name__.partition('.')[0]}."
_OPEN: Final = frozenset(
    f"{_OURS}{name}"
    for name in (
        "worker.interrupt",
        "worker.threads.engine_calls",
        "worker.runner",
        "app.class_actors",
    )
)

#: How often a thread is looked at that handles a lock each time, how long it may go on in
#: between at the most, and the interval at which threads then take turns, both in seconds.
_LOOKS: Final = 20
_PAUSE: Final = 1e-4
_TURN: Final = 1e-6

_START: Final = threading.Thread.start.__code__

_looking: Final = threading.Lock()
_taking_turns: Final = threading.Lock()

_NOTHING: Final = object()


# Not empty while this process forks, in whichever thread.
_forking: Final[list[None]] = []

_shutting = threading.Lock()
_is_shut_for_forks = False


def keep_out_of_forks() -> None:
    """Raise nothing in a thread that forks, from now on.

    What runs before and after a fork may take locks in one step and release them in another,
    and the interpreter only prints exceptions of such a step. Call it when everything has been
    imported: this is to be the first of all steps before a fork, and the last one after it.
    """
    global _is_shut_for_forks
    with _shutting:
        if not _is_shut_for_forks:
            _is_shut_for_forks = True
            # All in C code, into which nothing can be raised.
            os.register_at_fork(
                before=partial(_forking.append, None),
                after_in_parent=_forking.pop,
                after_in_child=_forking.clear,
            )


def _set_async_exception(thread_id: int, exception: type[BaseException]) -> bool:
    """Raise an exception in a thread, unless it stands where none may be raised by now."""
    if _forking:
        return False
    set_exception = partial(
        ctypes.pythonapi.PyThreadState_SetAsyncExc,
        ctypes.c_ulong(thread_id),
        ctypes.py_object(exception),
    )
    # In one step of C code: no other thread gets a turn between the look and the call. It may
    # have had one since the look before.
    frames = _look(set_exception)
    if _is_busy_in(frames.get(thread_id)):
        _withdraw_exception(thread_id)
        return False
    return True


def find_frame(thread_id: int) -> FrameType | None:
    """The innermost frame of a thread, at this moment."""
    return _look().get(thread_id)


def _look(*steps: Callable[[], Any]) -> dict[int, FrameType]:
    """The innermost frames of all threads.

    :param steps: of C code, called before another thread gets a turn.
    """
    with _looking:
        # The interpreter locks its list of threads meanwhile. In Python 3.11, garbage that is
        # collected then may ask for the same list, and the whole process stands still.
        is_collecting = gc.isenabled()
        calls: list[Callable[[], Any]] = [gc.disable, sys._current_frames, *steps]
        try:
            _, frames, *_ = map(operator.call, calls)
        finally:
            if is_collecting:
                gc.enable()
    found: dict[int, FrameType] = frames
    return found


def _withdraw_exception(thread_id: int) -> None:
    """Withdraw what is pending for a thread."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), None)


def _is_busy(thread_id: int) -> bool:
    return _is_busy_in(find_frame(thread_id))


def _is_busy_in(frame: FrameType | None) -> bool:
    # The innermost frame says where the exception would be raised: a thread that does not
    # have the interpreter's lock stands still, and gets it when it goes on from there.
    if frame is None or _starts_thread(frame):
        return frame is not None
    module = frame.f_globals.get("__name__", "")
    if module in _HANDLERS:
        return frame.f_code.co_name in _HANDLING
    return module.startswith(_OURS) and module not in _OPEN


def _starts_thread(frame: FrameType | None) -> bool:
    # In Python 3.11 a new thread has the id of the one that starts it until it runs, and would
    # get what is raised in that. The other one would then wait for it for ever.
    while frame is not None:
        if frame.f_code is _START:
            return True
        frame = frame.f_back
    return False


def _let_go_on() -> None:
    """Let the other threads go on for a moment, and stop them wherever they are then.

    Threads that hand a lock to each other let others run when they wait for it, and only
    then: a thread that runs when they wait sees them at no other point.
    """
    with _taking_turns:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(_TURN)
        try:
            time.sleep(random.random() * _PAUSE)
        finally:
            sys.setswitchinterval(interval)


class Gate:
    """Where exceptions from outside may enter one thread: a call that it makes."""

    def __init__(self) -> None:
        # Taken by "with" alone, which an exception cannot leave half done: it is C code.
        self._lock = threading.Lock()
        #: The thread of the last call.
        self.thread_id = 0
        self._call: object = None  # which call it is open for
        self._sent = 0

    def call(
        self,
        key: object,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Call a function, in which exceptions may be raised from outside.

        One that arrives when the function has returned came too late: the value counts.

        :param key: what :meth:`raise_inside` must name, so that it does not hit a later call.
        """
        value = _NOTHING
        # Closing the gate can be hit by an exception itself, and then it must be done again.
        # There are as many levels as exceptions, and one more: the last is safe.
        try:
            try:
                try:
                    self._sent, self.thread_id = 0, threading.get_ident()
                    self._call = key
                    value = function(*args, **kwargs)
                    self._close()
                except BaseException:
                    self._close()
                    raise
            except BaseException:
                self._close()
                raise
        except BaseException:
            self._close()
            if value is _NOTHING:
                raise
        return value

    def is_open_for(self, key: object) -> bool:
        """Whether it is in the call of this key."""
        return self._call is key

    def _close(self) -> None:
        self._call = None
        with self._lock:
            # A thread that was raising an exception has done so; no other will.
            pass
        if self._sent:
            _withdraw_exception(self.thread_id)

    def raise_inside(self, key: object, exception: type[Interrupt]) -> bool:
        """Raise ``exception`` in the thread if it is in the call of this key.

        A thread that sits in a call of C code sees it when that call returns.

        :return: whether it was in there, and had not been sent too many before. Neither is
            one raised while the standard library takes or releases a lock for it, nor in
            code of this package, nor while it forks.
        """
        for look in range(_LOOKS):
            if look:
                _let_go_on()
            with self._lock:
                if self._call is not key or self._sent == MAX_INTERRUPTS:
                    return False
                if not _is_busy(self.thread_id):
                    self._sent += 1
                    if _set_async_exception(self.thread_id, exception):
                        return True
                    self._sent -= 1
                    return False
        return False
