"""Actors of libraries and blueprints, which know no ``TaskQ``."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Coroutine
from collections.abc import Sequence
from typing import Any
from typing import Final
from typing import overload
from typing import ParamSpec
from typing import TypeVar

from flask import current_app
from flask import has_app_context

from ..actors.actor import Actor
from ..actors.actor import ActorDecorator
from ..actors.actor import AsyncActor
from ..actors.actor import check_name_is_free
from ..actors.actor import find_actor_name
from ..actors.actor import make_actor
from ..actors.actor import Sender

P = ParamSpec("P")
R = TypeVar("R")

OUTSIDE: Final = (
    "Working outside of application context. Which app's jobs are meant is known in a view,"
    " in a job, in a CLI command, or inside `with app.app_context():`."
)

# Declarations, made once when modules are imported, as functions are. Nothing of an app is
# in here: each TaskQ takes them over, and a message goes to the app that sends it.
_declared: Final[dict[str, Actor[..., Any]]] = {}


@overload
def shared_actor(fn: Callable[P, Coroutine[Any, Any, R]]) -> AsyncActor[P, R]: ...


@overload
def shared_actor(fn: Callable[P, R]) -> Actor[P, R]: ...


@overload
def shared_actor(
    *,
    actor_name: str | None = None,
    queue_name: str = "default",
    priority: int = 0,
    check_types: bool = True,
    **options: Any,
) -> ActorDecorator: ...


def shared_actor(
    fn: Callable[..., Any] | None = None,
    *,
    actor_name: str | None = None,
    queue_name: str = "default",
    priority: int = 0,
    check_types: bool = True,
    **options: Any,
) -> Any:
    """Declare a function as an actor of every app that has a TaskQ. Usable bare or with
    arguments, which are those of :meth:`TaskQ.actor`.

    It is for libraries and blueprints: they do not know the ``TaskQ`` of the project that
    they become a part of. A message goes to the current app's. The names of all shared
    actors are in one namespace, with each project's own; a library does well to give
    ``actor_name`` with its own name before it.

    :raises ValueError: a name or the priority is not valid, or another shared actor has the
        name. Whether an option is known, and whether the project has an actor of the name, is
        seen when an app is initialized. If that was before, it is an error in the log, and
        one of each ``send()`` of this actor.
    """

    def declare(fn: Callable[..., Any]) -> Actor[..., Any]:
        actor: Actor[..., Any] = make_actor(
            fn,
            resolver=lambda: _find_sender(actor),
            actor_name=actor_name or find_actor_name(fn),
            queue_name=queue_name,
            priority=priority,
            check_types=check_types,
            options=options,
        )
        check_name_is_free(actor, _declared, "a shared actor")
        _declared[actor.actor_name] = actor
        return actor

    return declare if fn is None else declare(fn)


def get_shared_actors(seen: int = 0) -> Sequence[Actor[..., Any]]:
    """The shared actors that were declared after the first ``seen`` ones."""
    return list(_declared.values())[seen:] if len(_declared) > seen else ()


def _find_sender(actor: Actor[..., Any]) -> Sender:
    if not has_app_context():
        raise RuntimeError(OUTSIDE)
    taskq = current_app.extensions.get("taskq")
    if taskq is None:
        raise RuntimeError(
            f"the app {current_app.name!r} has no TaskQ, and so nowhere to send a shared"
            " actor's message to: call TaskQ(app) or taskq.init_app(app)"
        )
    sender: Sender = taskq.broker
    taskq.check_shared(actor)
    return sender
