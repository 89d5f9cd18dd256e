"""Runs that may not take for ever."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import UnsetType

from ..actors.hooks import HookBroker
from ..actors.hooks import Middleware
from ..actors.option_checks import check_duration
from ..actors.run import Run
from ..config import milliseconds


class TimeLimit(Middleware):
    """``time_limit``: how long one run may take, in milliseconds, as an option of an actor or
    of a message. None and ``float("inf")`` are for no limit.

    When it is over, :exc:`TimeLimitExceeded` is raised in the actor's thread, and a coroutine
    is cancelled. Where that does not help, because the thread sits in a call of C code or the
    exception was swallowed, the job ends without it ``TASKQ_HARD_LIMIT_GRACE`` milliseconds
    later, with the place where it was in the record, and the process is replaced. Either way
    the run has failed, and :class:`Retries` decides whether another one follows.

    In a ``cooperative`` actor only ``current_job.check_cancelled()`` raises it.

    :param time_limit: for all actors and messages that do not say it, in place of
        ``TASKQ_TIME_LIMIT``.
    :raises ValueError: it is no number of milliseconds.
    """

    def __init__(
        self, *, time_limit: int | float | timedelta | None | UnsetType = msgspec.UNSET
    ) -> None:
        self._given: dict[str, Any] = {}
        if time_limit is not msgspec.UNSET:
            self._given["time_limit"] = time_limit
        self.check_options(self._given)

    @property
    def actor_options(self) -> set[str]:
        return {"time_limit"}

    @property
    def nullable_options(self) -> set[str]:
        return self.actor_options

    @property
    def option_defaults(self) -> dict[str, Any]:
        return self._given

    def check_options(self, options: Mapping[str, Any]) -> None:
        check_duration("time_limit", options.get("time_limit"), least=1, none="no limit")

    def before_process_message(self, broker: HookBroker, message: Run) -> None:
        limit = broker.option(message, "time_limit")
        if type(limit) is int:  # as most are
            message.time_limit = limit
        else:
            is_none = limit is None or limit == math.inf
            message.time_limit = None if is_none else milliseconds(limit)
