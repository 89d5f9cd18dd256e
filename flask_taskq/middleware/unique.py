"""Jobs of which there is one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..actors.hooks import Middleware
from ..actors.option_checks import refusal


class Unique(Middleware):
    """``unique``: while a job is not over, sending another one like it stores nothing, and
    ``send()`` returns the job that is there.

    An option of an actor or of a message. With True, jobs of one actor are alike if all their
    arguments are the same. A list of names of parameters lets only these count. A text takes
    the place of the arguments: jobs of one actor with the same text are alike. False is for
    no limit, also with a message of an actor that has one.

    A job holds its place from when it is sent until it has ended, whatever comes in between: a
    delay, its runs, and the time between its attempts.
    """

    @property
    def actor_options(self) -> set[str]:
        return {"unique"}

    @property
    def option_defaults(self) -> dict[str, Any]:
        return {"unique": None}

    def check_options(self, options: Mapping[str, Any]) -> None:
        unique = options.get("unique")
        if unique is None or isinstance(unique, bool):
            return
        if isinstance(unique, str) and unique:
            return
        if isinstance(unique, (list, tuple)) and unique:
            if all(isinstance(name, str) for name in unique):
                return
        raise refusal("unique", unique, "True, a text, or a list of names of parameters")
