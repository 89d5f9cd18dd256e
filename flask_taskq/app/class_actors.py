"""Actors that are classes."""

from __future__ import annotations

from collections.abc import Coroutine
from collections.abc import Mapping
from collections.abc import Sequence
from datetime import datetime
from datetime import timedelta
from typing import Any
from typing import ClassVar
from typing import overload
from typing import ParamSpec
from typing import Protocol
from typing import TYPE_CHECKING
from typing import TypeVar

from ..actors.actor import Actor
from ..actors.actor import ConfiguredActor
from ..actors.job import Job
from ..jobs.message import Message
from .extension import TaskQ
from .shared_actors import shared_actor

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Performs(Protocol[P, R_co]):
    """A class with an actor's work in it."""

    def perform(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


class PerformsAsync(Protocol[P, R_co]):
    """A class with the work of an async actor in it."""

    def perform(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...


class _ReadThrough(type):
    """Lets a class that was declared be asked what its actor can be asked."""

    if not TYPE_CHECKING:  # a checker would believe that every class has every attribute

        def __getattr__(cls, name):
            actor = None if name == "__actor__" else getattr(cls, "__actor__", None)
            if actor is None:
                raise AttributeError(f"the class {cls.__name__!r} has no attribute {name!r}")
            return getattr(actor, name)


class GenericActor(metaclass=_ReadThrough):
    """Base class of actors that are classes: for those that share code, or options.

    A subclass is declared when it is defined. Its ``perform()`` is run, on one instance
    that all jobs of a process share. Its name is the actor's, and what ``Meta`` has are the
    arguments of :meth:`TaskQ.actor`. With ``abstract = True`` it is a base class only;
    subclasses that have no ``Meta`` of their own use that of their base, and one that
    has may inherit from it.

    .. code-block:: python

        class ReportActor(GenericActor, taskq=taskq):
            class Meta:
                abstract = True
                queue_name = "reports"


        class BuildReport(ReportActor):
            def perform(self, month: int) -> int:
                return month


        BuildReport.send(3)

    The ``TaskQ`` is said with the class, here or in a base class; without one, the actor is
    shared, as with :func:`shared_actor`. (A base class that is an attribute of the
    ``TaskQ`` would say it as well, but no type checker takes an attribute of a variable for
    a base class.) The class stays a class, and called as one it makes an instance:
    ``BuildReport().perform(3)`` is a plain call.
    """

    #: What was declared. Whatever else the class is asked for and lacks is read from it.
    __actor__: ClassVar[Actor[..., Any]]
    _taskq: ClassVar[TaskQ | None] = None

    def __init_subclass__(cls, *, taskq: TaskQ | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if taskq is not None:
            cls._taskq = taskq
        if vars(vars(cls).get("Meta", object)).get("abstract", False):
            return
        options = _read(getattr(cls, "Meta", object))
        actor_name = options.pop("actor_name", cls.__name__)
        declare = shared_actor if cls._taskq is None else cls._taskq.actor
        cls.__actor__ = declare(actor_name=actor_name, **options)(cls().perform)

    def perform(self, *args: Any, **kwargs: Any) -> Any:
        """What the actor does. A subclass has its own, with the parameters that it takes."""
        raise NotImplementedError(f"{type(self).__name__} has no perform()")

    @classmethod
    def message(cls: type[Performs[P, Any]], /, *args: P.args, **kwargs: P.kwargs) -> Message:
        """As :meth:`Actor.message`."""
        return _actor(cls).message(*args, **kwargs)

    @classmethod
    def message_with_options(
        cls,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Message:
        """As :meth:`Actor.message_with_options`."""
        return _actor(cls).message_with_options(args=args, kwargs=kwargs, **options)

    @overload
    @classmethod
    def using(
        cls: type[PerformsAsync[P, R]],
        *,
        delay: int | timedelta | None = None,
        eta: int | datetime | None = None,
        priority: int | None = None,
        queue_name: str | None = None,
        **options: Any,
    ) -> ConfiguredActor[P, R]: ...

    @overload
    @classmethod
    def using(
        cls: type[Performs[P, R]],
        *,
        delay: int | timedelta | None = None,
        eta: int | datetime | None = None,
        priority: int | None = None,
        queue_name: str | None = None,
        **options: Any,
    ) -> ConfiguredActor[P, R]: ...

    @classmethod
    def using(cls, **options: Any) -> Any:
        """As :meth:`Actor.using`."""
        return _actor(cls).using(**options)

    @overload
    @classmethod
    def send(
        cls: type[PerformsAsync[P, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[R]: ...

    @overload
    @classmethod
    def send(cls: type[Performs[P, R]], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...

    @classmethod
    def send(cls, /, *args: Any, **kwargs: Any) -> Any:
        """As :meth:`Actor.send`."""
        return _actor(cls).send(*args, **kwargs)

    @overload
    @classmethod
    def send_with_options(
        cls: type[PerformsAsync[..., R]],
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        delay: int | timedelta | None = None,
        eta: int | datetime | None = None,
        priority: int | None = None,
        queue_name: str | None = None,
        **options: Any,
    ) -> Job[R]: ...

    @overload
    @classmethod
    def send_with_options(
        cls: type[Performs[..., R]],
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        delay: int | timedelta | None = None,
        eta: int | datetime | None = None,
        priority: int | None = None,
        queue_name: str | None = None,
        **options: Any,
    ) -> Job[R]: ...

    @classmethod
    def send_with_options(cls, **options: Any) -> Any:
        """As :meth:`Actor.send_with_options`."""
        return _actor(cls).send_with_options(**options)


def _actor(cls: type) -> Actor[..., Any]:
    actor: Actor[..., Any] | None = getattr(cls, "__actor__", None)
    if actor is None:
        raise TypeError(f"{cls.__name__} is abstract: there is no actor of it to send")
    return actor


def _read(meta: type) -> dict[str, Any]:
    """What a ``Meta`` and those that it inherits from have."""
    return {
        name: value
        for one in reversed(meta.__mro__[:-1])
        for name, value in vars(one).items()
        if not name.startswith("_") and name != "abstract"
    }
