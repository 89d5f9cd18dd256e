"""Every error of the package.

.. code-block:: text

    TaskQError
    ├── ConfigurationError      a TASKQ_ key, an actor's option or the set-up is wrong
    ├── DecodeError             stored bytes are not a message, or not a record
    ├── BadArguments            (also TypeError) arguments do not fit the actor, or JSON
    ├── BadResult               (also TypeError) a result does not fit JSON, or the actor
    ├── PayloadTooLarge         (also ValueError) a message or a result over its limit
    ├── JobNotFound             no record has this id, or it is past its retention
    ├── BrokerError
    │   ├── ActorNotFound       no actor of this name is declared
    │   ├── BrokerFull          the engine is full and stores nothing
    │   └── BrokerConnectionError
    │       ├── ConnectionFailed    the engine cannot be reached or opened
    │       └── ConnectionClosed    it was reached, and is gone or locked now
    ├── Retry                   raised by an actor: run the job again, this is no error
    ├── ResultError
    │   ├── ResultMissing       the job has not finished
    │   ├── ResultTimeout       it did not finish in the time given
    │   └── ResultFailure       it finished, but not with a result
    └── MiddlewareError
        ├── SkipMessage         raised by a hook or an actor: end the job without running on
        ├── Snooze              likewise: put the job off, and charge no attempt
        └── Cancel              likewise: end the job as cancelled

    Interrupt (BaseException)   raised into a running actor from outside
    ├── Shutdown                the worker stops and the grace time is over
    ├── TimeLimitExceeded       the run has taken longer than its time limit
    ├── JobCancelled            the job was cancelled
    └── LeaseLost               the worker no longer owns what it fetched

``Interrupt`` is no :exc:`Exception`, so that an actor's ``except Exception`` does not
swallow it.
"""

from __future__ import annotations

from datetime import timedelta

from .clock import LONGEST


class TaskQError(Exception):
    """The root of everything that this package raises on purpose."""


class ConfigurationError(TaskQError):
    """A configuration key, an actor's option or the way the extension is set up is wrong."""


class DecodeError(TaskQError):
    """Stored bytes are not a message, or not the record of a job.

    :param text: what is wrong with them.
    :param data: the bytes, whole.
    """

    def __init__(self, text: str, data: bytes = b"") -> None:
        super().__init__(text)
        self.data = data


class BadArguments(TaskQError, TypeError):
    """Arguments do not fit the actor's signature or its annotations, or cannot be written
    as JSON.
    """


class BadResult(TaskQError, TypeError):
    """An actor returned something that cannot be written as JSON, or that does not fit its
    annotation.
    """


class PayloadTooLarge(TaskQError, ValueError):
    """A message or a result is larger than its limit."""


class JobNotFound(TaskQError):
    """No record has this id: it never existed, or its retention time is over."""


class BrokerError(TaskQError):
    """The broker, or the engine below it, cannot do what was asked."""


class ActorNotFound(BrokerError):
    """No actor of this name is declared in this process."""


class BrokerFull(BrokerError):
    """The engine is full; nothing was stored."""


class BrokerConnectionError(BrokerError):
    """The engine is out of reach."""


class ConnectionFailed(BrokerConnectionError):
    """The engine could not be reached or opened."""


class ConnectionClosed(BrokerConnectionError):
    """The engine was open, and now it is gone, locked or replaced."""


class Retry(TaskQError):
    """Raised by an actor that wants to run again, as after an error but logged as none.

    It is one of the job's retries: when those are used up the job fails.

    :param message: why, for the record.
    :param delay: run again after so many milliseconds or this timedelta; None for the
        backoff that an error would have.
    :raises TypeError: the delay is something else.
    :raises ValueError: the delay is over 6,000 years.
    """

    def __init__(self, message: str = "", delay: int | timedelta | None = None) -> None:
        super().__init__(message)
        self.delay = None if delay is None else _check_delay(delay)


class ResultError(TaskQError):
    """A job has no result to hand out."""


class ResultMissing(ResultError):
    """The job has not finished yet."""


class ResultTimeout(ResultError):
    """The job did not finish within the time that was given."""


class ResultFailure(ResultError):
    """The job finished without a result: it failed, expired or was cancelled.

    :param text: what happened, with the job's id and actor.
    :param orig_exc_type: name of the exception's class in the actor, as text; the class
        itself is never looked up from stored data.
    :param orig_exc_msg: the text of that exception.
    """

    def __init__(self, text: str, orig_exc_type: str = "", orig_exc_msg: str = "") -> None:
        super().__init__(text)
        self.orig_exc_type = orig_exc_type
        self.orig_exc_msg = orig_exc_msg


class MiddlewareError(TaskQError):
    """Raised by a hook to be taken seriously; any other exception of a hook is only logged."""


class SkipMessage(MiddlewareError):
    """End this job now. It counts as succeeded, with ``None`` for a result."""


class Snooze(MiddlewareError):
    """Put the job off: it runs again later, from its beginning, and no attempt is charged.

    :param delay: after so many milliseconds or this timedelta.
    :raises TypeError: the delay is something else.
    :raises ValueError: the delay is over 6,000 years.
    """

    def __init__(self, delay: int | timedelta) -> None:
        super().__init__(f"again in {delay}")
        self.delay = _check_delay(delay)


class Cancel(MiddlewareError):
    """End this job now, as cancelled. It is no failure, and it does not run again.

    :param reason: why, for the record and for the client that asks for the job.
    """

    public_message = True

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Interrupt(BaseException):
    """Raised into a running actor from another thread."""


class Shutdown(Interrupt):
    """The worker is stopping and the job's grace time is over; it will run again."""


class TimeLimitExceeded(Interrupt):
    """The run has taken longer than its ``time_limit``. It counts as failed."""


class JobCancelled(Interrupt):
    """The job was cancelled while it ran."""


class LeaseLost(Interrupt):
    """A worker's lease ran out: what it had fetched may run elsewhere by now.

    The run has lost its job, and its outcome will be refused.
    """


def _check_delay(delay: int | timedelta) -> int | timedelta:
    # Where it is given, so that the traceback shows the actor's line.
    if not isinstance(delay, (int, timedelta)):
        raise TypeError(f"delay is {delay!r}; it is milliseconds as an int, or a timedelta")
    longest = timedelta(milliseconds=LONGEST) if isinstance(delay, timedelta) else LONGEST
    if delay > longest:  # type: ignore[operator]  # both are of one kind
        raise ValueError(f"delay is {delay!r}, and at most 6,000 years: is it in milliseconds?")
    return delay
