"""Another job when one has ended."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any
from typing import Final

from ..actors.actor import Actor
from ..actors.actor import CALLBACKS
from ..actors.broker import Broker
from ..actors.hooks import HookBroker
from ..actors.hooks import Middleware
from ..actors.run import is_decided
from ..actors.run import Run
from ..errors import ConfigurationError

#: How much of an error's text a callback gets, in characters.
_MAX_TEXT: Final = 8_192


class Callbacks(Middleware):
    """``on_success`` and ``on_failure``: an actor, or its name, that is sent a message when
    the job has ended. They are options of an actor or of a message.

    ``on_success`` gets the message as a dict, and the result; ``on_failure`` the message and
    ``{"type": ..., "message": ...}``, once, when the job has failed for good.

    The callback is stored in one step with the outcome: both are visible at the same time, and
    a run whose outcome is refused has no callback. There is none where the actor
    did not run: after :exc:`SkipMessage`, and when a job fails because its message is damaged,
    its actor stays unknown, or its worker died too often. Nor when a job is cancelled or given
    up. A callback that cannot be sent, because its actor is unknown here or because message
    and result are together over ``TASKQ_MAX_MESSAGE_SIZE``, is an error in the log, and the
    outcome stands.

    In the list of middleware it stands before whatever decides whether a job runs again, so
    that its ``after_`` hook is called later.
    """

    @property
    def actor_options(self) -> set[str]:
        return {"on_success", "on_failure"}

    def applies_to(self, broker: HookBroker, actor: Actor[..., Any]) -> bool:
        return not self.actor_options.isdisjoint(actor.options)

    def after_process_message(
        self,
        broker: HookBroker,
        message: Run,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        outcome: Any
        if exception is None:
            name, outcome = broker.option(message, "on_success"), result
        elif _is_final_failure(message, exception):
            name, outcome = broker.option(message, "on_failure"), _describe(exception)
        else:
            return
        if name is not None:
            broker.follow_up(message, name, message.asdict(), outcome)


def find_unknown_callbacks(broker: Broker) -> list[str]:
    """What is wrong with callbacks of actors that this process does not know: a text for each.

    It is for when all actors are declared. The one of a callback may stand below the one
    that names it.
    """
    texts = []
    for actor in broker.actors.values():
        for option in sorted(CALLBACKS & actor.options.keys()):
            name = actor.options[option]
            if name is not None and name not in broker.actors:
                near = difflib.get_close_matches(name, broker.actors, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "none is like it"
                texts.append(
                    f"{option} of actor {actor.actor_name!r} is {name!r}, and no actor has"
                    f" that name; {hint}"
                )
    return texts


def check_callbacks(broker: Broker) -> None:
    """Make sure that every callback of an actor is for one that is declared.

    :raises ConfigurationError: one is not.
    """
    if texts := find_unknown_callbacks(broker):
        raise ConfigurationError(
            f"{'. '.join(texts)}. A worker imports what the app does, and the modules in"
            " TASKQ_ACTORS"
        )


def _is_final_failure(message: Run, exception: BaseException) -> bool:
    if message.retry_delay is not None or message.discarded:
        return False
    return not is_decided(message, exception)


def _describe(exception: BaseException) -> Mapping[str, str]:
    try:
        text = str(exception)
    except Exception:
        text = "(its text could not be read)"
    # Half a surrogate pair cannot be written as JSON.
    text = text[:_MAX_TEXT].encode("utf-8", "backslashreplace").decode()
    return {"type": type(exception).__name__, "message": text}
