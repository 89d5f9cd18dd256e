"""What a middleware can do: every hook, empty, with its contract."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from collections.abc import Set
from contextlib import AbstractContextManager
from typing import Any
from typing import Protocol
from typing import TypeVar

from ..config import Settings
from ..engines.base import Engine
from ..errors import Interrupt
from ..jobs.message import Message
from ..jobs.record import JobRecord
from .actor import Actor
from .run import Run


class HookBroker(Protocol):
    """What a hook may use of the broker that calls it."""

    @property
    def actors(self) -> Mapping[str, Actor[..., Any]]: ...

    @property
    def engine(self) -> Engine: ...

    @property
    def settings(self) -> Settings: ...

    @property
    def call_engine(self) -> Callable[..., Any]: ...

    def option(self, message: Message | Run, name: str) -> Any: ...

    def get_record(self, job_id: str) -> JobRecord: ...

    def follow_up(self, message: Run, actor_name: str, *args: Any) -> None: ...

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None: ...

    def forget_resolved(self) -> None: ...


class HookWorker(Protocol):
    """What a hook may use of the worker that calls it."""

    @property
    def id(self) -> str: ...

    @property
    def queues(self) -> Sequence[str]: ...

    @property
    def threads(self) -> Sequence[threading.Thread]: ...

    def interrupt(self, exception: type[Interrupt], wanted: Callable[[Run], bool]) -> None: ...


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

    def applies_to(self, broker: HookBroker, actor: Actor[..., Any]) -> bool:
        """Whether the hooks around a run have anything to do for a message of this actor that
        brings no options of its own.

        It is asked once for each actor, and where it is False they are not called. When what
        it goes by changes, call :meth:`.Broker.forget_resolved`.
        """
        return True

    def around_process_message(
        self, broker: HookBroker, message: Run
    ) -> AbstractContextManager[object] | None:
        """A context that is open while the hooks and the actor of one job run; None for a
        job that needs none.

        The first middleware's context is the outermost. An exception on the way in or out
        is an error of the run.
        """
        raise NotImplementedError

    def before_declare_actor(self, broker: HookBroker, actor: Actor[..., Any]) -> None:
        """An actor is about to be declared."""

    def after_declare_actor(self, broker: HookBroker, actor: Actor[..., Any]) -> None:
        """An actor was declared."""

    def before_declare_queue(self, broker: HookBroker, queue_name: str) -> None:
        """A queue is about to be declared, by the first actor that uses it."""

    def after_declare_queue(self, broker: HookBroker, queue_name: str) -> None:
        """A queue was declared."""

    def before_enqueue(self, broker: HookBroker, message: Message, delay: int | None) -> None:
        """A message is about to be sent, in ``delay`` milliseconds or at once."""

    def after_enqueue(self, broker: HookBroker, message: Message, delay: int | None) -> None:
        """A message was stored."""

    def after_cancel(self, broker: HookBroker, record: JobRecord) -> None:
        """A job was cancelled that no worker held, or that would have run again.

        :param record: its record afterwards.
        """

    def before_process_message(self, broker: HookBroker, message: Run) -> None:
        """An actor is about to run. Raise :exc:`SkipMessage` to end the job unrun."""

    def after_process_message(
        self,
        broker: HookBroker,
        message: Run,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """An actor has run, or was kept from it by :exc:`Snooze` or :exc:`Cancel`.

        :meth:`.Run.retry`, ``fail`` and ``discard`` say what follows an exception;
        after one for which :func:`~flask_taskq.actors.run.is_decided` holds, that is
        decided already.
        """

    def after_skip_message(self, broker: HookBroker, message: Run) -> None:
        """A job was ended by :exc:`SkipMessage`, or has expired."""

    def before_ack(self, broker: HookBroker, message: Run) -> None:
        """The outcome of a job that did not fail for good is about to be stored."""

    def after_ack(self, broker: HookBroker, message: Run) -> None:
        """The outcome of a job that did not fail for good was stored."""

    def before_nack(self, broker: HookBroker, message: Run) -> None:
        """The final failure of a job is about to be stored."""

    def after_nack(self, broker: HookBroker, message: Run) -> None:
        """The final failure of a job was stored."""

    def after_process_boot(self, broker: HookBroker) -> None:
        """A worker process has built its app; no worker has started in it yet."""

    def after_process_death(
        self, broker: HookBroker, *, worker_id: str, exit_code: int, job_ids: Sequence[str]
    ) -> None:
        """Another worker process of the same command has died; called in a thread apart.

        :param worker_id: the worker that it had.
        :param exit_code: negative for the number of the signal that killed it.
        :param job_ids: the jobs that it was running.
        """

    def before_worker_boot(self, broker: HookBroker, worker: HookWorker) -> None:
        """A worker is about to start."""

    def after_worker_boot(self, broker: HookBroker, worker: HookWorker) -> None:
        """A worker has started."""

    def before_worker_shutdown(self, broker: HookBroker, worker: HookWorker) -> None:
        """A worker is about to stop: it fetches nothing any more."""

    def after_worker_shutdown(self, broker: HookBroker, worker: HookWorker) -> None:
        """A worker has stopped."""

    def after_consumer_thread_boot(self, broker: HookBroker, thread: threading.Thread) -> None:
        """The thread that fetches has started; called in that thread."""

    def before_consumer_thread_shutdown(
        self, broker: HookBroker, thread: threading.Thread
    ) -> None:
        """The thread that fetches is about to end; called in that thread."""

    def after_worker_thread_boot(self, broker: HookBroker, thread: threading.Thread) -> None:
        """A thread that runs actors has started; called in that thread."""

    def before_worker_thread_shutdown(
        self, broker: HookBroker, thread: threading.Thread
    ) -> None:
        """A thread that runs actors is about to end; called in that thread."""


F = TypeVar("F", bound=Callable[..., None])


def for_failures(hook: F) -> F:
    """Mark an ``after_process_message`` hook that has nothing to do where a run succeeded; it
    is not called then."""
    hook.is_for_failures = True  # type: ignore[attr-defined]
    return hook


#: Every hook there is.
HOOKS = tuple(
    name for name in vars(Middleware) if name.startswith(("before_", "after_", "around_"))
)
