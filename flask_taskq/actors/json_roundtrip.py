"""Whether a value is read back from JSON as what it was.

A subclass of ``dict`` or a proxy can be written as JSON, and something else is read back. Such
values are refused where they come in, with what to do instead: nothing that is sent or
returned changes in silence. One thing does: a tuple without an annotation is read back as a
list, as from every JSON.

Types are compared exactly, because a subclass is what cannot be read back.
"""

from __future__ import annotations

import dataclasses
import decimal
import functools
import uuid
from collections.abc import Callable
from collections.abc import Iterable
from datetime import date
from datetime import datetime
from datetime import time
from datetime import timedelta
from enum import Enum
from itertools import chain
from types import NoneType
from typing import Any
from typing import Final

import msgspec

from ..jobs.encoding import MAX_DEPTH

#: What JSON has itself and what holds nothing else.
SCALARS: Final[frozenset[type]] = frozenset({str, int, float, bool, NoneType})

_TEXT: Final[frozenset[type]] = frozenset({str})

#: Types that are read back only where an annotation names them.
_NEEDS_ANNOTATION: Final[frozenset[type]] = frozenset(
    {bytes, datetime, date, time, timedelta, uuid.UUID, decimal.Decimal, set, frozenset}
)

#: What the classes of some objects have, and what to do with such an object. They are looked
#: for in this order, and in the class: asking a proxy itself may raise, or answer for another.
_ADVICE: Final = (
    ({"_get_current_object"}, "send the value that it stands for"),
    ({"_sa_instance_state"}, "send its id, and load it in the job"),
    ({"__mapper__"}, "send its id, and load it in the job"),
    ({"_mapping"}, "use dict(row._mapping)"),
    ({"getlist", "to_dict"}, "use .to_dict(flat=False)"),
    ({"get_wsgi_response"}, "use the data that it was made of"),
    ({"iter_content"}, "use its .json() or .text"),
    ({"iter_lines"}, "use its .json() or .text"),
    ({"mimetype_params"}, "save the file, and send its path"),
    ({"readline"}, "send the path of the file"),
    ({"_asdict"}, "use list(value) or value._asdict()"),
    ({"model_dump"}, "use .model_dump(mode='json')"),
    ({"__await__"}, "await it, and take what it gives"),
    ({"tolist"}, "use .tolist()"),
    ({"__alloc__"}, "use bytes(value)"),
    ({"__html__"}, "use str(value)"),
    ({"__fspath__"}, "use str(value)"),
)

#: The types of JSON, and how to make a plain value of one of a subclass.
_PLAIN: Final[tuple[tuple[type, str], ...]] = (
    (dict, "dict(value)"),
    (list, "list(value)"),
    (tuple, "list(value)"),
    (str, "str(value)"),
    (int, "int(value)"),
    (float, "float(value)"),
    (datetime, "datetime.fromisoformat(value.isoformat())"),
    (date, "date.fromisoformat(value.isoformat())"),
    (bytes, "bytes(value)"),
    (uuid.UUID, "UUID(value.hex)"),
    (decimal.Decimal, "Decimal(value)"),
    (set, "set(value)"),
    (frozenset, "frozenset(value)"),
)

_COMPARED_AS_TEXT: Final[frozenset[type]] = frozenset({datetime, time, decimal.Decimal})

#: Classes whose values stand for each other: an annotation of one takes the other.
_ALIKE: Final = ({list, tuple}, {int, float})


def explain_change(value: Any, is_annotated: bool) -> str | None:
    """Why a value would not be read back as it is.

    :param is_annotated: whether an annotation says how to read it, so that more than the
        types of JSON come back.
    :return: None if it comes back as it is; what has no JSON form for another reason is left
        to the encoder.
    """
    return None if _is_json(value, 0) else _explain(value, is_annotated, "", 0)


def _is_json(value: Any, depth: int) -> bool:
    # Most values are, and to know it without noting the place of each takes a third.
    kind = type(value)
    if kind is dict:
        if not _TEXT.issuperset(map(type, value)):
            return False
        value = value.values()
    elif kind is not list and kind is not tuple:
        return kind in SCALARS
    if SCALARS.issuperset(map(type, value)):
        return True  # a list of a million numbers is looked at in C
    return depth < MAX_DEPTH and all(_is_json(one, depth + 1) for one in value)


def explain_difference(value: Any, back: Any, name: str) -> str | None:
    """How what was read back by an annotation differs from the value; None if it does not.

    A tuple counts as a list, and an int as a float.

    :param name: of the value, for the text.
    """
    return _compare(value, back, name, "")


