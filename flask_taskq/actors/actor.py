"""A declared function."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from collections.abc import Coroutine
from collections.abc import Mapping
from collections.abc import Sequence
from datetime import datetime
from datetime import timedelta
from typing import Any
from typing import Final
from typing import Generic
from typing import overload
from typing import ParamSpec
from typing import Protocol
from typing import TypeVar

from ..config import milliseconds
from ..errors import BadArguments
from ..errors import BadResult
from ..jobs.encoding import check_actor_name
from ..jobs.encoding import check_queue_name
from ..jobs.encoding import decode_value
from ..jobs.message import Message
from ..lazy_property import lazy_property
from .annotations import make_result_decoder
from .annotations import read_annotation
from .annotations import Value
from .arguments import Arguments
from .job import Job
from .option_checks import check_delay
from .option_checks import check_eta
from .option_checks import check_priority
from .option_checks import since_epoch

P = ParamSpec("P")
R = TypeVar("R")

#: Options that name another actor.
CALLBACKS: Final = frozenset({"on_success", "on_failure", "on_retry_exhausted"})


class Sender(Protocol):
    """What an actor sends through: a broker."""

    def enqueue(self, message: Message, *, delay: int | timedelta | None = None) -> Job[Any]:
        """Store a message as a job."""


class ActorDecorator(Protocol):
    """What ``taskq.actor(...)`` returns: it takes a function and declares it."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]]) -> AsyncActor[P, R]: ...

    @overload
    def __call__(self, fn: Callable[P, R]) -> Actor[P, R]: ...


