"""Ends processes that a job has forked.

Such a process has a copy of the parent's stack, and continues in the job. When the job's own
code returns there, the next frames are those of the worker: it would store an outcome, free a
slot, and fetch the next job in the name of its parent. So the process ends before that.
Processes of :mod:`multiprocessing` end by themselves and never come here.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from typing import NoReturn
from typing import TypeVar

T = TypeVar("T")

#: The number of forks between this process and the one that imported this module. Code that
#: calls a job compares it before and afterwards, which costs less than reading the
#: process id.
generation = 0


def _count() -> None:
    global generation
    generation += 1


os.register_at_fork(after_in_child=_count)


def end(error: BaseException | None = None) -> NoReturn:
    """End this process, which a job has forked, as Python would.

    :param error: what the job's code has raised here.
    """
    code: object = 0
    try:
        if isinstance(error, SystemExit):
            code = error.code
            if code is not None and not isinstance(code, int):
                print(code, file=sys.stderr)
                code = 1
        elif error is not None:
            code = 1
            traceback.print_exception(error)
        for stream in (sys.stdout, sys.stderr):
            # Closed, or there is none.
            if stream is not None and not stream.closed:
                stream.flush()
    finally:
        os._exit(code & 0xFF if isinstance(code, int) else 0)


def end_awaiting() -> NoReturn:
    """End this process, in which a job that has forked it awaits something."""
    os.write(
        2,
        b"flask_taskq: a process that a coroutine of a job had forked was ended where it would"
        b" have gone back to the event loop: what it awaits belongs to its parent\n",
    )
    os._exit(1)


class Threads(ThreadPoolExecutor):
    """Threads for what jobs want done, which a process forked there does not go back to."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return super().submit(_run, fn, args, kwargs)


def _run(fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    before, error = generation, None
    try:
        return fn(*args, **kwargs)
    except BaseException as raised:
        error = raised
        raise
    finally:
        if generation != before:
            end(error)
