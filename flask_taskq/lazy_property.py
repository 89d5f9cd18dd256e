"""What is found out when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Generic
from typing import overload
from typing import Self
from typing import TypeVar

T = TypeVar("T")


class lazy_property(Generic[T]):  # noqa: N801  # used as a decorator
    """Makes a method an attribute, whose value is kept once it is known.

    Two threads may both find it out. In Python 3.11, :func:`functools.cached_property` holds
    a lock meanwhile, one for all instances: a process that a job forks at that moment would
    wait for it for ever.
    """

    def __init__(self, find: Callable[[Any], T]) -> None:
        self._find = find
        self.__doc__ = find.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Self | T:
        if instance is None:
            return self
        # From here on the attribute of the instance is found first.
        value = instance.__dict__[self._name] = self._find(instance)
        return value
