"""The options that middleware brings, and what they are for an actor or a message."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Set
from typing import Any

from ..config import Settings
from ..errors import BadArguments
from ..jobs.message import Message
from .actor import Actor
from .hooks import Middleware


class OptionTable:
    """Knows each option by its name. Those of middleware that was removed stay known.

    :param settings: the app's configuration.
    """

    def __init__(self, settings: Settings) -> None:
        #: Names of all options.
        self.names: set[str] = set()
        self._settings = settings
        self._declared: set[str] = set()
        self._nullable: set[str] = set()
        self._defaults: dict[str, Any] = {}

    def add(self, middleware: Middleware) -> None:
        """The options of this middleware are known from now on."""
        self.names.update(middleware.actor_options)
        self._declared.update(middleware.declared_options)
        self._nullable.update(middleware.nullable_options)
        self._defaults.update(middleware.option_defaults)

    def value(
        self, name: str, options: Mapping[str, Any], actor: Actor[..., Any] | None
    ) -> Any:
        """An option as it holds for a message.

        :param options: the message's own.
        :return: what the message says, else its actor, else the middleware that has the
            option, else the ``TASKQ_`` key of its name, else None.
        """
        if name in options and name not in self._declared and self._is_given(options, name):
            return options[name]
        if actor is not None and name in actor.options and self._is_given(actor.options, name):
            return actor.options[name]
        if name in self._defaults:
            return self._defaults[name]
        return getattr(self._settings, name, None)

    def values(self, actor: Actor[..., Any] | None) -> dict[str, Any]:
        """All options as they hold for messages that bring none of their own."""
        return {name: self.value(name, {}, actor) for name in self.names}

    def _is_given(self, options: Mapping[str, Any], name: str) -> bool:
        return options[name] is not None or name in self._nullable

    def check(
        self,
        owner: str,
        options: Mapping[str, Any],
        middleware: Iterable[Middleware],
        besides: Set[str] = frozenset(),
    ) -> None:
        """Check the options of an actor or of a message.

        :param owner: whose they are, for the error.
        :param middleware: which is asked about the options that it has brought.
        :param besides: names that may be there, too.
        :raises ValueError: there is no such option, or it cannot be that.
        """
        for name in options:
            if name not in self.names and name not in besides:
                near = difflib.get_close_matches(name, self.names | besides, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "none is like it"
                raise ValueError(
                    f"{owner} has the option {name!r}, which no middleware of this app"
                    f" knows; {hint}"
                )
        for one in middleware:
            own = {
                name: options[name]
                for name in one.actor_options
                if name in options and self._is_given(options, name)
            }
            if own:
                try:
                    one.check_options(own)
                except ValueError as error:
                    raise ValueError(f"{owner}: {error}") from None

    def refuse_declared(self, message: Message) -> None:
        """:raises BadArguments: the message has an option that only an actor can have."""
        if not self._declared.isdisjoint(message.options):
            [name, *_] = sorted(self._declared.intersection(message.options))
            raise BadArguments(
                f"option {name!r} cannot be sent with a message of actor"
                f" {message.actor_name!r}: give it where the actor is declared"
            )

    def without_infinity(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a message as JSON can have them."""
        # JSON has no word for it, and None says "no limit" as well, where it says that.
        return {
            name: None if value == math.inf and name in self._nullable else value
            for name, value in options.items()
        }
