"""``current_job``: what an actor can ask of the job that it runs in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from werkzeug.local import LocalProxy

from ..broker import Broker
from ..hooks import MessageProxy
from ..hooks import Middleware

_running: Final[ContextVar[MessageProxy]] = ContextVar("flask_taskq.current_job")

#: The job that this thread or coroutine runs. Outside of one, using it is a
#: :exc:`RuntimeError`, and ``bool(current_job)`` is false.
current_job: MessageProxy = LocalProxy(  # type: ignore[assignment]
    _running,
    unbound_message=(
        "Working outside of a job. current_job can only be used by an actor that a worker"
        " runs, not when the actor is called as a plain function."
    ),
)


class CurrentJob(Middleware):
    """Makes ``current_job`` known while an actor runs."""

    def around_process_message(
        self, broker: Broker, message: MessageProxy
    ) -> AbstractContextManager[object]:
        return _current(message)


@contextmanager
def _current(message: MessageProxy) -> Iterator[None]:
    token = _running.set(message)
    try:
        yield
    finally:
        _running.reset(token)