class Actor(Generic[P, R]):
    """A function that can run as a job. A plain call runs the function.

    Actors belong to the extension and are made at import time; which broker a message goes
    to is resolved when it is sent.

    :param fn: the function.
    :param resolver: finds the broker to send through.
    :param actor_name: the name that messages carry.
    :param queue_name: the queue that its messages go to.
    :param priority: from -9, first, to 9, last.
    :param check_types: whether arguments and results are held against the annotations.
    :param options: options of middleware.
    :raises ValueError: a name or the priority is not valid.
    """

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        resolver: Callable[[], Sender],
        actor_name: str,
        queue_name: str = "default",
        priority: int = 0,
        check_types: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.fn = fn
        self.actor_name = check_actor_name(actor_name)
        self.queue_name = check_queue_name(queue_name)
        self.priority = check_priority(priority, actor_name)
        self.options = {
            name: since_epoch(name, _name_actor(name, value))
            for name, value in (options or {}).items()
        }
        self.is_async = inspect.iscoroutinefunction(fn)
        #: What the function can be called with.
        self.arguments = Arguments(fn, actor_name, check_types=check_types)
        self.signature = self.arguments.signature
        #: Names of the parameters that can be given by position.
        self.parameters = self.arguments.names
        self.logger = logging.getLogger(f"{fn.__module__}.{actor_name}")
        self._check_types = check_types
        self._resolver = resolver
        # For help(), Sphinx and whatever else looks for the function in the actor.
        functools.update_wrapper(self, fn, updated=())

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function in this thread, without a queue."""
        return self.fn(*args, **kwargs)

    # Positional only, as is that of send(): a parameter of the function may be named "self".
    def message(self, /, *args: P.args, **kwargs: P.kwargs) -> Message:
        """Make a message without sending it.

        The arguments are checked when it is sent: until then more may be added to them.
        """
        return Message(self.queue_name, self.actor_name, args, kwargs, {})

    def message_with_options(
        self,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        delay: int | timedelta | None = None,
        eta: int | datetime | None = None,
        priority: int | None = None,
        queue_name: str | None = None,
        **options: Any,
    ) -> Message:
        """Make a message with options of its own, without sending it.

        :param delay: do not run it before this many milliseconds after it was sent.
        :param eta: do not run it before this moment: an aware datetime, or milliseconds
            since the epoch.
        :param priority: in place of the actor's own.
        :param queue_name: in place of the actor's own. A worker serves a queue that is no
            actor's own only if ``--queues`` names it, or the app has declared it by
            ``broker.declare_queue()``.
        :param options: what overrides the actor's own options; a duration is milliseconds
            or a timedelta, a moment an aware datetime or milliseconds since the epoch. None
            is as if the option were not given, and ``float("inf")`` is no limit.
        :raises BadArguments: ``args`` is no sequence, or ``kwargs`` no mapping of names.
        :raises ValueError: an option is a datetime without a time zone.
        :raises TypeError: an option that names an actor is neither one nor a name.
        :raises ValueError: the queue's name, the priority or the time is not valid, or there
            are both a delay and an eta.
        """
        args, kwargs = self._check_containers(args, kwargs)
        options = {
            name: milliseconds(since_epoch(name, _name_actor(name, value)))
            for name, value in options.items()
            if value is not None
        }
        if delay is not None:
            options["delay"] = check_delay(milliseconds(delay), self.actor_name)
        if eta is not None:
            options["eta"] = check_eta(since_epoch("eta", eta), self.actor_name)
        if "delay" in options and "eta" in options:
            raise ValueError(
                f"a message for actor {self.actor_name!r} has a delay or an eta, not both"
            )
        if priority is not None:
            options["priority"] = check_priority(priority, self.actor_name)
        queue_name = self.queue_name if queue_name is None else check_queue_name(queue_name)
        return Message(queue_name, self.actor_name, args, kwargs, options)

    def _check_containers(
        self, args: object, kwargs: object
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        of = f"of a message for actor {self.actor_name!r}"
        if not isinstance(args, Sequence) or isinstance(args, (str, bytes, bytearray)):
            raise BadArguments(
                f"args {of} is {type(args).__name__}; it is a list or tuple of arguments, and"
                " one of a single argument is (1,)"
            )
        if kwargs is None:
            return tuple(args), {}
        if not isinstance(kwargs, Mapping) or not all(type(name) is str for name in kwargs):
            raise BadArguments(f"kwargs {of} is no dict from the names of arguments")
        if hasattr(type(kwargs), "getlist"):
            raise BadArguments(
                f"kwargs {of} is {type(kwargs).__name__}, in which a name may have several"
                " values: use its .to_dict(), or .to_dict(flat=False) for all of them"
            )
        return tuple(args), dict(kwargs)

    def using(
        self,
        *,
        delay: int | timedelta | None = None,
        eta: int | datetime | None = None,
        priority: int | None = None,
        queue_name: str | None = None,
        **options: Any,
    ) -> ConfiguredActor[P, R]:
        """The same actor with options for the messages that are sent through the result:
        ``actor.using(delay=1_000).send(3)``.

        The options are those of :meth:`message_with_options`, with its errors. The result can
        be kept and used again; a delay counts from each ``send()``.
        """
        given = {"delay": delay, "eta": eta, "priority": priority, "queue_name": queue_name}
        return ConfiguredActor(self, {**given, **options})

    def send(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Send the function with these arguments to a worker.

        :return: a handle on the new job.
        :raises BadArguments: the arguments do not fit the function or its annotations, or
            would not be read back as what they are.
        :raises PayloadTooLarge: they are over ``TASKQ_MAX_MESSAGE_SIZE``.
        :raises BrokerError: the job could not be stored.
        """
        return self._enqueue(self.message(*args, **kwargs))

    def _enqueue(self, message: Message) -> Job[R]:
        return self._resolver().enqueue(message)

    def send_with_options(
        self,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        delay: int | timedelta | None = None,
        eta: int | datetime | None = None,
        priority: int | None = None,
        queue_name: str | None = None,
        **options: Any,
    ) -> Job[R]:
        """Send the function with options for this message; they are those of
        :meth:`message_with_options`.

        :raises BadArguments, PayloadTooLarge, BrokerError: as :meth:`send`.
        :raises ValueError: an option is not valid, or no middleware knows it.
        """
        message = self.message_with_options(
            args=args,
            kwargs=kwargs,
            delay=delay,
            eta=eta,
            priority=priority,
            queue_name=queue_name,
            **options,
        )
        return self._enqueue(message)

    def check_result(self, value: Any) -> None:
        """:raises BadResult: the value does not fit the function's annotation, or something
        else would be read back.
        """
        if type(value) not in self._result.accepts:
            reason = self._result.refuse(value)
            if reason is not None:
                raise BadResult(f"the result of actor {self.actor_name!r} {reason}")

    @lazy_property
    def _result(self) -> Value:
        annotation = self.signature.return_annotation
        return read_annotation(self.fn, "result", annotation, is_checked=self._check_types)

    @lazy_property
    def decode_result(self) -> Callable[[bytes], R]:
        """Reads a stored result, by the function's annotation."""
        decode = make_result_decoder(self.fn, self.signature, self.actor_name)
        return decode or decode_value

    def __str__(self) -> str:
        return f"Actor({self.actor_name})"

    def __repr__(self) -> str:
        return (
            f"Actor({self.fn!r}, queue_name={self.queue_name!r},"
            f" actor_name={self.actor_name!r})"
        )


