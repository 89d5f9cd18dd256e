"""Something that happens in the midst of a transaction of SQLite."""

from __future__ import annotations

from collections.abc import Callable


class Moment:
    """A value that does something in the moment in which a statement takes it, which is in
    the midst of a transaction. Only once: a transaction may be done again.

    :param number: of the statement that takes it, from 1.
    """

    def __init__(self, value: object, act: Callable[[], object], number: int = 1) -> None:
        self._value = value
        self._act = act
        self._left = number

    def __conform__(self, protocol: object) -> object:
        self._left -= 1
        if self._left == 0:
            self._act()
        return self._value
