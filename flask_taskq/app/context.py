"""The middleware that gives each job the context of its app."""

from __future__ import annotations

import weakref
from contextlib import AbstractContextManager

from flask import Flask

from ..actors.hooks import HookBroker
from ..actors.hooks import Middleware
from ..actors.run import Run


class AppContext(Middleware):
    """Runs each job in an application context of its own.

    ``current_app`` and ``g`` work in actors, and what the app tears down at the end of a
    request, such as database sessions, is torn down at the end of each job.

    :param app: the app. It is not kept alive.
    """

    def __init__(self, app: Flask) -> None:
        self._app = weakref.ref(app)

    def around_process_message(
        self, broker: HookBroker, message: Run
    ) -> AbstractContextManager[object]:
        app = self._app()
        if app is None:
            raise RuntimeError("the app that this job belongs to does not exist any more")
        return app.app_context()
