"""What the values of options can be: for actors, messages, and the middleware that has them.

A check raises an error that names the option and says what it may be; whose option it is,
the broker puts before that.
"""

from __future__ import annotations

import math
from datetime import datetime
from datetime import timedelta
from datetime import UTC
from typing import Any
from typing import Final
from typing import TypeGuard

from ..clock import END_OF_TIME
from ..clock import LONGEST
from ..config import milliseconds

#: The largest count: more has no use, and some engines could not store it.
MAX_COUNT: Final = 1_000_000_000

#: The range of priorities; lower runs first.
PRIORITIES: Final = range(-9, 10)

#: In milliseconds it is September 2001, and in seconds beyond the year 33000.
_LEAST_MOMENT: Final = 1_000_000_000_000

_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def refusal(name: str, value: object, allowed: str) -> ValueError:
    """What to raise for a value that an option cannot have."""
    return ValueError(f"{name} is {value!r}; it is {allowed}")


def check_bool(name: str, value: object) -> None:
    """:raises ValueError: it is neither True nor False."""
    if type(value) is not bool:
        raise refusal(name, value, "True or False")


def check_count(name: str, value: Any) -> None:
    """:raises ValueError: it is neither such a number nor None, which is for any."""
    if value is not None and not (_is_int(value) and 0 <= value <= MAX_COUNT):
        raise refusal(name, value, f"an int from 0 to {MAX_COUNT:,}, or None for any number")


def check_duration(name: str, value: Any, *, least: int = 0, none: str | None = None) -> None:
    """Check a number of milliseconds, or a timedelta.

    :param least: milliseconds.
    :param none: what None stands for, where it may be given.
    :raises ValueError: it is no such thing.
    """
    if none is not None and (value is None or value == math.inf):
        return
    length = milliseconds(value)
    if not _is_int(length) or length < least:
        ending = "or a timedelta"
        if none is not None:
            ending = f'a timedelta, or None or float("inf") for {none}'
        raise refusal(name, value, f"milliseconds as an int from {least}, {ending}")
    if length > LONGEST:
        raise refusal(name, value, "at most 6,000 years: is it in milliseconds?")


def check_exceptions(name: str, value: object) -> None:
    """:raises ValueError: it is no class of exceptions, tuple of them, or None."""
    classes = value if isinstance(value, tuple) else (value,)
    if value is not None and not all(map(is_exception, classes)):
        raise refusal(name, value, "a class of exceptions or a tuple of them")


def is_exception(value: object) -> bool:
    """Whether it is a class of exceptions."""
    return isinstance(value, type) and issubclass(value, BaseException)


def check_function(name: str, value: object) -> None:
    """:raises ValueError: it is neither a function nor None."""
    if value is not None and not callable(value):
        raise refusal(name, value, "a function")


def check_priority(priority: object, actor_name: str) -> int:
    """:raises ValueError: this is no priority."""
    if isinstance(priority, int) and priority in PRIORITIES:
        return priority
    raise ValueError(
        f"priority of actor {actor_name!r} is {priority!r}; it goes from"
        f" {PRIORITIES[0]}, first, to {PRIORITIES[-1]}, last"
    )


def check_delay(delay: object, actor_name: str) -> int:
    """:raises TypeError, ValueError: this is no delay in milliseconds."""
    owner = f"delay of a message for actor {actor_name!r}"
    if not _is_int(delay):
        raise TypeError(f"{owner} is {delay!r}; it is milliseconds as an int, or a timedelta")
    if delay < 0:
        raise ValueError(f"{owner} is {delay} ms; it cannot be negative")
    return delay


def check_eta(eta: object, actor_name: str) -> int:
    """:raises TypeError, ValueError: this is no moment in milliseconds since the epoch."""
    owner = f"eta of a message for actor {actor_name!r}"
    if not _is_int(eta):
        raise TypeError(
            f"{owner} is {eta!r}; it is an aware datetime, or milliseconds since the epoch"
        )
    return check_moment(owner, eta)


def check_moment(name: str, moment: int) -> int:
    """Check a moment in milliseconds since the epoch.

    :raises ValueError: it lies before 2001, where no job can have been meant to run, and
        where each moment of today lies if it is given in seconds; or after the year 9999.
    """
    if moment < _LEAST_MOMENT:
        at = (_EPOCH + timedelta(milliseconds=max(moment, 0))).date()
        raise ValueError(
            f"{name} is {moment}, which is {at}: it is milliseconds since the epoch, so"
            " multiply seconds by 1000, or take an aware datetime"
        )
    if moment > END_OF_TIME:
        raise ValueError(
            f"{name} is {moment}, which is after the year 9999: it is milliseconds since the"
            " epoch, or an aware datetime"
        )
    return moment


def since_epoch(name: str, value: Any) -> Any:
    """The value of an option, in milliseconds where it is a datetime.

    :raises ValueError: it has no time zone.
    """
    if not isinstance(value, datetime):
        return value
    if value.utcoffset() is None:
        raise ValueError(
            f"{name} is {value!r}, without a time zone: it would be another moment on another"
            f" machine; take datetime.now(UTC) or {name}.astimezone()"
        )
    # Rounded up: never before that moment.
    return -((_EPOCH - value) // timedelta(milliseconds=1))


def _is_int(value: object) -> TypeGuard[int]:
    # True and False are ints as well, and never meant.
    return type(value) is int
