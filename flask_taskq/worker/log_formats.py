"""How records of a log are written as lines."""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Any
from typing import Final

#: Whatever could end a line, move the cursor or begin an escape sequence. Not the tab.
_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class _Formatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__()
        self._second = (-1, "")

    def _time(self, created: float) -> tuple[str, int]:
        """The time as text and the milliseconds; text is made once for each second."""
        second = int(created)
        # Read and replaced whole: threads share this.
        known, text = self._second
        if known != second:
            text = self._show_second(second)
            self._second = (second, text)
        return text, int((created - second) * 1000)

    def _show_second(self, second: int) -> str:
        raise NotImplementedError

    def _exception(self, record: logging.LogRecord) -> str | None:
        if record.exc_info and not record.exc_text:
            try:
                record.exc_text = self.formatException(record.exc_info)
            except Exception:
                # To mark the place in a line it is parsed, which in some releases of Python
                # fails while another thread parses something. The line is worth more.
                name = getattr(record.exc_info[0], "__name__", None)
                record.exc_text = f"{name} (its traceback could not be shown)"
        return record.exc_text


class TextFormatter(_Formatter):
    """Lines for people, with the job's id where there is one.

    What is logged cannot pass itself off as a line of its own: control characters are
    escaped, and all lines of a record but the first are indented.
    """

    def _show_second(self, second: int) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))

    def format(self, record: logging.LogRecord) -> str:
        second, milliseconds = self._time(record.created)
        text = record.getMessage()
        job_id = getattr(record, "job_id", None)
        if job_id and job_id not in text:
            text = f"[job {job_id}] {text}"
        text = (
            f"{second},{milliseconds:03d} {record.levelname:<7} [{record.process}]"
            f" {record.name}: {text}"
        )
        for more in (self._exception(record), record.stack_info):
            if more:
                text = f"{text}\n{more}"
        return text if text.isprintable() else _CONTROL.sub(_escape, text)


class JSONFormatter(_Formatter):
    """Lines for programs: one JSON object for each record, in ASCII.

    ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message`` and ``process`` are always
    there; ``job_id``, ``actor``, ``attempt``, ``request_id``, ``exception`` (a traceback) and
    ``stack`` where there is one.
    """

    # Escapes what is not ASCII, and so the separators of lines that Unicode adds.
    _encode = json.JSONEncoder(default=str, separators=(",", ":")).encode

    def _show_second(self, second: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))

    def format(self, record: logging.LogRecord) -> str:
        second, milliseconds = self._time(record.created)
        line: dict[str, Any] = {
            "time": f"{second}.{milliseconds:03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        for name in ("job_id", "actor", "attempt", "request_id"):
            value = getattr(record, name, None)
            if value is not None:
                line[name] = value
        if exception := self._exception(record):
            line["exception"] = exception
        if record.stack_info:
            line["stack"] = record.stack_info
        # The one control character that JSON lets stand in a string.
        return self._encode(line).replace("\x7f", "\\u007f")


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return "\n    " if character == "\n" else ascii(character)[1:-1]
