"""The keys that a job holds: of those with the same one, not all may be there at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Final

import msgspec

_encoder: Final = msgspec.json.Encoder(order="deterministic")


def make_unique_key(
    actor_name: str,
    unique: bool | str | Sequence[str],
    parameters: Sequence[str],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> str:
    """The key of a job, of which there is only one that is not over.

    An argument counts the same whether it is given by position or by name. Of an argument that
    is left to its default, the value is not known here: it differs from any that is given.

    :param unique: True for all arguments; the names of those that count; or a text of the
        user's own, in place of arguments.
    :param parameters: names of the actor's positional parameters.
    :return: a text of one length, that begins with the actor's name.
    """
    given = {**dict(zip(parameters, args, strict=False)), **kwargs}
    counts: Any
    if isinstance(unique, str):
        counts = unique
    elif isinstance(unique, bool):
        counts = [given, list(args[len(parameters) :])]
    else:
        counts = {name: given[name] for name in unique if name in given}
    digest = hashlib.sha256(_encoder.encode(counts)).hexdigest()
    return f"{actor_name}:{digest[:32]}"
