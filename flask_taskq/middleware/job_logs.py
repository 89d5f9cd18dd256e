"""What a job logs, kept in its record."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from typing import Final

from ..actors.actor import Actor
from ..actors.hooks import HookBroker
from ..actors.hooks import Middleware
from ..actors.option_checks import check_bool
from ..actors.run import Run
from ..jobs.record_limits import LINE_TEXT

_OWN: Final = __name__.partition(".")[0]

#: The job whose log the records of this thread or coroutine go to.
_kept: Final[ContextVar[Run | None]] = ContextVar("flask_taskq.kept", default=None)

_is_listening = False
_beginning: Final = threading.Lock()

_formatter: Final = logging.Formatter()
#: Reports a record that cannot be turned into text, as every handler does.
_reporter: Final = logging.NullHandler()


class JobLogs(Middleware):
    """``keep_logs``: whether what a job logs, by whatever logger of :mod:`logging`, is added
    to its own log as by ``current_job.log()``. An option of an actor or of a message; where
    neither says it, ``TASKQ_KEEP_LOGS`` does.

    Kept is what reaches the root logger, so the levels of loggers apply, and what is
    logged in the job's own thread or in tasks of its event loop.
    """

    @property
    def actor_options(self) -> set[str]:
        return {"keep_logs"}

    def check_options(self, options: Mapping[str, Any]) -> None:
        check_bool("keep_logs", options["keep_logs"])

    def applies_to(self, broker: HookBroker, actor: Actor[..., Any]) -> bool:
        return broker.settings.keep_logs or not self.actor_options.isdisjoint(actor.options)

    def around_process_message(
        self, broker: HookBroker, message: Run
    ) -> AbstractContextManager[object] | None:
        return _keep(message) if broker.option(message, "keep_logs") else None


@contextmanager
def _keep(message: Run | None) -> Iterator[None]:
    _listen()
    token = _kept.set(message)
    try:
        yield
    finally:
        _kept.reset(token)


def _listen() -> None:
    """Receive all records of this process, from the first job that keeps any.

    Not by a handler on the root logger, which all threads would find there: with one,
    ``logging.basicConfig()`` does nothing, nor does Python show warnings of an app that has
    not configured logging.
    """
    global _is_listening
    with _beginning:
        if _is_listening:
            return
        call_handlers = logging.Logger.callHandlers

        def keep_and_call(logger: logging.Logger, record: logging.LogRecord) -> None:
            message = _kept.get()
            if message is not None and _is_kept(logger, record):
                _note(message, record)
            call_handlers(logger, record)

        setattr(logging.Logger, "callHandlers", keep_and_call)  # noqa: B010  # a method
        _is_listening = True


def _is_kept(logger: logging.Logger, record: logging.LogRecord) -> bool:
    if record.name.partition(".")[0] == _OWN:
        return False
    above: logging.Logger | None = logger
    while above is not None and above is not logging.root:
        above = above.parent if above.propagate else None
    return above is not None


def _note(message: Run, record: logging.LogRecord) -> None:
    # Whatever is logged by an argument as it is turned into text is not for here.
    token = _kept.set(None)
    try:
        message.log(_text(record), _level(record.levelno))
    except Exception:
        _reporter.handleError(record)
    finally:
        _kept.reset(token)


def _text(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if not record.exc_info or record.exc_info[0] is None:
        return text
    # Not as the record's exc_text: other handlers have formats of their own.
    traceback = _formatter.formatException(record.exc_info)
    text = text[: LINE_TEXT // 2]
    left = LINE_TEXT - len(text) - 1
    if len(traceback) > left:
        # The end says what happened, and the innermost frames stand before it.
        traceback = "…" + traceback[1 - left :]
    return f"{text}\n{traceback}"


def _level(number: int) -> str:
    if number >= logging.CRITICAL:
        return "critical"
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"
