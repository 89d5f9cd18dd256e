"""Run a job again when it fails, later each time."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any
from typing import Final

import msgspec
from msgspec import UnsetType

from ..broker import Broker
from ..config import milliseconds
from ..hooks import MessageProxy
from ..hooks import Middleware

#: Beyond this many doublings every backoff is over any maximum.
_MAX_DOUBLINGS: Final = 40


class Retries(Middleware):
    """Retries with exponential backoff and jitter.

    What is not given here is taken from ``TASKQ_MAX_RETRIES``, ``TASKQ_MIN_BACKOFF`` and
    ``TASKQ_MAX_BACKOFF``; an actor's option of the same name wins over both, and a message's
    over that.

    :param max_retries: how many runs may follow the first one; None for any number.
    :param min_backoff: the shortest time before the second run, in milliseconds.
    :param max_backoff: the longest time between two runs, in milliseconds.
    :raises ValueError: one of them is not such a number.
    """

    def __init__(
        self,
        *,
        max_retries: int | None | UnsetType = msgspec.UNSET,
        min_backoff: int | UnsetType = msgspec.UNSET,
        max_backoff: int | UnsetType = msgspec.UNSET,
    ) -> None:
        given = {
            "max_retries": max_retries,
            "min_backoff": min_backoff,
            "max_backoff": max_backoff,
        }
        self._given = {name: it for name, it in given.items() if it is not msgspec.UNSET}
        self.check_options(self._given)

    @property
    def actor_options(self) -> set[str]:
        return {"max_retries", "min_backoff", "max_backoff"}

    @property
    def option_defaults(self) -> dict[str, Any]:
        return self._given

    def check_options(self, options: Mapping[str, Any]) -> None:
        for name, value in options.items():
            if name == "max_retries":
                fits = value is None or _is_count(value)
                what = "how many runs may follow the first one, an int from 0; None for any"
            else:
                fits = _is_count(milliseconds(value))
                what = "milliseconds as an int from 0, or a timedelta"
            if not fits:
                raise ValueError(f"{name} is {value!r}; it is {what}")

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        if exception is None or message.failed:
            return
        retries = message.attempt - 1
        max_retries = broker.option(message, "max_retries")
        if max_retries is not None and retries >= max_retries:
            message.fail()
            return
        message.retry(
            compute_backoff(
                retries,
                min_backoff=milliseconds(broker.option(message, "min_backoff")),
                max_backoff=milliseconds(broker.option(message, "max_backoff")),
            )
        )


def _is_count(value: object) -> bool:
    # True and False are ints as well, and never meant.
    return type(value) is int and value >= 0


def compute_backoff(retries: int, *, min_backoff: int, max_backoff: int) -> int:
    """How long to wait before the next run, in milliseconds.

    It doubles with each retry. The jitter, of up to once more, keeps jobs that failed
    together from coming back together; so does the one below the maximum.

    :param retries: how many retries there have been.
    """
    doubled = min_backoff * float(2 ** min(retries, _MAX_DOUBLINGS))
    backoff = doubled * random.uniform(1, 2)
    if backoff > max_backoff:
        backoff = max_backoff * random.uniform(0.5, 1)
    return round(backoff)
