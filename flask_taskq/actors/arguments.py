"""The arguments of an actor: whether they fit its function, when they are sent and when they
are read again.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Final
from typing import NamedTuple

from ..errors import BadArguments
from ..lazy_property import lazy_property
from .annotations import Misfit
from .annotations import read_annotation
from .annotations import Value
from .json_roundtrip import explain_change

_POSITIONAL: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
_NAMED: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Arguments:
    """What the function of an actor can be called with.

    A decorator may call the function with more than it was called with itself: a session, a
    tenant. Where one passes any arguments on, those that are missing are its own matter.

    :param fn: the function.
    :param actor_name: for errors.
    :param check_types: whether arguments are held against the function's annotations.
    """

    def __init__(
        self, fn: Callable[..., Any], actor_name: str, *, check_types: bool = True
    ) -> None:
        self.signature = inspect.signature(fn)
        parameters = self.signature.parameters.values()
        #: Names of the parameters that can be given by position.
        self.names = tuple(one.name for one in parameters if one.kind in _POSITIONAL)
        self._fn = fn
        self._actor_name = actor_name
        #: Whether arguments are held against the annotations when they are sent.
        self.are_typed = check_types
        self._keywords = frozenset(one.name for one in parameters if one.kind in _NAMED)
        self._required = frozenset(
            one.name
            for one in parameters
            if one.default is one.empty and one.kind in (*_POSITIONAL, *_NAMED)
        )
        self._extra_values = _find(parameters, inspect.Parameter.VAR_POSITIONAL)
        self._extra_names = _find(parameters, inspect.Parameter.VAR_KEYWORD)
        #: The signature of a decorator that may add arguments of its own.
        self._outer = _find_outer(fn, self.signature)
        # How many arguments by position alone are sure to fit.
        by_position = self._required.issubset(self.names)
        least = 0 if self._outer else len(self._required)
        self._counts = range(least, len(self.names) + 1) if by_position else range(0)

    def takes(self, name: str) -> bool:
        """Whether an argument can be given by this name."""
        return bool(name in self._keywords or name in self.names or self._extra_names)

    # At send

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Check what is about to be sent.

        :raises BadArguments: it does not fit the function or its annotations, or something
            else would be read back.
        """
        self.check_fit(args, kwargs)
        values = self._values
        by_position: Sequence[Value] = values.by_position
        if len(args) > len(by_position) or self._outer is not None:
            by_position = self._place(args, kwargs)
        for value, annotated in zip(args, by_position, strict=False):
            if type(value) not in annotated.accepts:
                self._check_value(annotated, value)
        for name, value in kwargs.items():
            annotated = values.by_name.get(name, values.extra_name)
            if type(value) not in annotated.accepts:
                self._check_value(annotated, value, name)

    def _check_value(self, annotated: Value, value: Any, name: str | None = None) -> None:
        reason = annotated.refuse(value)
        if reason is not None:
            hint = annotated.explain_text() if type(value) is str else ""
            raise BadArguments(
                f"argument {name or annotated.name!r} of actor {self._actor_name!r}"
                f" {reason}{hint}"
            )

    def check_fit(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """:raises BadArguments: the function's signature has no such call."""
        # Binding them takes longer than the rest of sending, and most calls are plain.
        if len(args) in self._counts and not (kwargs or self._outer):
            return
        given = self.names[: len(args)]
        if (
            len(args) > len(given)
            or not self._keywords.issuperset(kwargs)
            or not kwargs.keys().isdisjoint(given)
            or not self._required.issubset((*given, *kwargs))
            or self._outer is not None
        ):
            self._bind(args, kwargs)

    def fit(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether the function's signature has such a call."""
        try:
            self.check_fit(args, kwargs)
        except BadArguments:
            return False
        return True

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        try:
            if self._outer is None:
                self.signature.bind(*args, **kwargs)
            else:
                self.signature.bind_partial(*args, **kwargs)
                self._outer.bind(*args, **kwargs)
        except TypeError as error:
            raise BadArguments(
                f"actor {self._actor_name!r} takes {self.signature}:"
                f" {self._explain(args, kwargs) or error}"
            ) from None

    def _explain(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        """What is wrong first with arguments that do not fit."""
        for name in kwargs if self._extra_names is None else ():
            if name not in self._keywords:
                if name in self.names:
                    return f"{name!r} is given by position only"
                near = difflib.get_close_matches(name, self._keywords, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                return f"it has no parameter {name!r}{hint}"
        if self._extra_values is None and len(args) > len(self.names):
            return f"{len(args)} arguments by position are too many"
        given = self.names[: len(args)]
        for name in given:
            if name in kwargs and name in self._keywords:
                return f"{name!r} is given twice, by position and by name"
        missing = [
            repr(name)
            for name in self.signature.parameters
            if name in self._required and name not in given and name not in kwargs
        ]
        return f"without {' and '.join(missing)}" if missing else None

    # In a worker

    @lazy_property
    def plain_counts(self) -> range:
        """How many arguments by position, and no others, :meth:`convert` leaves as they are."""
        return range(0) if self._outer or self._values.are_converted else self._counts

    def convert(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """What the function is called with: values of JSON, converted by its annotations.

        :raises BadArguments: they do not fit the function or its annotations.
        """
        self.check_fit(args, kwargs)
        values = self._values
        if not values.are_converted:
            return args, kwargs
        placed = zip(self._place(args, kwargs), args, strict=True)
        return (
            [self._convert(annotated, value) for annotated, value in placed],
            {
                name: self._convert(values.by_name.get(name, values.extra_name), value)
                for name, value in kwargs.items()
            },
        )

    def _convert(self, annotated: Value, value: Any) -> Any:
        try:
            return annotated.convert(value)
        except Misfit as error:
            raise BadArguments(
                f"argument {annotated.name!r} of actor {self._actor_name!r} {error}"
            ) from None

    # What the annotations say

    def _place(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[Value]:
        """What is known of each argument that is given by position."""
        values = self._values
        given = self.names[: len(args)]
        if self._outer is not None and not self._required.issubset((*given, *kwargs)):
            # A decorator adds what is missing, perhaps before these.
            return [Value(f"number {number}", Any) for number in range(1, len(args) + 1)]
        extra = [values.extra_value] * (len(args) - len(given))
        return [*values.by_position[: len(args)], *extra]

    @lazy_property
    def _values(self) -> _Values:
        # Made when they are first needed: an annotation may name a class that is defined
        # below the function.
        by_name = {
            parameter.name: self._make_value(parameter)
            for parameter in self.signature.parameters.values()
        }
        unknown = Value("", Any)
        return _Values(
            by_position=[by_name[name] for name in self.names],
            by_name={name: by_name[name] for name in self._keywords},
            extra_value=by_name.get(self._extra_values or "", unknown),
            extra_name=by_name.get(self._extra_names or "", unknown),
            are_converted=any(value.is_converted for value in by_name.values()),
        )

    def _make_value(self, parameter: inspect.Parameter) -> Value:
        return read_annotation(
            self._fn,
            parameter.name,
            parameter.annotation,
            is_checked=self.are_typed,
            default=parameter.default,
        )


def check_unknown(args: Iterable[Any], kwargs: Mapping[str, Any], actor_name: str) -> None:
    """Check what is about to be sent to an actor that this process does not know.

    :raises BadArguments: something else would be read back, whatever its annotations are.
    """
    numbered = ((f"number {number}", value) for number, value in enumerate(args, 1))
    for name, value in (*numbered, *kwargs.items()):
        reason = explain_change(value, True)
        if reason is not None:
            raise BadArguments(f"argument {name!r} of actor {actor_name!r} {reason}")


class _Values(NamedTuple):
    """The parameters of a function, by what their arguments are known by.

    :param extra_value: what an argument of ``*args`` is.
    :param extra_name: what an argument of ``**kwargs`` is.
    :param are_converted: whether one of them has a type that JSON has no word for.
    """

    by_position: list[Value]
    by_name: dict[str, Value]
    extra_value: Value
    extra_name: Value
    are_converted: bool


def _find(parameters: Iterable[inspect.Parameter], kind: inspect._ParameterKind) -> str | None:
    return next((one.name for one in parameters if one.kind is kind), None)


def _find_outer(
    fn: Callable[..., Any], signature: inspect.Signature
) -> inspect.Signature | None:
    try:
        outer = inspect.signature(fn, follow_wrapped=False)
    except ValueError:
        return None  # a wrapper in C has none of its own, such as that of lru_cache()
    return None if outer == signature else outer
