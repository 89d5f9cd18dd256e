"""Engine calls of jobs, made in other threads than theirs.

An exception that is raised into a job must not hit a connection in the middle of something:
whoever used it next would read the answer to another's question.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class EngineRelay:
    """Makes the engine calls of some threads in threads of its own.

    :param call: makes those of all other threads.
    :param threads: how many threads it serves.
    """

    def __init__(self, call: Callable[..., Any], threads: int) -> None:
        self._call = call
        self._pid = os.getpid()
        self._served = threading.local()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="taskq-relay")

    def serve_this_thread(self) -> None:
        """Make the calls of the thread that calls this."""
        self._served.here = True

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function of the engine, and wait for what it returns or raises."""
        if not getattr(self._served, "here", False):
            return self._call(function, *args)
        if os.getpid() != self._pid:
            # A job has forked: the pool believes in threads that this process has not.
            return self._call(function, *args)
        return self._pool.submit(function, *args).result()

    def close(self) -> None:
        """Take no more calls."""
        self._pool.shutdown(wait=False, cancel_futures=True)
