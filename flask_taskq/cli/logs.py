"""Where the log of a worker goes."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import Final
from typing import TextIO

from ..logs import JobFilter
from ..logs import JSONFormatter
from ..logs import TextFormatter

#: How many lines may wait to be written before those who log wait for them.
_MOST_WAITING: Final = 10_000


def configure_logging(level: str, log_format: str) -> None:
    """Log to standard error, unless the root logger has been told otherwise.

    :param log_format: ``text`` or ``json``.
    """
    handler = LineHandler()
    handler.setFormatter(JSONFormatter() if log_format == "json" else TextFormatter())
    handler.addFilter(JobFilter())
    logging.basicConfig(level=level.upper(), handlers=[handler])


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines in a thread of its own, as many at once as have come meanwhile.

    Each write lets another thread run and then waits for its turn again. Where every job has
    a line, this would take more of the time than the jobs do.

    From ``WARNING`` on, whoever logs waits until the line is written: it may be the last.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: SimpleQueue[str | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._writing = threading.Lock()
        self._is_direct = False
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
            self._write(line)
            return
        self._lines.put(line)
        if self._thread is None:
            self._start()
        if record.levelno >= logging.WARNING or self._lines.qsize() > _MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Wait until everything that was logged before is written."""
        if self._thread is not None:
            written = threading.Event()
            self._lines.put(written)
            written.wait()

    def close(self) -> None:
        """Write what is there. What comes later is written by whoever logs it."""
        # In this order: a line that came in between would be left to a thread that may end
        # with the process at any moment.
        self._is_direct = True
        self.flush()
        super().close()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="taskq-log", daemon=True)
                # In this order: an exception may be raised into whoever logs, and nobody must
                # wait for a thread that was never started.
                thread.start()
                self._thread = thread

    def _begin_in_child(self) -> None:
        # A process that a job has forked lacks the thread, and may end without a word. What
        # was waiting is the parent's to write.
        self._lines, self._thread, self._is_direct = SimpleQueue(), None, True
        self._starting = threading.Lock()
        self._writing.release()

    def _work(self) -> None:
        while True:
            batch = [self._lines.get()]
            while not self._lines.empty():
                batch.append(self._lines.get())
            if text := "".join(one for one in batch if isinstance(one, str)):
                self._write(text)
            for one in batch:
                if isinstance(one, threading.Event):
                    one.set()

    def _write(self, text: str) -> None:
        # Whoever read it may be gone, and there is no other place to say so. Whatever it is,
        # lines that come later need this thread.
        with self._writing, suppress(Exception):
            self.stream.write(text)
            self.stream.flush()
