"""The event loop of a worker: async actors run here, many at once in one thread."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from collections.abc import Coroutine
from collections.abc import Iterable
from contextvars import Context
from functools import partial
from typing import Any
from typing import Final

from ...jobs.delivery import Delivery
from ...loggers import get_logger
from .. import forked_processes

logger = get_logger(__name__)

_loops: Final[weakref.WeakSet[Loop]] = weakref.WeakSet()


class _NoCallbacks(deque[Any]):
    """Replaces the callbacks of a loop in a process that a job has forked: it has none."""

    def popleft(self) -> Any:
        forked_processes.end_awaiting()


class Loop:
    """Runs one coroutine for each delivery.

    :param concurrency: how many run at once; the others wait.
    :param run: makes the coroutine, which raises nothing. It gets a number below
        ``concurrency`` that none of the others has.
    :param on_change: called in the loop's thread when coroutines have started or ended.
    """

    def __init__(
        self,
        concurrency: int,
        run: Callable[[int, Delivery], Coroutine[Any, Any, None]],
        on_change: Callable[[], None],
    ) -> None:
        self._concurrency = concurrency
        self._run = run
        self._on_change = on_change
        self._waiting: deque[Delivery] = deque()
        # Written only by the thread of the loop.
        self._free = list(reversed(range(concurrency)))
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_over = False
        self._thread = threading.Thread(target=self._work, name="taskq-loop", daemon=True)

    def __len__(self) -> int:
        """How many coroutines are running."""
        return self._concurrency - len(self._free)

    @property
    def is_behind(self) -> bool:
        """Whether deliveries wait for others to end."""
        return bool(self._waiting) and not self._free

    def start(self) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        # Own executor threads, for the same reason as in end_in_child().
        self._loop.set_default_executor(
            forked_processes.Threads(thread_name_prefix="taskq-loop")
        )
        _loops.add(self)
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def put(self, deliveries: Iterable[Delivery]) -> None:
        """Run these as soon as the concurrency allows."""
        self._waiting.extend(deliveries)
        try:
            self._loop.call_soon_threadsafe(self._fill)
        except RuntimeError:
            # Fetched while the worker stopped: the loop is closed. They are released with all
            # other jobs of the worker when it deregisters.
            if not self._is_over:
                raise

    def take_back(self) -> list[Delivery]:
        """Return the deliveries that have not started, and do not run them."""
        taken = []
        while True:
            try:
                taken.append(self._waiting.popleft())
            except IndexError:
                return taken

    def stop(self, timeout: float) -> None:
        """Cancel what is still there, and end.

        :param timeout: seconds to wait for that; a coroutine that blocks the thread cannot be
            ended.
        """
        self._is_over = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout)

    def end_in_child(self) -> None:
        """Run nothing more in this process, which one of the jobs has forked_processes.

        The job's coroutine continues until it ends or awaits something. The frames below it on
        the stack would then run the callbacks of other jobs, and take events from the parent's
        selector.
        """
        if self._thread.ident == threading.get_ident():
            loop: Any = self._loop
            loop.stop()
            # The replaced methods alone would still run callbacks that were ready before.
            loop._ready = _NoCallbacks()

    def _work(self) -> None:
        generation = forked_processes.generation
        # It cancels tasks that actors have left running, and waits for them.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            loop = runner.get_loop()
            while not self._is_over:
                # A callback of a job may stop the loop, or raise SystemExit, which asyncio
                # passes on. Neither must end the other jobs.
                try:
                    loop.run_forever()
                except BaseException as error:
                    if forked_processes.generation != generation:
                        forked_processes.end(error)
                    logger.error("what a job has left running raised %r", error, exc_info=error)
                if forked_processes.generation != generation:
                    forked_processes.end_awaiting()

    def _fill(self) -> None:
        while self._free and self._waiting:
            try:
                delivery = self._waiting.popleft()
            except IndexError:
                break  # taken back
            number = self._free.pop()
            coroutine = self._run(number, delivery)
            # In an empty context, as in a thread: a job does not see the context variables of
            # the code that made the worker, or put the delivery.
            task = self._loop.create_task(coroutine, context=Context())
            self._tasks.add(task)
            task.add_done_callback(partial(self._end, number))
        # Scheduled, not called: the new coroutines begin before it.
        self._loop.call_soon(self._on_change)

    def _end(self, number: int, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free.append(number)
        self._fill()


def _end_in_child() -> None:
    for loop in list(_loops):
        loop.end_in_child()


os.register_at_fork(after_in_child=_end_in_child)
