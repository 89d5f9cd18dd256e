"""Warns a developer of a job that is sent before the rows that it needs are committed."""

from __future__ import annotations

import sys
import weakref
from importlib import import_module
from typing import Any
from typing import Final

from flask import Flask

from ..actors.hooks import HookBroker
from ..actors.hooks import Middleware
from ..jobs.message import Message
from ..loggers import get_logger

logger = get_logger(__name__)

#: Where a session notes that it has written rows which are not committed.
_FLUSHED: Final = "flask_taskq.flushed"


class Uncommitted(Middleware):
    """Logs a warning, once, when a job is sent while Flask-SQLAlchemy's session has changes
    that are not committed. For apps in debug mode only.

    :param app: the app. It is not kept alive.
    """

    def __init__(self, app: Flask) -> None:
        self._app = weakref.ref(app)
        self._has_warned = False
        if "sqlalchemy" in sys.modules:
            _note_flushes()

    def before_enqueue(self, broker: HookBroker, message: Message, delay: int | None) -> None:
        app = self._app()
        if self._has_warned or app is None:
            return
        session = _find_session(app)
        if session is None or not _has_changes(session):
            return
        self._has_warned = True
        logger.warning(
            "a job of actor %r is sent while the database session has changes that are not"
            " committed: a worker may start it before the commit, and finds the rows as they"
            " were. Call db.session.commit() first. (In debug mode, said once.)",
            message.actor_name,
        )


def _find_session(app: Flask) -> Any:
    """The session of Flask-SQLAlchemy for this context, if one was begun."""
    scoped = getattr(app.extensions.get("sqlalchemy"), "session", None)
    registry = getattr(scoped, "registry", None)
    return registry() if registry is not None and registry.has() else None


def _has_changes(session: Any) -> bool:
    return bool(session.new or session.dirty or session.deleted or session.info.get(_FLUSHED))


def _note_flushes() -> None:
    """Have each session note that it has flushed, until its transaction ends."""
    event = import_module("sqlalchemy.event")
    kind = import_module("sqlalchemy.orm").Session
    if not event.contains(kind, "after_flush", _begin_note):
        event.listen(kind, "after_flush", _begin_note)
        event.listen(kind, "after_transaction_end", _end_note)


def _begin_note(session: Any, _: object) -> None:
    session.info[_FLUSHED] = True


def _end_note(session: Any, transaction: Any) -> None:
    if transaction.parent is None:  # a savepoint's end is none
        session.info.pop(_FLUSHED, None)
