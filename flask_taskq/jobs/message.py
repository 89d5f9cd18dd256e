"""What can be sent.

A message says which actor to run with which arguments. Its field names are Dramatiq's, so
that the bytes of one can be read by the other.
"""

from __future__ import annotations

import os
from datetime import datetime
from datetime import UTC
from typing import Any
from typing import Final

import msgspec

from ..clock import Clock
from ..errors import BadArguments

#: The option of a message whose sender did not know the actor, and so checked no argument.
UNCHECKED: Final = "unchecked"


def generate_id() -> str:
    """A job's id: 32 lower-case hex digits that carry 128 random bits."""
    return os.urandom(16).hex()


class Message(msgspec.Struct, frozen=True, order=True):
    """One call of an actor.

    :param queue_name: the queue that the message goes to.
    :param actor_name: the actor that will run.
    :param args: positional arguments, JSON values.
    :param kwargs: keyword arguments, JSON values.
    :param options: what overrides the actor's own options for this message.
    :param message_id: the job's id, 32 lower-case hex digits.
    :param message_timestamp: when it was made, milliseconds since the epoch.
    """

    queue_name: str
    actor_name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    message_id: str = msgspec.field(default_factory=generate_id)
    message_timestamp: int = msgspec.field(default_factory=Clock().now)

    def asdict(self) -> dict[str, Any]:
        """The fields as a dict; the values are the message's own."""
        return {name: getattr(self, name) for name in self.__struct_fields__}

    def copy(self, **attributes: Any) -> Message:
        """A message with some fields changed; ``options`` are merged into the old ones."""
        if "options" in attributes:
            attributes["options"] = {**self.options, **attributes["options"]}
        return msgspec.structs.replace(self, **attributes)

    @property
    def message_datetime(self) -> datetime:
        """When the message was made, as an aware datetime in UTC."""
        return datetime.fromtimestamp(self.message_timestamp / 1000, UTC)

    def __str__(self) -> str:
        words = [repr(value) for value in self.args]
        words += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.actor_name}({', '.join(words)})"


def check_message(message: Any) -> None:
    """Check what is about to be sent, which may have been made by hand.

    :raises BadArguments: it is no message, or no worker could read it.
    """
    if not isinstance(message, Message):
        raise BadArguments(
            f"what is sent is a {type(message).__name__}; it must be a message, such as"
            " actor.message(...) makes"
        )
    for name, types in _TYPES.items():
        value = getattr(message, name)
        if not isinstance(value, types):
            raise BadArguments(
                f"{name} of a message for actor {message.actor_name!r} is a"
                f" {type(value).__name__}; it must be a {types[0].__name__}"
            )


_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "args": (tuple, list),
    "kwargs": (dict,),
    "options": (dict,),
    "message_timestamp": (int,),
}
