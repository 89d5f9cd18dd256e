"""``current_job``: what an actor can ask of the job that it runs in."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any
from typing import Final

from werkzeug.local import LocalProxy

from ..broker import Broker
from ..hooks import MessageProxy
from ..hooks import Middleware
from ..options import check_bool

_running: Final[ContextVar[MessageProxy]] = ContextVar("flask_taskq.current_job")


class _CurrentJob(LocalProxy[MessageProxy]):
    """The proxy, with a short way to what is called for each of a million rows: the way of
    all other attributes takes four times as long as the call itself."""

    __slots__ = ()

    @property
    def progress(self) -> Callable[..., None]:
        return self._get_current_object().progress


#: The job that this thread or coroutine runs. Outside of one, using it is a
#: :exc:`RuntimeError`, and ``bool(current_job)`` is false.
current_job: MessageProxy = _CurrentJob(  # type: ignore[assignment]
    _running,
    unbound_message=(
        "Working outside of a job. current_job can only be used by an actor that a worker"
        " runs, not when the actor is called as a plain function."
    ),
)


class CurrentJob(Middleware):
    """Makes ``current_job`` known while an actor runs.

    An actor that is declared with ``cooperative=True`` is never interrupted by an exception
    from outside: when it should end, it is told through ``current_job.check_cancelled()``.
    """

    @property
    def actor_options(self) -> set[str]:
        return {"cooperative"}

    @property
    def declared_options(self) -> set[str]:
        return {"cooperative"}

    def check_options(self, options: Mapping[str, Any]) -> None:
        check_bool("cooperative", options["cooperative"])

    def around_process_message(
        self, broker: Broker, message: MessageProxy
    ) -> AbstractContextManager[object]:
        return _Current(message)


class _Current:
    # A class, because what contextmanager() makes costs each run two microseconds.

    __slots__ = ("_message", "_token")

    def __init__(self, message: MessageProxy) -> None:
        self._message = message

    def __enter__(self) -> None:
        self._token = _running.set(self._message)

    def __exit__(self, *exc_info: object) -> None:
        _running.reset(self._token)
