"""Between bytes and values.

Messages and results are JSON and nothing else. Stored bytes are suspicious: their size,
their depth and their names are checked before anything is made of them.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Container
from collections.abc import Sequence
from enum import Enum
from typing import Any
from typing import Final

import msgspec

from ..config import MAX_BYTES
from ..errors import BadArguments
from ..errors import DecodeError
from ..errors import PayloadTooLarge
from .message import Message

#: How deep lists and objects may be nested in a message or a result.
MAX_DEPTH: Final = 100

#: Shorter messages cannot have more brackets than that.
_LEAST_DEEP: Final = 2 * MAX_DEPTH

QUEUE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,63}")
ACTOR_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
JOB_ID: Final = re.compile(r"[0-9a-f]{32}")

_encoder = msgspec.json.Encoder()
_message_decoder = msgspec.json.Decoder(Message)
_value_decoder = msgspec.json.Decoder()
# A string that never ends is one token too, and nothing is tried twice: otherwise bytes
# that are full of quotes could keep a worker busy for hours.
_structure = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?|[\[{\]}]', re.DOTALL)


def encode_message(message: Message, max_size: int, parameters: Sequence[str] = ()) -> bytes:
    """Write a message as JSON.

    :param max_size: the limit in bytes.
    :param parameters: names of the actor's positional parameters, for the error's text.
    :raises BadArguments: something in it is not a JSON value; the text names it.
    :raises PayloadTooLarge: it is over the limit.
    """
    try:
        data = encode_value(message)
    except (TypeError, ValueError) as error:
        raise BadArguments(_name_the_culprit(message, parameters, error)) from error
    if len(data) > max_size:
        raise PayloadTooLarge(
            f"a message for actor {message.actor_name!r} has {len(data):,} bytes, the limit"
            f" TASKQ_MAX_MESSAGE_SIZE is {max_size:,}; store large data elsewhere and send"
            " where it is"
        )
    return data


def decode_message(
    data: bytes,
    max_size: int = MAX_BYTES,
    queues: Container[str] = (),
    actors: Container[str] = (),
    job_id: str | None = None,
) -> Message:
    """Read a message.

    :param max_size: the limit in bytes; anything longer is refused unread. It is not
        ``TASKQ_MAX_MESSAGE_SIZE``, which may have been larger where the message was sent.
    :param queues: names of queues that are known to be valid.
    :param actors: likewise, names of actors.
    :param job_id: the valid id of the job whose message this must be; None for any.
    :raises DecodeError: the bytes are too many, too deep, not JSON, or not a message.
    """
    if len(data) > max_size:
        raise DecodeError(f"{len(data):,} bytes, over the limit of {max_size:,}", data)
    if len(data) > _LEAST_DEEP and _is_too_deep(data):
        raise DecodeError(f"nested more than {MAX_DEPTH} levels deep", data)
    try:
        message = _message_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not a message: {error}", data) from error
    if message.queue_name not in queues and not QUEUE_NAME.fullmatch(message.queue_name):
        raise _bad_name(message.queue_name, data)
    if message.actor_name not in actors and not ACTOR_NAME.fullmatch(message.actor_name):
        raise _bad_name(message.actor_name, data)
    if message.message_id != job_id:
        if not JOB_ID.fullmatch(message.message_id):
            raise _bad_name(message.message_id, data)
        if job_id is not None:
            raise DecodeError(f"the message of another job, {message.message_id}", data)
    return message


def _bad_name(name: str, data: bytes) -> DecodeError:
    return DecodeError(f"not a message: {name[:80]!r} is no valid name or id", data)


def encode_value(value: Any) -> bytes:
    """Write one value as JSON.

    :raises TypeError: the value, or one inside it, has no JSON form.
    :raises ValueError: a number is too large or not finite, or the nesting too deep.
    """
    try:
        data = _encoder.encode(value)
    except (TypeError, ValueError):
        raise
    except Exception as error:  # of a number, of the nesting, or of a time zone's own code
        raise ValueError(str(error)) from error
    if len(data) > _LEAST_DEEP and _is_too_deep(data):
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    # msgspec writes NaN and the infinities as null, which would change them silently.
    if b"null" in data and not _is_finite(value):
        raise ValueError("a float that is NaN or infinite has no JSON form")
    return data


def decode_value(data: bytes) -> Any:
    """Read one JSON value that :func:`encode_value` wrote."""
    return _value_decoder.decode(data)


def to_json_types(value: Any) -> Any:
    """What would be read back of a value that :func:`encode_value` wrote.

    :raises TypeError, ValueError: as :func:`encode_value`.
    """
    return decode_value(encode_value(value))


def check_queue_name(name: str) -> str:
    """:raises ValueError: the name is not one for a queue."""
    if not QUEUE_NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a valid queue name: a letter or underscore, then at most 63"
            " letters, digits, dots, underscores or hyphens"
        )
    return name


def check_actor_name(name: str) -> str:
    """:raises ValueError: the name is not one for an actor."""
    if not ACTOR_NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a valid actor name: 1 to 200 letters, digits, underscores,"
            " dots, colons or hyphens"
        )
    return name


def _is_too_deep(data: bytes) -> bool:
    # Most messages have fewer brackets than the limit has levels: counting them is enough.
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for match in _structure.finditer(data):
        token = match[0]
        if token in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif token in (b"]", b"}"):
            depth -= 1
    return False


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(_is_finite, value))
    if isinstance(value, msgspec.Struct):
        return all(_is_finite(getattr(value, name)) for name in value.__struct_fields__)
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return all(_is_finite(getattr(value, field.name)) for field in fields)
    if isinstance(value, Enum):
        return _is_finite(value.value)
    return True


def _name_the_culprit(message: Message, parameters: Sequence[str], error: Exception) -> str:
    names = [*parameters, *map(str, range(len(parameters), len(message.args)))]
    arguments = [*zip(names, message.args, strict=False), *message.kwargs.items()]
    places = [(f"argument {name!r}", value) for name, value in arguments]
    places += [(f"option {name!r}", value) for name, value in message.options.items()]
    for place, value in places:
        try:
            encode_value(value)
        except (TypeError, ValueError) as reason:
            return f"{place} of actor {message.actor_name!r} cannot be sent: {reason}"
    return f"the arguments of actor {message.actor_name!r} cannot be sent: {error}"
