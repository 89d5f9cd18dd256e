"""The event loop of async jobs that run without a worker: in tests, and where they are sent.

In a worker all async jobs of a process share one loop, so they may share what belongs to a
loop: a semaphore, a client with a pool of connections. Here there is one loop for the process,
too, which lasts until the process ends: what a module holds outlives an app, and a test.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any
from typing import Final
from typing import TypeVar

T = TypeVar("T")

_Outcome = tuple[T | None, BaseException | None]


class InlineLoop:
    """A loop without a thread of its own: it runs in a thread that waits for a coroutine.

    Of several threads that do so at the same time, one runs the loop, with the coroutines of
    all. So a job can wait for a thread that sends another one.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_driven = False
        self._runner: asyncio.Runner | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._pid = 0
        # Those of a parent process, which shares the files of its loop with this one. Closed
        # or collected here, they would be of no use there.
        self._inherited: list[asyncio.Runner] = []

    @property
    def runs_here(self) -> bool:
        """Whether the calling code runs in this loop, so that it cannot wait for another
        coroutine of it without ``await``."""
        return self._runner is not None and _running_loop() is self._runner.get_loop()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, with the context variables of the caller.

        :return: what it returns.
        :raises BaseException: what it raises.
        :raises RuntimeError: the caller runs in this loop.
        """
        if self.runs_here:
            coroutine.close()
            raise RuntimeError("the loop of the jobs waits for this code, and cannot go on")
        if _running_loop() is None:
            value, error = self._run(coroutine)
        else:
            # An async view, or an async test: its thread has a loop already, and no thread can
            # run two.
            with ThreadPoolExecutor(1, "taskq-loop") as thread:
                value, error = thread.submit(copy_context().run, self._run, coroutine).result()
        if error is not None:
            try:
                raise error
            finally:
                error = None  # whose frames refer to this one
        return value  # type: ignore[return-value]  # no error: it is a T

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a coroutine from code that runs in this loop, and do not wait for it."""
        assert self._runner is not None
        return self._runner.get_loop().create_task(coroutine)

    def clear(self) -> None:
        """Cancel what jobs have left running, and end the threads that they have used."""
        with self._changed:
            if self._runner is None or self._is_driven or self._pid != os.getpid():
                return
            pool, self._pool = self._pool, ThreadPoolExecutor(thread_name_prefix="asyncio")
        self.run(_cancel_others())
        self._runner.get_loop().set_default_executor(self._pool)
        if pool is not None:
            pool.shutdown()

    def close(self) -> None:
        """Cancel what is left and close the loop. A new one is made when one is needed."""
        self.clear()
        with self._changed:
            if self._runner is None or self._is_driven or self._pid != os.getpid():
                return
            runner, self._runner = self._runner, None
        # Not by the runner's own close(), which starts a thread to end the pool's: when the
        # interpreter ends, no thread can be started any more.
        loop = runner.get_loop()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> _Outcome[T]:
        with self._changed:
            runner = self._open()
            drives, self._is_driven = not self._is_driven, True
        return (self._drive if drives else self._run_beside)(runner, coroutine)

    def _open(self) -> asyncio.Runner:
        if self._runner is not None and self._pid != os.getpid():
            self._inherited.append(self._runner)
            self._runner, self._is_driven = None, False
        if self._runner is None:
            # With a factory, it is not made the current loop of this thread, which may be
            # that of the test's own framework.
            self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
            self._pid = os.getpid()
            self._pool = ThreadPoolExecutor(thread_name_prefix="asyncio")
            self._runner.get_loop().set_default_executor(self._pool)
        return self._runner

    def _drive(self, runner: asyncio.Runner, coroutine: Coroutine[Any, Any, T]) -> _Outcome[T]:
        tasks: list[asyncio.Task[Any]] = []
        try:
            return runner.run(_await(coroutine, tasks), context=copy_context())
        finally:
            # Still there if something was raised into the loop itself, such as the end of a
            # test whose time is over.
            for task in tasks:
                task.cancel()
            with self._changed:
                self._is_driven = False
                self._changed.notify_all()

    def _run_beside(
        self, runner: asyncio.Runner, coroutine: Coroutine[Any, Any, T]
    ) -> _Outcome[T]:
        future = asyncio.run_coroutine_threadsafe(_await(coroutine, []), runner.get_loop())
        future.add_done_callback(self._note_done)
        try:
            while not future.done():
                with self._changed:
                    self._changed.wait_for(lambda: future.done() or not self._is_driven)
                    if future.done():
                        break
                    self._is_driven = True
                # The thread that ran the loop has the result that it waited for.
                self._drive(runner, _wait_for(future))
            return future.result()
        finally:
            future.cancel()

    def _note_done(self, future: Future[Any]) -> None:
        with self._changed:
            self._changed.notify_all()


async def _await(
    coroutine: Coroutine[Any, Any, T], tasks: list[asyncio.Task[Any]]
) -> _Outcome[T]:
    # What it raises is not raised through the loop: an exit would stop it under the others,
    # and the frames of asyncio would be in the traceback of the job.
    task: Any = asyncio.current_task()
    tasks.append(task)
    try:
        return await coroutine, None
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and task.cancelling():
            raise  # from outside: Ctrl-C
        return None, error
    finally:
        tasks.remove(task)


async def _wait_for(future: Future[Any]) -> None:
    await asyncio.wrap_future(future)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


#: The loop of this process.
inline_loop: Final = InlineLoop()
atexit.register(inline_loop.close)
