"""One run of an actor, as hooks, ``current_job`` and the worker see it."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextvars import ContextVar
from enum import Enum
from typing import Any
from typing import Final

import msgspec

from ..clock import Clock
from ..clock import LONGEST
from ..errors import BadArguments
from ..errors import Cancel
from ..errors import Interrupt
from ..errors import JobCancelled
from ..errors import LeaseLost
from ..errors import Shutdown
from ..errors import Snooze
from ..jobs.delivery import Delivery
from ..jobs.delivery import Envelope
from ..jobs.message import Message
from .actor import Actor
from .run_progress import RunProgress

#: Exceptions of a run that say themselves what becomes of the job: it is no failure. Of a
#: worker's own they count only in a run that the worker interrupted: see :func:`is_decided`.
DECIDED: Final = (Cancel, JobCancelled, LeaseLost, Shutdown, Snooze)


#: The run that this thread or coroutine is in: ``current_job``.
running: Final[ContextVar[Run]] = ContextVar("flask_taskq.current_job")


class Decision(Enum):
    """What hooks have decided about the job, in place of what the run itself means."""

    #: It runs again.
    RETRY = "retry"
    #: It fails for good.
    FAIL = "fail"
    #: It ends as cancelled, which is no failure.
    DISCARD = "discard"
    #: It is too old to run.
    EXPIRE = "expire"


class Run(msgspec.Struct, eq=False):
    """One run of an actor, as far as it has come. What it does not have itself, such as
    ``actor_name`` and ``args``, is read from its message.

    Its limits are milliseconds of the monotonic clock.

    :param message: what was sent.
    :param delivery: how the job came to its worker.
    :param actor: what runs.
    :param now: returns the time of its log lines, in milliseconds since the epoch.
    :param started_at: likewise, when it began.
    :param began: the same by the monotonic clock.
    :param misfit: why the actor cannot be called with the message's arguments.
    :param call_args: what the actor is called with.
    :param code: what kind of error ``exception`` is.
    :param stack: where it was when it was given up, in place of a traceback.
    :param interrupts: exceptions that are to be raised in it, and when.
    :param limit_at: when its time limit is over.
    :param kill_at: when it must have ended: its process is replaced otherwise.
    """

    message: Message
    delivery: Delivery
    actor: Actor[..., Any] | None = None
    now: Callable[[], int] = Clock().now
    started_at: int = 0
    began: float = 0.0
    call_args: Sequence[Any] = ()
    call_kwargs: Mapping[str, Any] = {}
    #: The last decision of a hook; None if there was none.
    decision: Decision | None = None
    #: Milliseconds until the job runs again, if that was decided.
    retry_delay: int | None = None
    #: How long this run may take, in milliseconds; None for no limit. It counts if it
    #: is set before the actor runs.
    time_limit: int | None = None
    #: The last exception that it is to end with, if there is one.
    interrupted_by: type[Interrupt] | None = None
    #: Jobs that are stored together with the job's outcome. See ``Broker.follow_up()``.
    follow_ups: tuple[Envelope, ...] = ()
    #: What the run has noted down for its record; None, as for most, if it never did.
    unreported: RunProgress | None = None
    misfit: BadArguments | None = None
    value: Any = None
    result: bytes = b"null"
    exception: BaseException | None = None
    code: str = "exception"
    stack: str = ""
    interrupts: dict[type[Interrupt], float] = {}
    limit_at: float = math.inf
    kill_at: float = math.inf

    @property
    def id(self) -> str:
        """The job's id."""
        return self.message.message_id

    @property
    def attempt(self) -> int:
        """The number of this run, from 1."""
        return self.delivery.attempt

    @property
    def crashes(self) -> int:
        """How many runs of the job ended with the death of their process."""
        return self.delivery.crashes

    @property
    def created_at(self) -> int:
        """When the job was sent, in milliseconds since the epoch by the engine's clock."""
        return self.delivery.created_at

    # What it reports

    def progress(
        self, current: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Report how far the run has come. The record shows it within a second.

        A call is cheap enough for each of a million rows: the last report is stored from time
        to time, and with the outcome.

        :param current: in units of the actor's choice.
        :param total: what ``current`` will be at the end, if that is known.
        :param message: a few words for people; what is over 2,000 characters is cut.
        :raises TypeError: ``current`` or ``total`` is no number, or ``message`` no text.
        :raises ValueError: a number is not finite, or ``total`` is below 0.
        """
        (self.unreported or self._begin_progress()).progress(current, total, message)

    def log(self, text: str, level: str = "info") -> None:
        """Add a line to the job's own log, of which the record keeps the last 100.

        :param text: what is over 2,000 characters is cut.
        :param level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``.
        :raises TypeError: ``text`` is no text.
        :raises ValueError: there is no such level.
        """
        (self.unreported or self._begin_progress()).log(text, level)

    def _begin_progress(self) -> RunProgress:
        self.unreported = RunProgress(self.now, self.attempt)
        return self.unreported

    # What becomes of the job

    @property
    def failed(self) -> bool:
        """Whether the job fails for good with this run."""
        return self.decision is Decision.FAIL

    @property
    def discarded(self) -> bool:
        """Whether the job ends with this run as cancelled, which is no failure."""
        return self.decision is Decision.DISCARD

    @property
    def expired(self) -> bool:
        """Whether the job is too old to run."""
        return self.decision is Decision.EXPIRE

    def fail(self) -> None:
        """Let the job fail for good with this run."""
        self.decision, self.retry_delay = Decision.FAIL, None

    def discard(self) -> None:
        """Give the job up with this run: it ends as cancelled, and that is no failure."""
        self.decision, self.retry_delay = Decision.DISCARD, None

    def expire(self) -> None:
        """Let the job end as expired, for a hook that then raises :exc:`SkipMessage`."""
        self.decision, self.retry_delay = Decision.EXPIRE, None

    def retry(self, delay: int) -> None:
        """Let the job run again.

        :param delay: after this many milliseconds.
        :raises ValueError: that is over 6,000 years.
        """
        if delay > LONGEST:
            raise ValueError(f"retry() got {delay!r} ms; it is at most 6,000 years")
        self.decision, self.retry_delay = Decision.RETRY, delay

    # Interrupts

    def check_cancelled(self) -> None:
        """End the run here if it is to end. Long jobs call it from time to time.

        Where nothing is raised from outside, because the actor is ``cooperative``, this is
        the only way to learn of it.

        :raises JobCancelled: the job was cancelled.
        :raises TimeLimitExceeded: its time limit is over.
        :raises Shutdown: its worker is stopping, and the job will run again.
        :raises LeaseLost: its worker has lost the job, which may run elsewhere by now.
        """
        if self.interrupted_by is not None:
            raise self.interrupted_by

    def interrupt(self, exception: type[Interrupt], raise_at: float) -> None:
        """Let :meth:`check_cancelled` raise this, and others do so later.

        Only once for each exception: the caller may find the reason repeatedly.

        :param raise_at: milliseconds of the monotonic clock.
        """
        # Several threads call this while the watch raises. Each step is one operation of
        # the interpreter, so that no thread overwrites what another one has added.
        if exception not in self.interrupts:
            self.interrupts[exception] = math.inf if self.is_cooperative else raise_at
            self.interrupted_by = exception

    def raise_interrupt(self) -> None:
        """Raise the last interrupt here, unless the actor is cooperative or it was raised
        before.
        """
        interrupt = self.interrupted_by
        if interrupt is not None and self.interrupts[interrupt] != math.inf:
            self.interrupts[interrupt] = math.inf
            raise interrupt

    @property
    def is_cooperative(self) -> bool:
        """Whether nothing is raised in it, and only :meth:`check_cancelled` raises."""
        return self.actor is not None and bool(self.actor.options.get("cooperative"))

    @property
    def raise_at(self) -> float:
        """When the last interrupt is raised in it."""
        interrupt = self.interrupted_by
        return math.inf if interrupt is None else self.interrupts[interrupt]

    # As its message

    def __getattr__(self, name: str) -> Any:
        # Only what a run lacks is looked for here. While one is being copied it has nothing
        # yet, and asking for its message would end up here again.
        if name in self.__struct_fields__:
            raise AttributeError(name)
        return getattr(self.message, name)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Run):
            return self.message == other.message
        return self.message == other

    __hash__ = None  # type: ignore[assignment]  # like the message: it holds dicts

    def __str__(self) -> str:
        return str(self.message)

    def __repr__(self) -> str:
        return f"Run({self.message!r})"


def is_decided(run: Run, exception: BaseException) -> bool:
    """Whether an exception of a run says itself what becomes of the job, and is no failure.

    A job is released, uncharged, if its worker interrupted it by :exc:`Shutdown` or
    :exc:`LeaseLost`. If an actor raises them itself, the run has failed: otherwise the job
    would run again at once, without end.
    """
    if isinstance(exception, (LeaseLost, Shutdown)):
        return isinstance(exception, tuple(run.interrupts))
    return isinstance(exception, DECIDED)
