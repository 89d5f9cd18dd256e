"""Where the log of a worker goes."""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import suppress
from queue import Empty
from queue import SimpleQueue
from typing import Final
from typing import TextIO

from ..loggers import keep_enabled
from .log_formats import JSONFormatter
from .log_formats import TextFormatter

#: How many lines may wait to be written before those who log wait for them.
_MAX_WAITING: Final = 10_000

#: How often a thread that waits for a line checks that the writer is alive, in seconds.
_LOOK: Final = 1.0


def configure_logging(level: str, log_format: str, *filters: logging.Filter) -> None:
    """Log to standard error, unless the root logger has handlers already.

    :param log_format: ``text`` or ``json``.
    :param filters: for each record that is written.
    """
    WorkerLog(level, log_format, *filters).complete()


class WorkerLog:
    """The log of a process, before and after its app has configured logging.

    As long as the app may do so, the root logger has no handler: with one,
    ``logging.basicConfig()`` does nothing. What is logged until then goes through
    :data:`logging.lastResort`, from ``WARNING`` on.

    :param log_format: ``text`` or ``json``.
    :param filters: for each record that is written.
    """

    def __init__(self, level: str, log_format: str, *filters: logging.Filter) -> None:
        self._filters = filters
        self._level = logging.getLevelNamesMapping()[level.upper()]
        self._format = log_format
        self._handlers: list[LineHandler] = []
        keep_enabled()
        # It stays: no handler of the app may be in reach of a logger that does not propagate.
        logging.lastResort = self._add_handler()
        logging.lastResort.setLevel(max(self._level, logging.WARNING))

    @property
    def is_broken(self) -> bool:
        """Whether a thread that writes lines has died."""
        return any(handler.is_broken for handler in self._handlers)

    def complete(self) -> None:
        """Give the root logger a handler if the app has not: it is built."""
        root = logging.getLogger()
        if _says_nothing(root):
            root.handlers.clear()
        if root.handlers:
            return
        if root.level == logging.WARNING:
            # As it is at first; any other one is the app's.
            root.setLevel(self._level)
        handler = self._add_handler()
        handler.addFilter(_is_new)
        root.addHandler(handler)
        flask_logging = sys.modules.get("flask.logging")
        if flask_logging is None:
            return  # a supervisor has none
        for logger in list(logging.root.manager.loggerDict.values()):
            if isinstance(logger, logging.Logger):
                # What Flask gives the logger of an app when it finds no other handler.
                logger.removeHandler(flask_logging.default_handler)

    def _add_handler(self) -> LineHandler:
        handler = LineHandler()
        handler.setFormatter(JSONFormatter() if self._format == "json" else TextFormatter())
        for one in self._filters:
            handler.addFilter(one)
        self._handlers.append(handler)
        return handler


def _says_nothing(root: logging.Logger) -> bool:
    """Whether the root logger is as ``logging.warning()`` leaves it, which no app asks for."""
    if root.level != logging.WARNING or len(root.handlers) != 1:
        return False
    [handler] = root.handlers
    return (
        type(handler) is logging.StreamHandler
        and handler.level == logging.NOTSET
        and handler.stream is sys.stderr
        and not handler.filters
        and getattr(handler.formatter, "_fmt", "") == logging.BASIC_FORMAT
    )


def _is_new(record: logging.LogRecord) -> bool:
    """Whether no handler of the app shows a record on the same terminal, or in the same file.

    An app may have configured one logger, such as its own, and left the root logger alone, or
    have given that a handler later.
    """
    logger: object = logging.root.manager.loggerDict.get(record.name, logging.root)
    while isinstance(logger, logging.Logger):
        if logger.handlers and any(_shows(handler, record) for handler in logger.handlers):
            return False
        logger = logger.parent
    return True


def _shows(handler: logging.Handler, record: logging.LogRecord) -> bool:
    if not isinstance(handler, logging.StreamHandler) or isinstance(handler, LineHandler):
        return False
    # The stream of Flask's handlers is a proxy: equal, not the same.
    return record.levelno >= handler.level and handler.stream in (sys.stderr, sys.stdout)


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines in a thread of its own, as many at once as have come meanwhile.

    Each write lets another thread run and then waits for its turn again. Where every job has
    a line, this would take more of the time than the jobs do.

    From ``WARNING`` on, logging waits until the line is written: it may be the last one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: SimpleQueue[str | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._writing = threading.Lock()
        self._is_direct = False
        #: Whether the thread has died. Lines are then written by the thread that logs.
        self.is_broken = False
        # Held meanwhile, so that no process is born with the stream in the midst of a write.
        os.register_at_fork(
            before=self._writing.acquire,
            after_in_parent=self._writing.release,
            after_in_child=self._begin_in_child,
        )

    def handle(self, record: logging.LogRecord) -> bool:
        # Without the handler's lock, which is for one that writes.
        passes = bool(self.filter(record))
        if passes:
            self.emit(record)
        return passes

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # In the thread that logs: what is shown is what it was then.
            line = f"{self.format(record)}{self.terminator}"
        except Exception:
            self.handleError(record)
            return
        if self._is_direct:
            self._drain()
            self._write(line)
            return
        self._lines.put(line)
        if self._thread is None:
            self._start()
        if record.levelno >= logging.WARNING or self._lines.qsize() > _MAX_WAITING:
            self.flush()

    def flush(self) -> None:
        """Wait until everything that was logged before is written."""
        if self._thread is not None:
            written = threading.Event()
            self._lines.put(written)
            while not written.wait(_LOOK) and not self.is_broken:
                pass
            if self.is_broken:
                self._drain()

    def close(self) -> None:
        """Write the waiting lines. Later lines are written by the thread that logs them."""
        # In this order: a line that came in between would be left to a thread that may end
        # with the process at any moment.
        self._is_direct = True
        self.flush()
        super().close()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="taskq-log", daemon=True)
                # In this order: an exception may be raised in the thread that logs, and no
                # thread must wait for one that was never started.
                thread.start()
                self._thread = thread

    def _begin_in_child(self) -> None:
        # A process that a job has forked lacks the thread, and may end without a word. What
        # was waiting is the parent's to write.
        self._lines, self._thread, self._is_direct = SimpleQueue(), None, True
        self.is_broken = False
        self._starting = threading.Lock()
        self._writing.release()

    def _work(self) -> None:
        batch: list[str | threading.Event] = []
        try:
            while True:
                batch.append(self._lines.get())
                self._write_batch(batch)
        finally:
            # Only an exception that is raised in this thread from outside ends it.
            self._is_direct = self.is_broken = True
            self._write_batch(batch)

    def _drain(self) -> None:
        """Write what the thread, if it has died, has left."""
        if self.is_broken and not self._lines.empty():
            self._write_batch([])

    def _write_batch(self, batch: list[str | threading.Event]) -> None:
        """Write these lines, and those that have come meanwhile."""
        try:
            while True:
                batch.append(self._lines.get_nowait())
        except Empty:
            pass
        if text := "".join(one for one in batch if isinstance(one, str)):
            self._write(text)
        for one in batch:
            if isinstance(one, threading.Event):
                one.set()
        batch.clear()

    def _write(self, text: str) -> None:
        # The reader of the stream may be gone, and there is no other place to report it.
        # Whatever the error is, later lines need this thread.
        with self._writing, suppress(Exception):
            self.stream.write(text)
            self.stream.flush()