def _compare(value: Any, back: Any, name: str, place: str) -> str | None:
    kind, read = type(value), type(back)
    if kind is read and kind in SCALARS and value == back:
        return None
    where = f" at {name}{place}" if place else ""
    if kind is not read and {kind, read} not in _ALIKE:
        if read in SCALARS or read in (dict, list):
            return f"{_describe(kind)} would come back as {_describe(read)}{where}"
        return f"expected {read.__name__}, got {kind.__name__}{where}"
    parts: Iterable[tuple[str, Any, Any]] = ()
    fields = _fields(kind)
    if fields is not None:
        is_same = True
        parts = (
            (f".{field}", getattr(value, field, None), getattr(back, field, None))
            for field in fields
        )
    elif kind is dict:
        is_same = len(value) == len(back)
        # In one order, and each key and value with what came of it.
        pairs = zip(chain(value, value.values()), chain(back, back.values()), strict=True)
        parts = (("[...]", *pair) for pair in pairs)
    elif kind is list or kind is tuple:
        is_same = len(value) == len(back)
        pairs = zip(value, back, strict=True)
        parts = ((f"[{position}]", *pair) for position, pair in enumerate(pairs))
    elif kind in _COMPARED_AS_TEXT:
        # Decimals that are no number, and moments in an hour that comes twice, equal nothing.
        is_same = str(value) == str(back)
    elif kind in SCALARS or kind in _NEEDS_ANNOTATION or issubclass(kind, Enum):
        is_same = value == back
    else:
        is_same = False  # a row of a database
    if not is_same:
        return f"another {kind.__name__} would come back{where}"
    for part, one, other in parts:
        reason = _compare(one, other, name, place + part)
        if reason is not None:
            return reason
    return None


def _explain(value: Any, is_annotated: bool, place: str, depth: int) -> str | None:
    kind = type(value)
    if kind in SCALARS:
        return None
    if depth > MAX_DEPTH:
        # What contains itself more than once would be looked at without an end.
        return f"is nested more than {MAX_DEPTH} levels deep"
    if kind is dict:
        return _explain_dict(value, is_annotated, place, depth)
    if kind is list or kind is tuple:
        return _explain_items(value, is_annotated, place, depth)
    if is_annotated:
        if kind is set or kind is frozenset:
            return _explain_items(value, is_annotated, place, depth)
        fields = _fields(kind)
        if fields is not None:
            named = ((f"{place}.{name}", getattr(value, name, None)) for name in fields)
            return _first(named, is_annotated, depth)
        if kind in _NEEDS_ANNOTATION or issubclass(kind, Enum):
            return None
    return f"{_where(place)}{_describe(kind)}, and {_advise(kind)}"


def _explain_items(items: Any, is_annotated: bool, place: str, depth: int) -> str | None:
    named = ((f"{place}[{position}]", one) for position, one in enumerate(items))
    return _first(named, is_annotated, depth)


def _explain_dict(
    value: dict[Any, Any], is_annotated: bool, place: str, depth: int
) -> str | None:
    for key in value:
        if type(key) is not str and not (is_annotated and _is_key(type(key))):
            return (
                f"{_where(place)}a dict with {_describe(type(key))} as a key, and in JSON every"
                " key is text: use str(key), or annotate it, as dict[int, str]"
            )
    # Keys may be secrets, as values may.
    named = ((f"{place}[...]", one) for one in value.values())
    return _first(named, is_annotated, depth)


def _first(named: Iterable[tuple[str, Any]], is_annotated: bool, depth: int) -> str | None:
    for place, value in named:
        reason = _explain(value, is_annotated, place, depth + 1)
        if reason is not None:
            return reason
    return None


def _is_key(kind: type) -> bool:
    return kind in SCALARS or kind in _NEEDS_ANNOTATION or issubclass(kind, Enum)


def _find_fields(kind: type) -> tuple[str, ...] | None:
    """The fields of a class that an annotation can name; None if it is no such class."""
    if hasattr(kind, "_sa_instance_state") or hasattr(kind, "__mapper__"):
        return None  # a row of a database: what is read back would be no row
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return tuple(kind._fields)
    if hasattr(kind, "__attrs_attrs__"):
        return tuple(field.name for field in kind.__attrs_attrs__)
    return None


# Telling a dataclass from another class takes longer than the rest of a look at it.
_fields: Callable[[type], tuple[str, ...] | None] = functools.lru_cache(256)(_find_fields)


def _where(place: str) -> str:
    return f"has at {place} " if place else "is "


def _describe(kind: type) -> str:
    return f"{'an' if kind.__name__[:1] in 'AEIOaeio' else 'a'} {kind.__name__}"


def _advise(kind: type) -> str:
    for attributes, advice in _ADVICE:
        if all(hasattr(kind, name) for name in attributes):
            return f"would not come back as one: {advice}"
    if kind in _NEEDS_ANNOTATION or issubclass(kind, Enum) or _fields(kind) is not None:
        return (
            "would not come back as one unless its annotation says so: annotate it with"
            f" {kind.__name__}, or use text, numbers, lists and dicts"
        )
    for base, call in _PLAIN:
        if issubclass(kind, base):
            return f"would come back as a plain {base.__name__}: use {call}"
    if hasattr(kind, "__iter__"):
        call = "dict(value)" if hasattr(kind, "keys") else "list(value)"
        return f"would not come back as one: use {call}"
    return "has no JSON form: use text, numbers, lists and dicts, such as the id of it"
