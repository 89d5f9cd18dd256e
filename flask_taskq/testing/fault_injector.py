"""The middleware of a test: it lets jobs fail and crash."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..actors.hooks import HookBroker
from ..actors.hooks import Middleware
from ..actors.run import Run


@dataclass(frozen=True)
class _Fault:
    """What is to happen to the next job.

    :param actor_name: to the next one of this actor; None for any.
    :param error: what it raises; None if its worker dies.
    """

    actor_name: str | None
    error: BaseException | type[BaseException] | None

    def __str__(self) -> str:
        what = "crash_next()" if self.error is None else f"fail_next({self.error!r})"
        return what if self.actor_name is None else f"{what} for actor {self.actor_name!r}"


class FaultInjector(Middleware):
    """Does to jobs what a test wants done. It stands last in the broker's list, so that the
    contexts of all others are open, and see it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: list[_Fault] = []

    @property
    def left(self) -> list[str]:
        """What was planned and has not happened."""
        return [str(fault) for fault in self._planned]

    def plan(
        self, actor_name: str | None, error: BaseException | type[BaseException] | None
    ) -> None:
        """Let something happen to the next job that runs.

        :param actor_name: to the next one of this actor; None for any.
        :param error: what it raises; None if its worker dies.
        """
        with self._lock:
            self._planned.append(_Fault(actor_name, error))

    @contextmanager
    def around_process_message(self, broker: HookBroker, message: Run) -> Iterator[None]:
        __tracebackhide__ = True
        fault = self._take(message.actor_name)
        if fault is not None and fault.error is not None:
            # What the runner would do next, and then, in place of the actor, the error.
            broker.emit_before("process_message", message)
            raise fault.error
        try:
            yield
        finally:
            if fault is not None:
                _kill_holder(broker, message.id)

    def _take(self, actor_name: str) -> _Fault | None:
        with self._lock:
            for fault in self._planned:
                if fault.actor_name in (None, actor_name):
                    self._planned.remove(fault)
                    return fault
        return None


def _kill_holder(broker: HookBroker, job_id: str) -> None:
    """Let a supervisor find the worker dead that runs a job: what it stores now is refused."""
    record = broker.get_record(job_id)
    if record.worker is not None:
        workers = broker.engine.workers
        broker.call_engine(workers.hand_back, record.worker, [job_id], "killed by signal 9")
