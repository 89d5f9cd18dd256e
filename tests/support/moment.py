"""Something that happens in the midst of a transaction of SQLite."""

from __future__ import annotations

from collections.abc import Callable


class Moment:
    """A value that does something in the moment in which a statement takes it, which is in
    the midst of a transaction. Only once: a transaction may be done again."""

    def __init__(self, value: object, act: Callable[[], object]) -> None:
        self._value = value
        self._act: Callable[[], object] | None = act

    def __conform__(self, protocol: object) -> object:
        act, self._act = self._act, None
        if act is not None:
            act()
        return self._value
