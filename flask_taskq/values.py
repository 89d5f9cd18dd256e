"""From JSON values to what a function's annotations say.

Types that JSON has no word for travel as text or as objects: a ``datetime``, a ``UUID``, a
dataclass. The annotation of the parameter, or of the result, tells what they were.

An annotation that is missing, that cannot be resolved, or that names a class of which
msgspec knows nothing leaves its value as it is. So do the types that JSON has itself: they
are not even checked, because a call in Python would not do so either, and most jobs take
and return nothing else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Final
from typing import get_type_hints
from typing import NamedTuple

import msgspec
from msgspec import inspect as types

from .errors import BadArguments
from .errors import BadResult

#: Converts the arguments of one call.
ArgumentConverter = Callable[
    [Sequence[Any], Mapping[str, Any]], tuple[Sequence[Any], Mapping[str, Any]]
]

_PLAIN: Final = (
    types.AnyType(),
    types.NoneType(),
    types.BoolType(),
    types.IntType(),
    types.FloatType(),
    types.StrType(),
)
_OPAQUE: Final = (types.CustomType, types.RawType, types.ExtType)


class _Parameter(NamedTuple):
    """A parameter whose values are converted."""

    field: str
    name: str
    #: Its place among the arguments, or where ``*args`` begins; None if it has none.
    position: int | None
    kind: inspect._ParameterKind


def make_argument_converter(
    fn: Callable[..., Any], signature: inspect.Signature, actor_name: str
) -> ArgumentConverter | None:
    """Prepare the conversion of a function's arguments.

    :param signature: the function's.
    :param actor_name: for the text of errors.
    :return: None if no argument needs one. It raises :exc:`BadArguments` when a value does
        not fit; arguments that the signature has no place for are left to the call.
    """
    parameters: list[_Parameter] = []
    fields: list[tuple[str, Any, Any]] = []
    for position, parameter in enumerate(signature.parameters.values()):
        type_ = _resolve(fn, parameter.annotation)
        if not _needs_conversion(type_):
            continue
        is_keyword = parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD)
        place = None if is_keyword else position
        field = f"field{position}"
        parameters.append(_Parameter(field, parameter.name, place, parameter.kind))
        if parameter.kind is parameter.VAR_POSITIONAL:
            type_ = list.__class_getitem__(type_)
        elif parameter.kind is parameter.VAR_KEYWORD:
            type_ = dict.__class_getitem__((str, type_))
        elif parameter.default is None:
            type_ = type_ | None  # as "when: datetime = None" is meant
        fields.append((field, type_, msgspec.field(default=None, name=parameter.name)))
    if not parameters:
        return None
    names = {
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    return _Converter(parameters, fields, names, actor_name)


def make_result_decoder(
    fn: Callable[..., Any], signature: inspect.Signature, actor_name: str
) -> Callable[[bytes], Any] | None:
    """Prepare the reading of a function's results.

    :return: None if JSON says it all. It raises :exc:`BadResult` when a result does not fit.
    """
    type_ = _resolve(fn, signature.return_annotation)
    if not _needs_conversion(type_):
        return None
    # A job that a hook ended has no result, whatever the function returns.
    decoder = msgspec.json.Decoder(type_ | None)

    def decode(data: bytes) -> Any:
        try:
            return decoder.decode(data)
        except msgspec.ValidationError as error:
            raise BadResult(
                f"actor {actor_name!r} returned what its annotation {type_!r} does not"
                f" allow: {error}"
            ) from None

    return decode


class _Converter:
    # All parameters are the fields of one struct, because msgspec prepares a struct's types
    # once, and those of a bare annotation such as list[datetime] with every call.

    def __init__(
        self,
        parameters: list[_Parameter],
        fields: list[tuple[str, Any, Any]],
        names: set[str],
        actor_name: str,
    ) -> None:
        self._parameters = parameters
        self._struct = msgspec.defstruct("Arguments", fields)
        self._names = names
        self._actor_name = actor_name

    def __call__(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        given: dict[str, Any] = {}
        for _, name, position, kind in self._parameters:
            if kind is inspect.Parameter.VAR_POSITIONAL:
                given[name] = args[position:]
            elif kind is inspect.Parameter.VAR_KEYWORD:
                given[name] = {key: kwargs[key] for key in kwargs if key not in self._names}
            elif position is not None and position < len(args):
                given[name] = args[position]
            elif name in kwargs:
                given[name] = kwargs[name]
        try:
            converted = msgspec.convert(given, self._struct, str_keys=True)
        except msgspec.ValidationError as error:
            raise BadArguments(
                f"an argument of actor {self._actor_name!r} does not fit its annotation:"
                f" {error}"
            ) from None
        args, kwargs = list(args), dict(kwargs)
        for field, name, position, kind in self._parameters:
            if name not in given:
                continue
            value = getattr(converted, field)
            if kind is inspect.Parameter.VAR_POSITIONAL:
                args[position:] = value
            elif kind is inspect.Parameter.VAR_KEYWORD:
                kwargs.update(value)
            elif position is not None and position < len(args):
                args[position] = value
            else:
                kwargs[name] = value
        return args, kwargs


def _resolve(fn: Callable[..., Any], annotation: Any) -> Any:
    """An annotation as a type, or Any."""
    if annotation is inspect.Signature.empty:
        return Any

    # One by one: a name that only type checkers import spoils its own parameter and no other.
    def holder() -> None: ...

    holder.__annotations__ = {"it": annotation}
    names = getattr(inspect.unwrap(fn), "__globals__", {})
    try:
        return get_type_hints(holder, names, include_extras=True)["it"]
    except Exception:
        return Any


def _needs_conversion(type_: Any) -> bool:
    try:
        info = types.type_info(type_)
    except Exception:
        return False  # "datetime | str": no one can tell which of them a text was
    return not _is_plain(info) and not _is_opaque(info)


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
    return info in _PLAIN


def _is_opaque(info: types.Type) -> bool:
    match info:
        case types.ListType() | types.SetType() | types.FrozenSetType() | types.VarTupleType():
            return _is_opaque(info.item_type)
        case types.TupleType(item_types=items) | types.UnionType(types=items):
            return any(map(_is_opaque, items))
        case types.DictType(key_type=key, value_type=value):
            return _is_opaque(key) or _is_opaque(value)
    return isinstance(info, _OPAQUE)
