"""The broker of one app: its actors, its middleware, and the one way in for messages."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from collections.abc import Set
from datetime import timedelta
from functools import partial
from typing import Any
from typing import cast
from typing import Final
from typing import NamedTuple
from typing import TypeVar

import msgspec

from ..clock import Clock
from ..clock import END_OF_TIME
from ..config import milliseconds
from ..config import Settings
from ..engines.base import Engine
from ..engines.base import Enqueued
from ..errors import ActorNotFound
from ..errors import BadArguments
from ..errors import JobNotFound
from ..jobs.delivery import Envelope
from ..jobs.encoding import check_actor_name
from ..jobs.encoding import check_queue_name
from ..jobs.encoding import decode_value
from ..jobs.encoding import encode_message
from ..jobs.encoding import JOB_ID
from ..jobs.encoding import to_json_types
from ..jobs.flow import make_unique_key
from ..jobs.lifecycle import begin
from ..jobs.message import check_message
from ..jobs.message import Message
from ..jobs.message import UNCHECKED
from ..jobs.record import JobRecord
from ..jobs.record import Status
from ..loggers import get_logger
from .actor import Actor
from .actor import check_name_is_free
from .arguments import check_unknown
from .hook_chain import Chain
from .hooks import Middleware
from .job import Job
from .middleware_options import OptionTable
from .option_checks import check_delay
from .option_checks import check_eta
from .option_checks import check_priority
from .resolved_actor import find_max_attempts
from .resolved_actor import resolve_actor
from .resolved_actor import ResolvedActor
from .run import Run

logger = get_logger(__name__)

T = TypeVar("T")

#: What a message can have besides the options of middleware.
_MESSAGE_OPTIONS: Final = frozenset({"delay", "eta", "priority", UNCHECKED})

#: How long one call of the engine waits for a job, in milliseconds, where others wait for the
#: thread that makes it.
_SLICE: Final = 1_000

#: For how long what is known of queues is taken for true, in milliseconds.
_SERVING_TIME: Final = 1_000


class _Serving(NamedTuple):
    """What holds for queues.

    :param at: when it was asked for, in milliseconds of the monotonic clock.
    :param served: the queues that workers serve; None if that is not known.
    """

    at: float
    paused: set[str]
    served: set[str] | None


def _describe_to_nobody(record: JobRecord) -> dict[str, Any]:
    raise RuntimeError(f"job {record.id} is of a broker without an app: it has no clients")


def _call(function: Callable[..., T], *args: Any) -> T:
    return function(*args)


class Broker:
    """Between the user's words and an engine. The only place that emits hooks.

    :param engine: where jobs are stored.
    :param settings: the app's configuration.
    :param clock: the time.
    :param middleware: in the order in which their ``before_`` hooks run.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        clock: Clock,
        middleware: Iterable[Middleware] = (),
    ) -> None:
        self.engine = engine
        self.settings = settings
        self.clock = clock
        self.actors: dict[str, Actor[..., Any]] = {}
        #: The hooks of middleware.
        self.chain = Chain(self)
        self._options = OptionTable(settings)
        #: The actors that :meth:`resolve` has resolved, by name.
        self.resolved_actors: dict[str, ResolvedActor] = {}
        #: Names of the queues that are known.
        self.queues: set[str] = set()
        #: How a call of the engine is made. A worker routes it through threads of its own,
        #: because an exception that is raised into a job must not hit a connection.
        self.call_engine: Callable[..., Any] = _call
        #: Likewise one that may take long, which an interrupted job gives up; None for
        #: no difference.
        self.wait_in_engine: Callable[..., Any] | None = None
        #: Runs jobs, by their ids, before ``send()`` returns; None leaves them to workers.
        self.run_at_once: Callable[[list[str]], None] | None = None
        #: Runs a job while the caller waits for it, for so many milliseconds or without a
        #: limit; None leaves it to workers.
        self.run_awaited: Callable[[str, int | None], None] | None = None
        #: How clients see a record. An app puts here what knows of its routes.
        self.describe: Callable[[JobRecord], dict[str, Any]] = _describe_to_nobody
        self._serving: _Serving | None = None
        #: One for each coroutine that waits for a job.
        self.awaiting: set[object] = set()
        for one in middleware:
            self.add_middleware(one)

    def close(self) -> None:
        """Let go of the engine's connections."""
        self.engine.close()

    # Middleware

    def add_middleware(
        self,
        middleware: Middleware,
        *,
        before: type[Middleware] | None = None,
        after: type[Middleware] | None = None,
    ) -> None:
        """Add a middleware: at the end, or next to the first one of a class.

        :raises ValueError: there is none of that class, or both places were given.
        """
        self.chain.add(middleware, before, after)
        self._options.add(middleware)
        self.forget_resolved()
        for actor in self.actors.values():
            middleware.after_declare_actor(self, actor)
        for queue_name in self.queues:
            middleware.after_declare_queue(self, queue_name)

    def remove_middleware(self, middleware: Middleware) -> None:
        """Take a middleware out again. The options that it brought stay known.

        :raises ValueError: it is not among the broker's.
        """
        self.chain.remove(middleware)
        self.forget_resolved()

    @property
    def middleware(self) -> Sequence[Middleware]:
        """In the order in which their ``before_`` hooks run."""
        return self.chain.middleware

    @property
    def actor_options(self) -> Set[str]:
        """Names of the options that an actor can have."""
        return self._options.names

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """See :meth:`.Chain.emit_before`."""
        self.chain.emit_before(signal, *args, **kwargs)

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """See :meth:`.Chain.emit_after`."""
        self.chain.emit_after(signal, *args, **kwargs)

    # Actors

    def declare_actor(self, actor: Actor[..., Any]) -> None:
        """Make an actor known.

        :raises ValueError: its name is taken, or no middleware knows one of its options, or
            what one of them is.
        """
        check_name_is_free(actor, self.actors)
        owner = f"actor {actor.actor_name!r}"
        self._options.check(owner, actor.options, self.middleware)
        _check_unique(actor, actor.options.get("unique"))
        self.emit_before("declare_actor", actor)
        self.declare_queue(actor.queue_name)
        self.actors[actor.actor_name] = actor
        self.resolved_actors.pop(actor.actor_name, None)
        self.emit_after("declare_actor", actor)

    def declare_queue(self, queue_name: str) -> None:
        """Make a queue known that no actor has: its workers serve it, and messages may name
        it. Nothing happens if it is known.
        """
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def get_actor(self, actor_name: str) -> Actor[..., Any]:
        """:raises ActorNotFound: no actor of this name is declared."""
        try:
            return self.actors[actor_name]
        except KeyError:
            raise ActorNotFound(
                f"no actor is named {actor_name!r} in this process; the module that declares"
                " it must be imported where the app is made, or be in TASKQ_ACTORS"
            ) from None

    def get_declared_actors(self) -> set[str]:
        """Names of the actors."""
        return set(self.actors)

    def get_declared_queues(self) -> set[str]:
        """Names of the queues."""
        return set(self.queues)

    def option(self, message: Message | Run, name: str) -> Any:
        """An option as it holds for a message.

        :return: what the message says, else its actor, else the middleware that has the
            option, else the ``TASKQ_`` key of its name, else None.
        """
        if isinstance(message, Run):
            message = message.message
        resolved = self.resolved_actors.get(message.actor_name) or self.resolve(
            message.actor_name
        )
        if not message.options and name in resolved.options:
            return resolved.options[name]
        return self._options.value(name, message.options, resolved.actor)

    def resolve(self, actor_name: str) -> ResolvedActor:
        """What holds for all messages of an actor that bring no options of their own."""
        # What is forgotten meanwhile, since something has changed, must not come back.
        resolved_actors = self.resolved_actors
        resolved = resolved_actors.get(actor_name)
        if resolved is None:
            actor = self.actors.get(actor_name)
            resolved = resolve_actor(actor, self.chain, self._options)
            if actor is not None:  # names that come from outside are without number
                resolved_actors[actor_name] = resolved
        return resolved

    def forget_resolved(self) -> None:
        """Resolve all actors again, since :meth:`.Middleware.applies_to` has new results."""
        self.resolved_actors = {}

    # Messages

    def enqueue(self, message: Message, *, delay: int | timedelta | None = None) -> Job[Any]:
        """Store a message as a job.

        :param delay: do not run it before this many milliseconds are over; in place of what
            the message says.
        :raises BadArguments: the arguments do not fit the actor or its annotations, or would
            not be read back as what they are; or an option can only be given to an actor.
        :raises PayloadTooLarge: it is over ``TASKQ_MAX_MESSAGE_SIZE``.
        :raises ValueError: a name, the id or an option in it is not valid.
        :raises BrokerError: it could not be stored.
        """
        return self.enqueue_many([message], delay=delay)[0]

    def enqueue_many(
        self, messages: Iterable[Message], *, delay: int | timedelta | None = None
    ) -> list[Job[Any]]:
        """Store messages as jobs, all of them or none, in one step.

        :param delay: do not run them before this many milliseconds are over; in place of
            what the messages say.
        :raises BadArguments, PayloadTooLarge, ValueError, BrokerError: as :meth:`enqueue`.
        """
        now = self.clock.now()
        sent = [self._check(message, delay, now) for message in messages]
        if before := self.chain.hooks["before_enqueue"]:
            for message, wait, _ in sent:
                self.chain.call_before(before, message, wait)
        envelopes = [
            self._seal(message, wait, eta, now) if wait or eta else self._seal(message)
            for message, wait, eta in sent
        ]
        stored = self.call_engine(self.engine.enqueue, envelopes)
        if after := self.chain.hooks["after_enqueue"]:
            for (message, wait, _), one in zip(sent, stored, strict=True):
                if one.reason != "unique":
                    self.chain.call_after(after, (Exception,), message, wait)
        if self.run_at_once is not None:
            self.run_at_once([one.id for one in stored if one.is_new])
        return [
            Job(self._stored_record(envelope, one), self)
            for envelope, one in zip(envelopes, stored, strict=True)
        ]

    def _stored_record(self, envelope: Envelope, stored: Enqueued) -> JobRecord:
        """The record of a job that was sent, read only where it must be."""
        # The machine's clock may be wrong: what is stored goes by the engine's.
        first = begin(envelope, stored.at)
        if stored.is_new and self.run_at_once is None:
            return first
        record = self.call_engine(self.engine.jobs.get, stored.id)
        if record is not None:
            return cast(JobRecord, record)
        # It is kept no longer.
        return msgspec.structs.replace(first, id=stored.id, status=stored.status)

    def _check(
        self, message: Message, delay: int | timedelta | None, now: int
    ) -> tuple[Message, int | None, int | None]:
        """A message as it will be stored, how many milliseconds it must wait, and until when
        if it says that itself."""
        if (
            type(message) is not Message
            or type(message.args) is not tuple
            or type(message.kwargs) is not dict
            or type(message.options) is not dict
            or type(message.message_timestamp) is not int
        ):
            check_message(message)  # it was made by hand
        actor = self.actors.get(message.actor_name)
        if actor is None:
            check_unknown(message.args, message.kwargs, message.actor_name)
        else:
            actor.arguments.check(message.args, message.kwargs)
        wait = eta = None
        if message.options:  # most have none, and pay nothing for those of others
            self._options.refuse_declared(message)
            owner = f"a message for actor {message.actor_name!r}"
            self._options.check(owner, message.options, self.middleware, _MESSAGE_OPTIONS)
            wait, eta = _find_wait(message, now)
            if math.inf in message.options.values():
                message = message.copy(options=self._options.without_infinity(message.options))
        if actor is None:
            message = message.copy(options={UNCHECKED: True})
        if delay is not None:
            wait, eta = check_delay(milliseconds(delay), message.actor_name), None
        return message, wait, eta

    def follow_up(self, message: Run, actor_name: str, *args: Any) -> None:
        """Send a message together with the outcome of a run, for ``after_`` hooks.

        It is stored in the step that stores the outcome, and not at all if the outcome is
        refused, or the job runs again.

        :param message: of the run.
        :param actor_name: the actor that the message is for.
        :raises ActorNotFound: this process does not know that actor.
        :raises BadArguments, PayloadTooLarge: as :meth:`enqueue`.
        """
        actor = self.get_actor(actor_name)
        try:
            actor.arguments.check(args, {})
        except BadArguments:
            # A result whose type the next actor does not name is passed on as JSON has it.
            args = tuple(map(to_json_types, args))
            actor.arguments.check(args, {})
        next_message = actor.message(*args)
        self.emit_before("enqueue", next_message, None)
        message.follow_ups += (self._seal(next_message),)

    def _seal(
        self, message: Message, wait: int | None = None, eta: int | None = None, now: int = 0
    ) -> Envelope:
        # A message may be made, or changed, by hand. A worker would refuse it.
        if message.queue_name not in self.queues:
            self._note_queue(check_queue_name(message.queue_name), message.actor_name)
        if not JOB_ID.fullmatch(message.message_id):
            raise ValueError(f"{message.message_id!r} is no job's id: those are 32 hex digits")
        resolved = self.resolved_actors.get(message.actor_name)
        if resolved is None:
            resolved = self.resolve(check_actor_name(message.actor_name))
        actor = resolved.actor
        parameters = actor.parameters if actor else ()
        priority = actor.priority if actor else 0
        max_attempts, unique_key = resolved.max_attempts, None
        if message.options:
            max_attempts = self._max_attempts(message)
        if message.options or resolved.options.get("unique"):
            unique_key = self._unique_key(message, actor)
        if message.options and message.options.get("priority") is not None:
            priority = check_priority(message.options["priority"], message.actor_name)
        if now + (wait or 0) > END_OF_TIME:
            raise ValueError(
                "a job cannot wait beyond the year 9999: is its delay in milliseconds?"
            )
        return Envelope(
            id=message.message_id,
            queue=message.queue_name,
            actor=message.actor_name,
            priority=priority,
            message=encode_message(message, self.settings.max_message_size, parameters),
            delay=wait if eta is None else None,
            due_at=eta,
            max_attempts=max_attempts,
            unique_key=unique_key,
        )

    def _note_queue(self, queue_name: str, actor_name: str) -> None:
        """Declare a queue that gets its first message."""
        # A message for an actor that is not here goes to another app, on purpose.
        if actor_name in self.actors:
            near = difflib.get_close_matches(queue_name, self.queues, n=1)
            logger.warning(
                "a message for actor %r goes to the queue %r, which no actor of this app has:"
                " only a worker whose --queues names it runs the job%s (if that is meant,"
                " call broker.declare_queue(%r) when the app is set up)",
                actor_name,
                queue_name,
                f"; did you mean {near[0]!r}?" if near else "",
                queue_name,
            )
        self.declare_queue(queue_name)

    def _max_attempts(self, message: Message) -> int | None:
        return find_max_attempts(
            partial(self.option, message),
            "max_retries" in self.actor_options,
            "max_retries" not in message.options,
        )

    def _unique_key(self, message: Message, actor: Actor[..., Any] | None) -> str | None:
        unique = self.option(message, "unique")
        if unique is None or unique is False:
            return None
        parameters: Sequence[str] = ()
        if actor is not None:
            _check_unique(actor, unique)
            parameters = actor.parameters
        name, args, kwargs = message.actor_name, message.args, message.kwargs
        return make_unique_key(name, unique, parameters, args, kwargs)

    # Records

    def get_record(self, job_id: str) -> JobRecord:
        """:raises JobNotFound: no record has this id."""
        return _known(job_id, self.call_engine(self.engine.jobs.get, job_id))

    def wait_for_record(
        self, job_id: str, timeout: int | None, at_once: int | None = None
    ) -> JobRecord:
        """The record once it is final, or as it is when the time is over.

        :param timeout: milliseconds; None waits for ever.
        :param at_once: how much of that this call may take, in milliseconds.
        :raises JobNotFound: no record has this id.
        :raises ResultTimeout: jobs run where they are waited for, and this one would not end.
        """
        if self.run_awaited is not None:
            self.run_awaited(job_id, timeout)
        if at_once is not None:
            timeout = at_once if timeout is None else min(timeout, at_once)
        # In slices where a thread is lent for it: should the wait be given up, it is free soon.
        call, is_lent = self.wait_in_engine or self.call_engine, self.wait_in_engine is not None
        until = math.inf if timeout is None else self.clock.monotonic() + timeout
        while True:
            left = max(0.0, until - self.clock.monotonic())
            wait = math.ceil(min(left, _SLICE)) if is_lent else timeout
            record = _known(job_id, call(self.engine.jobs.wait, job_id, wait))
            is_over = not is_lent or self.clock.monotonic() >= until
            if record.status.is_final or is_over:
                return record

    def cancel(self, job_id: str) -> JobRecord:
        """Cancel a job, or ask for it if it is running.

        :return: the record afterwards.
        :raises JobNotFound: no record has this id.
        """
        # After the call it is unknown whether the job had been cancelled long before.
        earlier = self.get_record(job_id)
        record = _known(job_id, self.call_engine(self.engine.jobs.cancel, job_id))
        if record.status is Status.CANCELLED and not earlier.status.is_final:
            self.emit_after("cancel", record)
        return record

    def requeue(self, job_id: str) -> JobRecord:
        """Run a job again that failed or was cancelled, with all its attempts before it.

        :return: the record afterwards. Any other job is left as it is, and so is one whose
            ``unique`` key another job has by now.
        :raises JobNotFound: no record has this id.
        """
        return _known(job_id, self.call_engine(self.engine.jobs.requeue, job_id))

    def delete(self, job_id: str) -> JobRecord:
        """Remove a job with its record.

        :return: the record as it was. A job that is running is left as it is.
        :raises JobNotFound: no record has this id.
        """
        return _known(job_id, self.call_engine(self.engine.jobs.delete, job_id))

    def find_reason(self, record: JobRecord) -> str | None:
        """Why a job waits, as a word for programs; None if it does not wait, or the reason is
        unknown.

        :return: the record's own ``status_reason``, or ``paused`` for a job whose queue is
            paused, or ``no_worker`` for one whose queue no worker serves. What holds for
            queues is asked for once a second at most.
        """
        if record.status is not Status.QUEUED:
            return record.status_reason
        serving = self._find_serving()
        if record.queue in serving.paused:
            return "paused"
        if serving.served is not None and record.queue not in serving.served:
            return "no_worker"
        return record.status_reason

    def _find_serving(self) -> _Serving:
        now = self.clock.monotonic()
        if self._serving is None or now - self._serving.at >= _SERVING_TIME:
            engine = self.engine
            served: set[str] | None = None
            if engine.is_shared:  # jobs in memory run in the process that waits for them
                infos = self.call_engine(engine.workers.all).values()
                # One that says nothing of its queues may serve any.
                if all(info.queues for info in infos):
                    served = {queue for info in infos for queue in info.queues}
            paused = self.call_engine(engine.queues.paused)
            self._serving = _Serving(now, paused, served)
        return self._serving

    def decode_result(self, actor_name: str, result: bytes) -> Any:
        """A stored result, as the annotation says if the actor is declared.

        :raises BadResult: it does not fit.
        """
        actor = self.actors.get(actor_name)
        return decode_value(result) if actor is None else actor.decode_result(result)


def _check_unique(actor: Actor[..., Any], unique: Any) -> None:
    """Check that the parameters exist which the option ``unique`` names."""
    if not isinstance(unique, (list, tuple)):
        return
    for name in unique:
        if not actor.arguments.takes(name):
            raise ValueError(
                f"unique of actor {actor.actor_name!r} names {name!r}, which is none of its"
                " parameters"
            )


def _find_wait(message: Message, now: int) -> tuple[int | None, int | None]:
    """How long a message says that it must wait, in milliseconds, and until when."""
    delay, eta = message.options.get("delay"), message.options.get("eta")
    if delay is not None and eta is not None:
        raise ValueError(
            f"a message for actor {message.actor_name!r} has a delay or an eta, not both"
        )
    if delay is not None:
        return check_delay(delay, message.actor_name), None
    if eta is None:
        return None, None
    return max(0, check_eta(eta, message.actor_name) - now), eta


def _known(job_id: str, record: JobRecord | None) -> JobRecord:
    if record is None:
        raise JobNotFound(
            f"no job has the id {job_id!r}: it never existed or was kept long enough"
        )
    return record
