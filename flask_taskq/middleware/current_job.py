"""``current_job``: what an actor can ask of the job that it runs in."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from werkzeug.local import LocalProxy

from ..actors.hooks import Middleware
from ..actors.option_checks import check_bool
from ..actors.run import Run
from ..actors.run import running


class _CurrentJob(LocalProxy[Run]):
    """The proxy, with a short way to what is called for each of a million rows: the way of
    all other attributes takes four times as long as the call itself."""

    __slots__ = ()

    @property
    def progress(self) -> Callable[..., None]:
        return self._get_current_object().progress


#: The job that this thread or coroutine runs. Outside of one, using it is a
#: :exc:`RuntimeError`, and ``bool(current_job)`` is false.
current_job: Run = _CurrentJob(  # type: ignore[assignment]
    running,
    unbound_message=(
        "Working outside of a job. current_job can only be used by an actor that a worker"
        " runs, not when the actor is called as a plain function."
    ),
)


class CurrentJob(Middleware):
    """``cooperative``, an option of an actor.

    An actor that is declared with ``cooperative=True`` is never interrupted by an exception
    from outside. It calls ``current_job.check_cancelled()``, which raises when it is to end.
    """

    @property
    def actor_options(self) -> set[str]:
        return {"cooperative"}

    @property
    def declared_options(self) -> set[str]:
        return {"cooperative"}

    def check_options(self, options: Mapping[str, Any]) -> None:
        check_bool("cooperative", options["cooperative"])
