"""What an annotation says of a value: of an argument, or of a result.

Types that JSON has no word for travel as text or as objects: a ``datetime``, a ``UUID``, a
dataclass. The annotation tells what they were.

An annotation that is missing, that cannot be resolved, or that names a class of which
msgspec knows nothing says nothing: its value is what JSON has, and stays as it is.
"""

from __future__ import annotations

import datetime
import decimal
import inspect
import re
import uuid
from collections.abc import Callable
from typing import Any
from typing import Final
from typing import get_type_hints
from typing import Optional

import msgspec
from msgspec import inspect as types

from .errors import BadResult
from .roundtrip import explain_change
from .roundtrip import SCALARS

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


class Value:
    """What an annotation says of one value.

    :param name: of the parameter, for errors.
    :param type_: the annotation, resolved.
    :param is_checked: whether a value of another type is refused.
    :param unresolved: the annotation as it was written, if it could not be resolved.
    """

    __slots__ = (
        "_is_checked",
        "_struct",
        "_unresolved",
        "accepts",
        "is_converted",
        "name",
        "type_",
    )

    def __init__(
        self, name: str, type_: Any, *, is_checked: bool = True, unresolved: str = ""
    ) -> None:
        self.name = name
        self._unresolved = unresolved
        self.type_ = type_
        info = _inspect(type_)
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
        change = explain_change(value, self.is_converted)
        if change is not None and (self.is_converted or explain_change(value, True)):
            return change
        if change is not None and self._unresolved:
            return (
                f"{change}; its annotation {self._unresolved!r} cannot be resolved where the"
                " function is: a name in it is unknown there, or known to type checkers only"
            )
        return self._refuse_type(value) or change

    def explain_text(self) -> str:
        """What to do with text where the annotation has another type."""
        # The values of forms and of URLs are text, whatever they look like.
        for cls in self.accepts:
            if cls in _FROM_TEXT:
                return f"; text of a form or a URL must be converted, as by {_FROM_TEXT[cls]}"
        return ""

    def convert(self, value: Any) -> Any:
        """A value of JSON as the annotation says.

        :raises msgspec.ValidationError: it does not fit.
        """
        if not self.is_converted:
            return value
        converted = msgspec.convert({self.name: value}, self._struct, str_keys=True)
        return converted.value

    def _refuse_type(self, value: Any) -> str | None:
        if not self._is_checked:
            return None
        given: Any = {self.name: value}
        try:
            converted = msgspec.convert(given, self._struct, builtin_types=_PYTHON_TYPES)
            if self.is_converted:
                # It looks no further into an object of the right class.
                given = msgspec.to_builtins(given, builtin_types=_PYTHON_TYPES)
                msgspec.convert(given, self._struct, builtin_types=_PYTHON_TYPES)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            if not isinstance(error, msgspec.ValidationError):
                return None  # the encoder says what is wrong with it
            return f"does not fit its annotation: {read_error(error, self.name)}"
        if not _is_same(converted.value, value):
            return (
                f"does not fit its annotation {describe_type(self.type_)}: a"
                f" {type(value).__name__} is given, and something else would come back"
            )
        return None


def read_error(error: msgspec.ValidationError, name: str = "") -> str:
    """The text of an error of msgspec's, with a place only where the name leaves it open.

    :param name: of the value that the error is about.
    """

    def tell_place(match: re.Match[str]) -> str:
        place = match[2].removeprefix(f".{name}") if name else match[2]
        return f" at {match[1]}{name}{place}" if place or match[1] else ""

    text = _PLACE.sub(tell_place, str(error)).replace("`", "")
    return text.replace("null", "None").replace("Expected", "expected", 1)


def describe_type(type_: Any) -> str:
    """An annotation as it was written."""
    return type_.__name__ if isinstance(type_, type) else str(type_)


def make_result_decoder(
    fn: Callable[..., Any], signature: inspect.Signature, actor_name: str
) -> Callable[[bytes], Any] | None:
    """Prepare the reading of a function's results.

    :return: None if JSON says it all. It raises :exc:`BadResult` when a result does not fit.
    """
    type_ = _resolve(fn, signature.return_annotation)
    if type_ is None or _is_plain(_inspect(type_)):
        return None
    # A job that a hook ended has no result, whatever the function returns.
    decoder = msgspec.json.Decoder(type_ | None)

    def decode(data: bytes) -> Any:
        try:
            return decoder.decode(data)
        except msgspec.ValidationError as error:
            raise BadResult(
                f"actor {actor_name!r} returned what its annotation {describe_type(type_)}"
                f" does not allow: {read_error(error)}"
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
    unresolved = "" if type_ is not None else str(annotation)
    type_ = Any if type_ is None else type_
    if default is None:
        type_ = Optional[type_]  # noqa: UP045 -- not every annotation knows "|"
    return Value(name, type_, is_checked=is_checked, unresolved=unresolved)


def _resolve(fn: Callable[..., Any], annotation: Any) -> Any:
    """An annotation of a function as a type; None if a name in it is unknown."""
    if annotation is inspect.Signature.empty:
        return Any

    # One by one: a name that only type checkers import spoils its own parameter and no other.
    def holder() -> None: ...

    holder.__annotations__ = {"it": annotation}
    names = getattr(inspect.unwrap(fn), "__globals__", {})
    try:
        return get_type_hints(holder, names, include_extras=True)["it"]
    except Exception:
        return None


def _inspect(type_: Any) -> types.Type:
    """What msgspec knows of a type; that it is any where it knows nothing."""
    try:
        info = types.type_info(type_)
    except Exception:
        return types.AnyType()  # "datetime | str": no one can tell which of them a text was
    return types.AnyType() if _is_opaque(info) else info


def _accepted(info: types.Type) -> frozenset[type]:
    match info:
        case types.EnumType(cls=cls):
            return frozenset({cls})
        case types.UnionType(types=members):
            return frozenset().union(*map(_accepted, members))
    return next((classes for type_, classes in _SIMPLE if type_ == info), frozenset())


def _is_plain(info: types.Type) -> bool:
    match info:
        case types.LiteralType():
            return True
        case types.ListType(item_type=item, min_length=None, max_length=None):
            return _is_plain(item)
        case types.DictType(key_type=key, value_type=value, min_length=None, max_length=None):
            return isinstance(key, (types.AnyType, types.StrType)) and all(
                map(_is_plain, (key, value))
            )
        case types.UnionType(types=members):
            return all(map(_is_plain, members))
        case types.TypedDictType(fields=fields):
            return all(_is_plain(field.type) for field in fields)
    return info in _JSON


def _is_opaque(info: types.Type) -> bool:
    match info:
        case types.ListType() | types.SetType() | types.FrozenSetType() | types.VarTupleType():
            return _is_opaque(info.item_type)
        case types.TupleType(item_types=items) | types.UnionType(types=items):
            return any(map(_is_opaque, items))
        case types.DictType(key_type=key, value_type=value):
            return _is_opaque(key) or _is_opaque(value)
    return isinstance(info, _OPAQUE)


def _is_same(one: Any, other: Any) -> bool:
    if {type(one), type(other)} == {list, tuple}:
        return list(one) == list(other)  # one word of JSON is for both
    return bool(one == other)
