"""A job as a person at a terminal sees it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from datetime import UTC
from typing import Final

from ..clock import END_OF_TIME
from ..http import shown_status
from ..record import JobRecord
from ..record import LogLine
from ..record import Progress

#: Of the column of names, in characters.
_WIDTH: Final = 12

#: How many lines of a job's own log are listed: the last ones say how it ended.
_LOG_LINES: Final = 10

#: How much of a result or an error is listed, in characters. ``--json`` has all of it.
_TEXT: Final = 2_000


def list_job(record: JobRecord) -> str:
    """Lines of a name and a value, with the values in one column."""
    lines = []
    for name, value in _rows(record):
        if value is not None:
            lines.append(f"{name:<{_WIDTH}}" + value.replace("\n", "\n" + " " * _WIDTH))
    return "\n".join(lines)


def show_progress(progress: Progress) -> str:
    """How far a job is, on one line: ``50%  (2 of 4)  rows``."""
    count = f"{progress.current:g}"
    if progress.total is not None:
        count = f"{count} of {progress.total:g}"
    fraction, message = progress.fraction, progress.message
    words = [count] if fraction is None else [f"{fraction:.0%}", f"({count})"]
    return "  ".join([*words, printable(message)] if message else words)


def printable(text: str) -> str:
    """A text on one line that cannot move a terminal's cursor, or pass for another line."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _rows(record: JobRecord) -> Iterator[tuple[str, str | None]]:
    yield "id", record.id
    yield "actor", printable(record.actor)
    yield "queue", printable(record.queue)
    yield "status", _status(record)
    limit = "" if record.max_attempts is None else f" of {record.max_attempts}"
    yield "attempt", f"{record.attempt}{limit}"
    yield "crashes", str(record.crashes) if record.crashes else None
    yield "created", _time(record.created_at)
    yield "not before", None if record.status.is_final else _time(record.scheduled_for)
    yield "started", _time(record.started_at)
    yield "finished", _time(record.finished_at)
    yield "kept until", _time(record.expires_at)
    yield "worker", None if record.worker is None else printable(record.worker)
    yield "progress", None if record.progress is None else show_progress(record.progress)
    result = record.result
    yield "result", None if result is None else _cut(result.decode("utf-8", "replace"))
    error = record.error
    yield "error", None if error is None else _cut(f"{error.type}: {error.message}")
    yield "log", "\n".join(map(_log_line, record.logs[-_LOG_LINES:])) or None


def _log_line(line: LogLine) -> str:
    return printable(f"{_time(line.at)}  {line.level:<8}  {line.text}")


def _status(record: JobRecord) -> str:
    words = [shown_status(record)]
    if record.status_reason is not None:
        words.append(printable(record.status_reason))
    if record.cancel_requested and not record.status.is_final:
        words.append("asked to stop")
    return ", ".join(words)


def _cut(text: str) -> str:
    if len(text) > _TEXT:
        text = text[: _TEXT - 1] + "…"
    return "\n".join(printable(line) for line in text.split("\n"))


def _time(at: int | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(min(at, END_OF_TIME) / 1000, UTC).strftime(
        "%Y-%m-%d %H:%M:%S UTC"
    )
