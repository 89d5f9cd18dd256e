"""The loggers of this package, which no logging of an app breaks or turns off.

Their lines come from the threads that run and settle jobs. What is wrong with a filter, a
formatter, or a handler of an app, such as one that needs a request, must not cost a thread,
nor the outcome of a job.
"""

from __future__ import annotations

import copy
import logging
import os
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from typing import ClassVar
from typing import Final

#: Where the frames around an app's part of logging are: what their file's name begins with.
_AROUND: Final = (os.path.dirname(__file__) + os.sep, logging.__file__)


class GuardedLogger(logging.Logger):
    """A logger that shows a line itself when the logging of the app raises over it."""

    #: Whether a configuration with ``disable_existing_loggers``, which is the default of
    #: ``dictConfig()`` and ``fileConfig()``, leaves these loggers on.
    stays_enabled: ClassVar[bool] = False

    def isEnabledFor(self, level: int) -> bool:
        if self.disabled and GuardedLogger.stays_enabled:
            self.disabled = False
        return super().isEnabledFor(level)

    def makeRecord(
        self,
        name: str,
        level: int,
        fn: str,
        lno: int,
        msg: object,
        args: Any,
        exc_info: Any,
        func: str | None = None,
        extra: Mapping[str, object] | None = None,
        sinfo: str | None = None,
    ) -> logging.LogRecord:
        try:
            return super().makeRecord(
                name, level, fn, lno, msg, args, exc_info, func, extra, sinfo
            )
        except Exception as error:
            # The app's own factory of records.
            record = logging.LogRecord(name, level, fn, lno, msg, args, exc_info, func, sinfo)
            record.__dict__.update(extra or {})
            record.msg, record.args = f"{_text(record)} ({_blame(error)})", ()
            return record

    def handle(self, record: logging.LogRecord) -> None:
        try:
            super().handle(record)
        except BaseException as error:
            with suppress(Exception):
                _show(record, error)
            if not isinstance(error, Exception):
                raise


def get_logger(name: str) -> logging.Logger:
    """The logger of this name, guarded.

    :param name: ``flask_taskq``, or one below it.
    """
    logger = logging.getLogger(name)
    kind = type(logger)
    if not issubclass(kind, GuardedLogger):
        # An app may have loggers of a class of its own.
        is_plain = kind is logging.Logger
        logger.__class__ = (
            GuardedLogger if is_plain else type(kind.__name__, (GuardedLogger, kind), {})
        )
    return logger


def keep_enabled() -> None:
    """From now on, no configuration of the app disables the loggers of this package.

    For a process that runs jobs: their failures would not be logged.
    """
    GuardedLogger.stays_enabled = True


def _show(record: logging.LogRecord, error: BaseException) -> None:
    handler = logging.lastResort
    if handler is None:
        return
    shown = copy.copy(record)
    shown.msg, shown.args = f"{_text(record)} ({_blame(error)})", ()
    # It may be the only line that the app ever sees of this.
    shown.levelno = max(record.levelno, logging.WARNING)
    shown.levelname = logging.getLevelName(shown.levelno)
    shown.exc_text = None
    handler.handle(shown)


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        return str(record.msg)


def _blame(error: BaseException) -> str:
    places = traceback.extract_tb(error.__traceback__)
    # The app's own part of it, and not what that has called.
    own = [one for one in places if not one.filename.startswith(_AROUND)]
    place = own[0] if own else places[-1]
    text = f"the app's logging raised {type(error).__name__} in {place.filename}:{place.lineno}"
    with suppress(Exception):
        # The first line is enough: those of Flask go on with advice about requests.
        text = f"{text}: {str(error).strip().splitlines()[0]}"
    return text
