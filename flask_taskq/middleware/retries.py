"""Run a job again when it fails, later each time."""

from __future__ import annotations

import random
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import Final

import msgspec
from msgspec import UnsetType

from ..actors.hooks import for_failures
from ..actors.hooks import HookBroker
from ..actors.hooks import Middleware
from ..actors.option_checks import check_count
from ..actors.option_checks import check_duration
from ..actors.option_checks import check_exceptions
from ..actors.option_checks import check_function
from ..actors.option_checks import is_exception
from ..actors.option_checks import refusal
from ..actors.run import is_decided
from ..actors.run import Run
from ..config import milliseconds
from ..errors import Retry
from ..loggers import get_logger

logger = get_logger(__name__)

#: Beyond this many doublings every backoff is over any maximum.
_MAX_DOUBLINGS: Final = 40

_BOUNDS: Final = ("min_backoff", "max_backoff")

#: What a row of ``retry_on`` may say.
_PER_ERROR: Final = frozenset({"max_retries", *_BOUNDS})


class Retries(Middleware):
    """Retries with exponential backoff and jitter.

    What is not given here is taken from ``TASKQ_MAX_RETRIES``, ``TASKQ_MIN_BACKOFF`` and
    ``TASKQ_MAX_BACKOFF``; an actor's option of the same name wins over both, and a message's
    over that. An actor can say more, which a message cannot:

    -   ``throws``: a class of exceptions or a tuple of them. Such an error fails the job at
        once.
    -   ``discard_on``: likewise, but the job is given up without being a failure: it ends as
        cancelled, with the error, and no callback or signal for failures is sent. For jobs
        that have become pointless, such as one for an account that was deleted.
    -   ``retry_on``: a dict from a class of exceptions to ``max_retries``, ``min_backoff`` and
        ``max_backoff`` for these. The class that is nearest to the error's own counts, and
        all retries that the job has had count against its number.
    -   ``retry_when``: a function of the number of retries so far and the exception, which
        decides alone whether another one follows. Where it raises an exception, that is
        logged, and ``max_retries`` decides.

    They are asked in this order: ``throws``, ``discard_on``, ``retry_when``, and then the
    number of retries.

    ``on_retry_exhausted``, of an actor or a message, is an actor or its name that is sent the
    message as a dict and ``{"retries": ..., "max_retries": ...}`` when no run follows any
    more. It is stored in one step with the failure.

    :param max_retries: how many runs may follow the first one; None for any number.
    :param min_backoff: the shortest time before the second run, in milliseconds.
    :param max_backoff: the longest time between two runs, in milliseconds.
    :param retry_when: for all actors that have none of their own.
    :raises ValueError: one of them cannot be.
    """

    def __init__(
        self,
        *,
        max_retries: int | None | UnsetType = msgspec.UNSET,
        min_backoff: int | UnsetType = msgspec.UNSET,
        max_backoff: int | UnsetType = msgspec.UNSET,
        retry_when: Callable[[int, BaseException], bool] | None = None,
    ) -> None:
        given = {
            "max_retries": max_retries,
            "min_backoff": min_backoff,
            "max_backoff": max_backoff,
            "retry_when": retry_when,
        }
        self._given = {name: it for name, it in given.items() if it is not msgspec.UNSET}
        self.check_options(self._given)

    @property
    def actor_options(self) -> set[str]:
        return {*_PER_ERROR, *self.declared_options, "on_retry_exhausted"}

    @property
    def declared_options(self) -> set[str]:
        return {"throws", "discard_on", "retry_on", "retry_when"}

    @property
    def nullable_options(self) -> set[str]:
        return {"max_retries"}

    @property
    def option_defaults(self) -> dict[str, Any]:
        return self._given

    def check_options(self, options: Mapping[str, Any]) -> None:
        for name, value in options.items():
            if name in _CHECKS:
                _CHECKS[name](name, value)

    @for_failures
    def after_process_message(
        self,
        broker: HookBroker,
        message: Run,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        if exception is None or is_decided(message, exception):
            return
        if message.failed or message.discarded:
            return
        if isinstance(exception, broker.option(message, "throws") or ()):
            message.fail()
        elif isinstance(exception, broker.option(message, "discard_on") or ()):
            message.discard()
        else:
            self._retry(broker, message, exception)

    def _retry(self, broker: HookBroker, message: Run, exception: BaseException) -> None:
        retries = message.attempt - 1
        row = _nearest(broker.option(message, "retry_on") or {}, exception)

        def option(name: str) -> Any:
            if name in row and name not in message.options:
                return row[name]
            return broker.option(message, name)

        retry_when = broker.option(message, "retry_when")
        max_retries = option("max_retries")
        decided = None
        if retry_when is not None:
            decided = _ask(retry_when, retries, exception, message)
        if decided is None:
            decided = max_retries is None or retries < max_retries
        if not decided:
            message.fail()
            self._tell_exhausted(broker, message, max_retries)
        elif isinstance(exception, Retry) and exception.delay is not None:
            message.retry(milliseconds(exception.delay))
        else:
            bounds = {name: milliseconds(option(name)) for name in _BOUNDS}
            message.retry(compute_backoff(retries, **bounds))

    def _tell_exhausted(
        self, broker: HookBroker, message: Run, max_retries: int | None
    ) -> None:
        name = broker.option(message, "on_retry_exhausted")
        if name is not None:
            counts = {"retries": message.attempt - 1, "max_retries": max_retries}
            broker.follow_up(message, name, message.asdict(), counts)


def _ask(
    retry_when: Callable[[int, BaseException], bool],
    retries: int,
    exception: BaseException,
    message: Run,
) -> bool | None:
    """What a function of the app says; None if it fails itself."""
    try:
        return bool(retry_when(retries, exception))
    except Exception:
        # A mistake in it costs this decision, and not all the retries that the job has left.
        logger.exception(
            "job %s of actor %r: retry_when has failed, and max_retries decides instead",
            message.id,
            message.message.actor_name,
        )
        return None


def _nearest(
    table: Mapping[type, Mapping[str, Any]], exception: BaseException
) -> Mapping[str, Any]:
    return next((table[cls] for cls in type(exception).__mro__ if cls in table), {})


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


def _check_table(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise refusal(name, value, "a dict from a class of exceptions to its options")
    for cls, row in value.items():
        if not is_exception(cls):
            raise ValueError(f"{name} has the key {cls!r}; each is a class of exceptions")
        if not isinstance(row, Mapping) or not _PER_ERROR.issuperset(row):
            can_say = ", ".join(sorted(_PER_ERROR))
            raise ValueError(f"{name} has {row!r} for {cls.__name__}; it can say {can_say}")
        for option in row:
            _CHECKS[option](f"{name} for {cls.__name__}: {option}", row[option])


#: What is checked of an option's value.
_CHECKS: Final[dict[str, Callable[[str, Any], None]]] = {
    "max_retries": check_count,
    "min_backoff": check_duration,
    "max_backoff": check_duration,
    "throws": check_exceptions,
    "discard_on": check_exceptions,
    "retry_on": _check_table,
    "retry_when": check_function,
}
