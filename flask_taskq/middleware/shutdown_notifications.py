"""Interrupts runs as soon as their worker stops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..actors.hooks import HookBroker
from ..actors.hooks import HookWorker
from ..actors.hooks import Middleware
from ..actors.option_checks import check_bool
from ..errors import Shutdown


class ShutdownNotifications(Middleware):
    """``notify_shutdown``: an option of an actor or of a message. When its worker begins to
    stop, such a run gets :exc:`Shutdown` at once, and is released without being charged;
    others are left the grace time to end.

    :param notify_shutdown: for all actors and messages that do not say it.
    :raises ValueError: it is neither True nor False.
    """

    def __init__(self, *, notify_shutdown: bool = False) -> None:
        self._given = {"notify_shutdown": notify_shutdown}
        self.check_options(self._given)

    @property
    def actor_options(self) -> set[str]:
        return {"notify_shutdown"}

    @property
    def option_defaults(self) -> dict[str, Any]:
        return self._given

    def check_options(self, options: Mapping[str, Any]) -> None:
        check_bool("notify_shutdown", options["notify_shutdown"])

    def before_worker_shutdown(self, broker: HookBroker, worker: HookWorker) -> None:
        worker.interrupt(
            Shutdown, lambda message: bool(broker.option(message, "notify_shutdown"))
        )