class ConfiguredActor(Generic[P, R]):
    """An actor with options for its messages: what :meth:`Actor.using` returns.

    :param actor: the actor.
    :param options: those of :meth:`Actor.message_with_options`.
    :raises TypeError, ValueError: as that method.
    """

    def __init__(self, actor: Actor[P, R], options: Mapping[str, Any]) -> None:
        self._actor = actor
        self._given = options
        message = actor.message_with_options(**options)
        self._queue_name = message.queue_name
        self._options = message.options

    def using(self, **options: Any) -> ConfiguredActor[P, R]:
        """The same with more options, or with others in their place."""
        given = {name: value for name, value in options.items() if value is not None}
        return ConfiguredActor(self._actor, {**self._given, **given})

    def message(self, /, *args: P.args, **kwargs: P.kwargs) -> Message:
        """As :meth:`Actor.message`."""
        name = self._actor.actor_name
        return Message(self._queue_name, name, args, kwargs, dict(self._options))

    def send(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """As :meth:`Actor.send`.

        :raises ValueError: no middleware knows an option.
        """
        return self._actor._enqueue(self.message(*args, **kwargs))

    def __repr__(self) -> str:
        return f"{self._actor!r}.using(**{self._options!r})"


class AsyncActor(Actor[P, R]):
    """An actor whose function is a coroutine function: called, it gives a coroutine."""

    # What a checker objects to is the point: a job of it has an R, and a call has not yet.
    def __call__(  # type: ignore[override]
        self, /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]:
        """Make the coroutine of the function, as a plain call does."""
        coroutine: Coroutine[Any, Any, R] = self.fn(*args, **kwargs)  # type: ignore[assignment]
        return coroutine


def make_actor(fn: Callable[..., Any], **fields: Any) -> Actor[..., Any]:
    """An actor of the class that fits the function.

    :param fields: the other arguments of :class:`Actor`.
    """
    return (AsyncActor if inspect.iscoroutinefunction(fn) else Actor)(fn, **fields)


def find_actor_name(fn: Callable[..., Any]) -> str:
    """The name of an actor that was given none.

    :raises TypeError: the function has no name either.
    """
    name = getattr(fn, "__name__", None)
    if name is None:
        raise TypeError(
            f"a {type(fn).__name__} has no name: give the actor one, actor_name=..."
        )
    return str(name)


def check_name_is_free(
    actor: Actor[..., Any], declared: Mapping[str, Actor[..., Any]], kind: str = "an actor"
) -> None:
    """:raises ValueError: another actor has the name; the text says where both come from."""
    known = declared.get(actor.actor_name)
    if known is None or known is actor:
        return
    old, new = inspect.unwrap(known.fn), inspect.unwrap(actor.fn)
    places = [_place(old), _place(new)]
    text = f"{kind} named {actor.actor_name!r} is declared already: {places[0]}"
    if not _is_same_code(old, new):
        if places[0] == places[1]:
            places[1] = "another function of this name"
        text += f"; {places[1]} needs another name, which actor_name=... gives it"
    elif "<locals>" in new.__qualname__ and old.__module__ == new.__module__:
        text += (
            ", and the function around it was called again. Declare actors at the level of"
            " a module and not in an app factory, or let the factory make a TaskQ of its own"
        )
    else:
        text += f", and its file was imported again, as the module {new.__module__!r}"
    raise ValueError(text)


def _place(fn: Callable[..., Any]) -> str:
    name = getattr(fn, "__qualname__", None)
    return repr(fn) if name is None else f"{fn.__module__}.{name}"


def _is_same_code(one: Any, other: Any) -> bool:
    # Not the code objects themselves: a module that is run twice is compiled twice.
    code, twin = getattr(one, "__code__", None), getattr(other, "__code__", None)
    if code is None or twin is None or one.__qualname__ != other.__qualname__:
        return False
    places = {(part.co_filename, part.co_firstlineno) for part in (code, twin)}
    return len(places) == 1


def _name_actor(name: str, value: Any) -> Any:
    """The value of an option, by name where it is an actor."""
    if name not in CALLBACKS or value is None or isinstance(value, str):
        return value
    if isinstance(value, Actor):
        return value.actor_name
    raise TypeError(f"{name} is {value!r}; it is an actor or the name of one")
