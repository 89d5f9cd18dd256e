"""Which errors of an actor clients may read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..actors.hooks import Middleware
from ..actors.option_checks import check_exceptions


class PublicErrors(Middleware):
    """``public_errors``: the exceptions of an actor whose text clients may see in
    ``/jobs/<id>``: a class or a tuple of them, or True for all that the actor raises.

    A class of exceptions can also say so itself, for all actors, by ``public_message = True``.
    Of other errors clients see a code and a title, unless ``error_message`` is in
    ``TASKQ_EXPOSE``.
    """

    @property
    def actor_options(self) -> set[str]:
        return {"public_errors"}

    @property
    def declared_options(self) -> set[str]:
        return {"public_errors"}

    def check_options(self, options: Mapping[str, Any]) -> None:
        value = options["public_errors"]
        if value is not True and value is not False:
            check_exceptions("public_errors", value)
