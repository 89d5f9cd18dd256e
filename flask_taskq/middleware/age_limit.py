"""Jobs that are not worth running any more when their turn comes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from ..actors.actor import Actor
from ..actors.hooks import HookBroker
from ..actors.hooks import Middleware
from ..actors.option_checks import check_duration
from ..actors.option_checks import check_moment
from ..actors.option_checks import refusal
from ..actors.run import Run
from ..config import milliseconds
from ..errors import SkipMessage


class AgeLimit(Middleware):
    """``max_age`` and ``expires``: a job that is too old when its turn comes ends as expired,
    and its actor does not run. Both are looked at before each run, retries included; a run
    that has begun is not stopped.

    ``max_age`` is how many milliseconds after it was sent a job may begin to run. ``expires``
    is the moment after which it may not: an aware datetime, or milliseconds since the epoch.
    Both are options of an actor or of a message; where both are given, the earlier one counts.

    :param max_age: for all actors and messages that do not say it; None for no limit.
    :raises ValueError: it is no number of milliseconds.
    """

    def __init__(self, *, max_age: int | timedelta | None = None) -> None:
        self._max_age = max_age
        self.check_options({"max_age": max_age})

    @property
    def actor_options(self) -> set[str]:
        return {"max_age", "expires"}

    @property
    def nullable_options(self) -> set[str]:
        return self.actor_options

    @property
    def option_defaults(self) -> dict[str, Any]:
        return {"max_age": self._max_age, "expires": None}

    def check_options(self, options: Mapping[str, Any]) -> None:
        check_duration("max_age", options.get("max_age"), none="no limit")
        expires = options.get("expires")
        if expires is None:
            return
        if type(expires) is not int:
            raise refusal(
                "expires", expires, "an aware datetime, or milliseconds since the epoch"
            )
        check_moment("expires", expires)

    def applies_to(self, broker: HookBroker, actor: Actor[..., Any]) -> bool:
        return self._max_age is not None or not self.actor_options.isdisjoint(actor.options)

    def before_process_message(self, broker: HookBroker, message: Run) -> None:
        max_age = broker.option(message, "max_age")
        expires = broker.option(message, "expires")
        now = broker.engine.now()
        if max_age not in (None, math.inf) and now - message.created_at > milliseconds(max_age):
            message.expire()
            raise SkipMessage(f"older than its max_age of {milliseconds(max_age)} ms")
        if expires is not None and now > expires:
            message.expire()
            raise SkipMessage(f"its time to begin was over {now - expires} ms ago")
