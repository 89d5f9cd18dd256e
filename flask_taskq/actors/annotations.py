"""What an annotation says of a value: of an argument, or of a result.

Types that JSON has no word for travel as text or as objects: a ``datetime``, a ``UUID``, a
dataclass. The annotation says which type they had.

An annotation that is missing, that cannot be resolved, or that msgspec cannot read values of
says nothing: its value is what JSON has, and stays as it is.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import inspect
import re
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import Final
from typing import get_type_hints
from typing import Optional

import msgspec
from msgspec import inspect as types

from ..errors import BadResult
from ..jobs.encoding import decode_value
from ..jobs.encoding import encode_value
from .json_roundtrip import explain_change
from .json_roundtrip import explain_difference
from .json_roundtrip import SCALARS

_OPAQUE: Final = (types.CustomType, types.RawType, types.ExtType)

#: What msgspec takes as it is where it reads values of Python: text is no date among them.
_PYTHON_TYPES: Final = (
    bytes,
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    uuid.UUID,
)

#: Types without a condition of their own: a value of exactly this class is one.
_SIMPLE: Final[tuple[tuple[types.Type, frozenset[type]], ...]] = (
    (types.AnyType(), SCALARS),
    (types.NoneType(), frozenset({type(None)})),
    (types.BoolType(), frozenset({bool})),
    (types.IntType(), frozenset({int})),
    (types.FloatType(), frozenset({float, int})),
    (types.StrType(), frozenset({str})),
    (types.BytesType(), frozenset({bytes})),
    (types.DateType(), frozenset({datetime.date})),
    (types.DateTimeType(), frozenset({datetime.datetime})),
    (types.TimeType(), frozenset({datetime.time})),
    (types.TimeDeltaType(), frozenset({datetime.timedelta})),
    (types.DecimalType(), frozenset({decimal.Decimal})),
    (types.UUIDType(), frozenset({uuid.UUID})),
)

#: Those that JSON has itself.
_JSON: Final = tuple(type_ for type_, classes in _SIMPLE if classes <= SCALARS)

#: How a view makes a value of text.
_FROM_TEXT: Final[dict[type, str]] = {
    int: "int(value)",
    float: "float(value)",
    decimal.Decimal: "Decimal(value)",
    uuid.UUID: "UUID(value)",
    datetime.date: "date.fromisoformat(value)",
    datetime.datetime: "datetime.fromisoformat(value)",
    datetime.time: "time.fromisoformat(value)",
}

_PLACE: Final = re.compile(r" - at (.*)`\$(.*)`$")
#: Where an error of msgspec quotes the value, which may be a secret.
_VALUE: Final = re.compile(r"^(Invalid (?:enum )?value) (?:(['\"]).*\2|-?\d+)", re.DOTALL)


class Misfit(Exception):
    """A value does not fit an annotation."""


class Value:
    """What an annotation says of one value.

    :param name: of the parameter, for errors.
    :param type_: the annotation, resolved.
    :param is_checked: whether a value of another type is refused.
    :param why_silent: why the annotation says nothing, if it could not be resolved.
    """

    __slots__ = (
        "_is_checked",
        "_struct",
        "_why_silent",
        "accepts",
        "is_converted",
        "name",
        "type_",
    )

    def __init__(
        self, name: str, type_: Any, *, is_checked: bool = True, why_silent: str = ""
    ) -> None:
        self.name = name
        self.type_ = type_
        info, why = _inspect(type_)
        self._why_silent = why_silent or why
        #: Whether JSON has no word for the type, so that a stored value is converted to it.
        self.is_converted = not _is_plain(info)
        #: Classes whose values are right, and known without a closer look.
        self.accepts = _accepted(info)
        self._is_checked = is_checked and info != types.AnyType()
        if not is_checked:
            self.accepts |= SCALARS
        # A field of a struct, because msgspec prepares a struct's types once, and those of a
        # bare annotation such as list[int] with every call.
        self._struct: Any = None
        if self.is_converted or self._is_checked:
            field = ("value", type_, msgspec.field(name=name))
            self._struct = msgspec.defstruct("Annotated", [field])

    def refuse(self, value: Any) -> str | None:
        """Why a value cannot be sent or returned; None if it can.

        What is in ``accepts`` need not be asked for.
        """
        if self._is_checked:
            misfit = self._find_misfit(value)
            if misfit is not None:
                # What no annotation could bring back has advice of its own.
                return explain_change(value, True) or misfit
            if self.is_converted:
                return None
        change = explain_change(value, self.is_converted)
        if change is not None and self._why_silent:
            return f"{change}; its annotation says nothing: {self._why_silent}"
        return change

    def explain_text(self) -> str:
        """What to do with text where the annotation has another type."""
        # The values of forms and of URLs are text, whatever they look like.
        for cls in self.accepts:
            if cls in _FROM_TEXT:
                return f"; text of a form or a URL must be converted, as by {_FROM_TEXT[cls]}"
        return ""

    def convert(self, value: Any) -> Any:
        """A value of JSON as the annotation says.

        :raises Misfit: it does not fit; the text says why.
        """
        if not self.is_converted:
            return value
        try:
            converted = msgspec.convert({self.name: value}, self._struct, str_keys=True)
        except Exception as error:
            # Without that error, whose text may have the value in it.
            raise Misfit(self._describe(_explain(error, self.name))) from None
        return converted.value

    def _find_misfit(self, value: Any) -> str | None:
        given = {self.name: value}
        try:
            # As convert() does it, but of values of Python: text is no date among them.
            msgspec.convert(given, self._struct, builtin_types=_PYTHON_TYPES)
        except Exception as error:
            return self._describe(_explain(error, self.name))
        if not self.is_converted:
            return None
        try:
            back = self.convert(decode_value(encode_value(value)))
        except Misfit as error:
            return str(error)
        except (TypeError, ValueError) as error:
            return self._describe(f"it cannot be written as JSON: {error}")
        difference = explain_difference(value, back, self.name)
        return None if difference is None else self._describe(difference)

    def _describe(self, reason: str) -> str:
        return f"does not fit its annotation {_name(self.type_)}: {reason}"


def _explain(error: Exception, name: str = "") -> str:
    """Why msgspec could not read a value, with a place only where the name leaves it open.

    :param name: of the value that the error is about.
    """
    if not isinstance(error, msgspec.ValidationError):
        # A class that is made of it has code of its own, which may raise anything.
        return f"reading it raised {type(error).__name__}"

    def tell_place(match: re.Match[str]) -> str:
        place = match[2].removeprefix(f".{name}") if name else match[2]
        return f" at {match[1]}{name}{place}" if place or match[1] else ""

    text = _PLACE.sub(tell_place, _VALUE.sub(r"\1", str(error))).replace("`", "")
    return text.replace("null", "None").replace("Expected", "expected", 1)


def _name(type_: Any) -> str:
    return type_.__name__ if isinstance(type_, type) else str(type_).replace("typing.", "")


def make_result_decoder(
    fn: Callable[..., Any], signature: inspect.Signature, actor_name: str
) -> Callable[[bytes], Any] | None:
    """Prepare the reading of a function's results.

    :return: None if JSON says it all. It raises :exc:`BadResult` when a result does not fit.
    """
    type_ = _resolve(fn, signature.return_annotation)
    if type_ is None or _is_plain(_inspect(type_)[0]):
        return None
    # A job that a hook ended has no result, whatever the function returns.
    decoder = msgspec.json.Decoder(Optional[type_])  # noqa: UP045 -- as below

    def decode(data: bytes) -> Any:
        try:
            return decoder.decode(data)
        except Exception as error:
            raise BadResult(
                f"actor {actor_name!r} returned what its annotation {_name(type_)}"
                f" does not allow: {_explain(error)}"
            ) from None

    return decode


def read_annotation(
    fn: Callable[..., Any], name: str, annotation: Any, *, is_checked: bool, default: Any = ...
) -> Value:
    """What an annotation of a function says.

    :param name: of the parameter, or of the result.
    :param default: of the parameter. None allows None, as "when: datetime = None" is meant.
    """
    type_ = _resolve(fn, annotation)
    why_silent = ""
    if type_ is None:
        type_ = Any
        why_silent = (
            f"{str(annotation)!r} cannot be resolved where the function is, as a name in it is"
            " unknown there, or known to type checkers only"
        )
    if default is None:
        type_ = Optional[type_]  # noqa: UP045 -- not every annotation knows "|"
    return Value(name, type_, is_checked=is_checked, why_silent=why_silent)


def _resolve(fn: Callable[..., Any], annotation: Any) -> Any:
    """An annotation of a function as a type; None if a name in it is unknown."""
    if annotation is inspect.Signature.empty:
        return Any

    # One by one: a name that only type checkers import spoils its own parameter and no other.
    def holder() -> None: ...

    holder.__annotations__ = {"it": annotation}
    try:
        return get_type_hints(holder, _globals(fn), include_extras=True)["it"]
    except Exception:
        return None


def _globals(fn: Any) -> dict[str, Any]:
    """The names that the annotations of what can be called are written with."""
    while True:
        fn = inspect.unwrap(fn)
        if not isinstance(fn, functools.partial):
            break
        fn = fn.func
    if not hasattr(fn, "__globals__"):
        fn = type(fn).__call__  # an object that can be called
    return getattr(fn, "__globals__", {})


def _inspect(type_: Any) -> tuple[types.Type, str]:
    """What msgspec knows of a type, or that it is any, and why nothing is known."""
    try:
        info = types.type_info(type_)
    except Exception as error:  # "datetime | str": a text may have been either
        return types.AnyType(), str(error).replace("\n", " ").replace("`", "")
    if any(isinstance(part, _OPAQUE) for part in _parts(info)):
        return types.AnyType(), f"no value of {_name(type_)} can be made of JSON"
    return info, ""


def _accepted(info: types.Type) -> frozenset[type]:
    match info:
        case types.EnumType(cls=cls):
            return frozenset({cls})
        case types.UnionType(types=members):
            return frozenset().union(*map(_accepted, members))
    return next((classes for type_, classes in _SIMPLE if type_ == info), frozenset())


def _is_plain(info: types.Type) -> bool:
    """Whether its values are what JSON has."""
    for part in _parts(info):
        match part:
            case types.ListType(min_length=None, max_length=None):
                pass
            case types.DictType(key_type=key, min_length=None, max_length=None):
                if not isinstance(key, (types.AnyType, types.StrType)):
                    return False
            case types.LiteralType() | types.UnionType() | types.TypedDictType():
                pass
            case _:
                if part not in _JSON:
                    return False
    return True


def _parts(info: types.Type) -> Iterator[types.Type]:
    """A type and those that it is made of, each once, as far as its objects."""
    found, todo = set(), [info]
    while todo:
        part = todo.pop()
        if id(part) in found:
            continue  # a TypedDict may contain itself
        found.add(id(part))
        yield part
        match part:
            case (
                types.ListType(item_type=item)
                | types.SetType(item_type=item)
                | types.FrozenSetType(item_type=item)
                | types.VarTupleType(item_type=item)
            ):
                todo.append(item)
            case types.TupleType(item_types=items) | types.UnionType(types=items):
                todo.extend(items)
            case types.DictType(key_type=key, value_type=value):
                todo += (key, value)
            case types.TypedDictType(fields=fields):
                todo.extend(field.type for field in fields)
