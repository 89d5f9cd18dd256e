"""What a middleware can do: every hook, empty, with its contract."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from collections.abc import Set
from contextlib import AbstractContextManager
from typing import Any
from typing import TYPE_CHECKING

from .clock import Clock
from .clock import LONGEST
from .errors import Cancel
from .errors import Interrupt
from .errors import JobCancelled
from .errors import LeaseLost
from .errors import Shutdown
from .errors import Snooze
from .jobs.delivery import Envelope
from .jobs.message import Message
from .jobs.record import JobRecord
from .notes import Notes

if TYPE_CHECKING:
    from .broker import Broker
    from .worker.worker import Worker

#: Exceptions of a run that say themselves what becomes of the job: it is no failure. Of a
#: worker's own the word counts only in a run that it has told so: see :func:`is_decided`.
DECIDED = (Cancel, JobCancelled, LeaseLost, Shutdown, Snooze)


class MessageProxy:
    """A message together with the run that it is in. Hooks get it, actors see it as
    ``current_job``; what it does not have itself is read from the message.

    :param message: the message.
    :param attempt: the number of this run, from 1.
    :param crashes: how many runs of the job ended with the death of their process.
    :param created_at: when the job was sent, milliseconds since the epoch; by default, when
        its message was made.
    :param now: tells the time of its log lines, in milliseconds since the epoch; by default,
        that of the machine.
    """

    __slots__ = (
        "_now",
        "attempt",
        "crashes",
        "created_at",
        "discarded",
        "expired",
        "failed",
        "follow_ups",
        "message",
        "notes",
        "reasons",
        "retry_delay",
        "time_limit",
        "told",
    )

    def __init__(
        self,
        message: Message,
        *,
        attempt: int = 1,
        crashes: int = 0,
        created_at: int | None = None,
        now: Callable[[], int] | None = None,
    ) -> None:
        self._now = now
        self.message = message
        self.created_at = message.message_timestamp if created_at is None else created_at
        self.attempt = attempt
        self.crashes = crashes
        #: Whether the job fails for good with this run.
        self.failed = False
        #: Whether the job ends with this run as cancelled, which is no failure.
        self.discarded = False
        #: Whether the job is too old to run.
        self.expired = False
        #: Milliseconds until the job runs again, if it does.
        self.retry_delay: int | None = None
        #: How long this run may take, in milliseconds; None for no limit. It is heeded if it
        #: is set before the actor runs.
        self.time_limit: int | None = None
        #: What this run was told to end for, if it was.
        self.told: type[Interrupt] | None = None
        #: All that it was told to end for.
        self.reasons: Collection[type[Interrupt]] = ()
        #: Jobs that are stored together with the job's outcome. See ``Broker.follow_up()``.
        self.follow_ups: tuple[Envelope, ...] = ()
        #: What the run has noted down for its record; None, as for most, if it never did.
        self.notes: Notes | None = None

    @property
    def id(self) -> str:
        """The job's id."""
        return self.message.message_id

    def progress(
        self, current: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Tell how far the run has come. The record shows it within a second.

        It costs next to nothing and may be called for each of a million rows: what was told
        last is stored from time to time, and with the outcome.

        :param current: in units of the actor's choice.
        :param total: what ``current`` will be at the end, if that is known.
        :param message: a few words for people; what is over 2,000 characters is cut.
        :raises TypeError: ``current`` or ``total`` is no number, or ``message`` no text.
        :raises ValueError: a number is not finite, or ``total`` is below 0.
        """
        (self.notes or self._begin_notes()).progress(current, total, message)

    def log(self, text: str, level: str = "info") -> None:
        """Add a line to the job's own log, of which the record keeps the last 100.

        :param text: what is over 2,000 characters is cut.
        :param level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``.
        :raises TypeError: ``text`` is no text.
        :raises ValueError: there is no such level.
        """
        (self.notes or self._begin_notes()).log(text, level)

    def _begin_notes(self) -> Notes:
        self.notes = Notes(self._now or Clock().now, self.attempt)
        return self.notes

    def fail(self) -> None:
        """Let the job fail for good with this run."""
        self.failed, self.discarded = True, False
        self.retry_delay = None

    def discard(self) -> None:
        """Give the job up with this run: it ends as cancelled, and that is no failure."""
        self.failed, self.discarded = False, True
        self.retry_delay = None

    def expire(self) -> None:
        """Let the job end as expired, for a hook that then raises :exc:`SkipMessage`."""
        self.expired = True

    def check_cancelled(self) -> None:
        """End the run here if it was told to end: a good place for a long job to ask.

        Where nothing is raised from outside, because the actor is ``cooperative``, this is
        the only way to hear of it.

        :raises JobCancelled: somebody has cancelled the job.
        :raises TimeLimitExceeded: its time limit is over.
        :raises Shutdown: its worker is stopping, and the job will run again.
        :raises LeaseLost: its worker has lost the job, which may run elsewhere by now.
        """
        if self.told is not None:
            raise self.told

    def retry(self, delay: int) -> None:
        """Let the job run again.

        :param delay: after this many milliseconds.
        :raises ValueError: that is over 6,000 years.
        """
        if delay > LONGEST:
            raise ValueError(f"retry() got {delay!r} ms; it is at most 6,000 years")
        self.retry_delay = delay

    def __getattr__(self, name: str) -> Any:
        # Only what an instance lacks is looked for here. While one is being copied it has
        # nothing yet, and asking for its message would end up here again.
        if name in MessageProxy.__slots__:
            raise AttributeError(name)
        return getattr(self.message, name)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, MessageProxy):
            return self.message == other.message
        return self.message == other

    __hash__ = None  # type: ignore[assignment]  # like the message: it holds dicts

    def __str__(self) -> str:
        return str(self.message)

    def __repr__(self) -> str:
        return f"MessageProxy({self.message!r})"


def is_decided(message: MessageProxy, exception: BaseException) -> bool:
    """Whether an exception of a run says itself what becomes of the job, and is no failure.

    A job goes back to its queue, uncharged, if it was told :exc:`Shutdown` or
    :exc:`LeaseLost`. One whose actor raises them itself would run again at once, for ever.
    """
    if isinstance(exception, (LeaseLost, Shutdown)):
        return isinstance(exception, tuple(message.reasons))
    return isinstance(exception, DECIDED)


class Middleware:
    """Base class of middleware: override what is needed.

    ``before_`` hooks run in the order of the broker's list, ``after_`` hooks in reverse.
    An exception in a hook is logged and ignored, but for a :exc:`MiddlewareError` of a
    ``before_`` hook, which ends what was about to happen.
    """

    @property
    def actor_options(self) -> Iterable[str]:
        """Names of the options that this middleware adds to actors and messages."""
        return ()

    @property
    def option_defaults(self) -> Mapping[str, Any]:
        """What those options are where neither message nor actor says so.

        An option that is not in here is what the ``TASKQ_`` key of its name says.
        """
        return {}

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Refuse values with which this middleware could not work.

        It is asked when an actor is declared and when a message is sent.

        :param options: those of ``actor_options`` that the actor, or the message, has.
        :raises ValueError: one cannot be right. The text names it and says what it may be.
        """

    @property
    def nullable_options(self) -> Set[str]:
        """Those of the options for which None is a value, such as no limit. None for another
        one is as if it had not been given."""
        return frozenset()

    @property
    def declared_options(self) -> Iterable[str]:
        """Those of the options that only an actor can have, and no message: functions and
        classes, which are no JSON."""
        return ()

    def around_process_message(
        self, broker: Broker, message: MessageProxy
    ) -> AbstractContextManager[object] | None:
        """A context that is open while the hooks and the actor of one job run; None for a
        job that needs none.

        The first middleware's context is the outermost. An exception on the way in or out
        is an error of the run.
        """
        raise NotImplementedError

    # An actor's type is left open in the next two: its room is above this one.

    def before_declare_actor(self, broker: Broker, actor: Any) -> None:
        """An actor is about to be declared. :param actor: an ``Actor``."""

    def after_declare_actor(self, broker: Broker, actor: Any) -> None:
        """An actor was declared. :param actor: an ``Actor``."""

    def before_declare_queue(self, broker: Broker, queue_name: str) -> None:
        """A queue is about to be declared, by the first actor that uses it."""

    def after_declare_queue(self, broker: Broker, queue_name: str) -> None:
        """A queue was declared."""

    def before_enqueue(self, broker: Broker, message: Message, delay: int | None) -> None:
        """A message is about to be sent, in ``delay`` milliseconds or at once."""

    def after_enqueue(self, broker: Broker, message: Message, delay: int | None) -> None:
        """A message was stored."""

    def after_cancel(self, broker: Broker, record: JobRecord) -> None:
        """A job was cancelled that no worker held, or that would have run again.

        :param record: its record afterwards.
        """

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """An actor is about to run. Raise :exc:`SkipMessage` to end the job unrun."""

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """An actor has run, or was kept from it by :exc:`Snooze` or :exc:`Cancel`.

        :meth:`MessageProxy.retry`, ``fail`` and ``discard`` say what follows an exception;
        after one for which :func:`is_decided` holds that is said already.
        """

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """A job was ended by :exc:`SkipMessage`, or has expired."""

    def before_ack(self, broker: Broker, message: MessageProxy) -> None:
        """The outcome of a job that did not fail for good is about to be stored."""

    def after_ack(self, broker: Broker, message: MessageProxy) -> None:
        """The outcome of a job that did not fail for good was stored."""

    def before_nack(self, broker: Broker, message: MessageProxy) -> None:
        """The final failure of a job is about to be stored."""

    def after_nack(self, broker: Broker, message: MessageProxy) -> None:
        """The final failure of a job was stored."""

    def after_process_boot(self, broker: Broker) -> None:
        """A worker process has built its app; no worker has started in it yet."""

    def after_process_death(
        self, broker: Broker, *, worker_id: str, exit_code: int, job_ids: Sequence[str]
    ) -> None:
        """Another worker process of the same command has died; called in a thread apart.

        :param worker_id: the worker that it had.
        :param exit_code: negative for the number of the signal that killed it.
        :param job_ids: the jobs that it was running.
        """

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """A worker is about to start."""

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """A worker has started."""

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """A worker is about to stop: it fetches nothing any more."""

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """A worker has stopped."""

    def after_consumer_thread_boot(self, broker: Broker, thread: threading.Thread) -> None:
        """The thread that fetches has started; called in that thread."""

    def before_consumer_thread_shutdown(self, broker: Broker, thread: threading.Thread) -> None:
        """The thread that fetches is about to end; called in that thread."""

    def after_worker_thread_boot(self, broker: Broker, thread: threading.Thread) -> None:
        """A thread that runs actors has started; called in that thread."""

    def before_worker_thread_shutdown(self, broker: Broker, thread: threading.Thread) -> None:
        """A thread that runs actors is about to end; called in that thread."""


#: Every hook there is.
HOOKS = tuple(
    name for name in vars(Middleware) if name.startswith(("before_", "after_", "around_"))
)
