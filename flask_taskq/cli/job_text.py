"""A job as a person at a terminal sees it."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from datetime import datetime
from datetime import UTC
from typing import Any
from typing import Final
from typing import overload

import msgspec

from ..clock import END_OF_TIME
from ..errors import DecodeError
from ..http import shown_status
from ..jobs.encoding import decode_message
from ..jobs.record import Attempt
from ..jobs.record import JobError
from ..jobs.record import JobRecord
from ..jobs.record import LogLine
from ..jobs.record import Progress

#: Of the column of names, in characters.
_WIDTH: Final = 12

#: How many lines of a job's own log are listed: the last ones say how it ended.
_LOG_LINES: Final = 10

#: How much of a result or an error is listed, in characters. ``--json`` has all of it.
_TEXT: Final = 2_000

#: How much of each argument is.
_ARGUMENT: Final = 200


def list_job(record: JobRecord, parameters: Sequence[str] = (), waits: str = "") -> str:
    """Lines of a name and a value, with the values in one column.

    :param parameters: names of the actor's positional parameters, as far as they are known.
    :param waits: why the job waits, if it does and that is known.
    """
    rows = [*_rows(record, parameters, waits)]
    return "\n".join(_row(name, value) for name, value in rows if value is not None)


def list_row(name: str, value: str) -> str:
    """A name and a value, as :func:`list_job` lists them."""
    return _row(name, "\n".join(map(printable, value.split("\n"))))


def _row(name: str, value: str) -> str:
    return f"{name:<{_WIDTH}}" + value.replace("\n", "\n" + " " * _WIDTH)


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


def _rows(
    record: JobRecord, parameters: Sequence[str], waits: str
) -> Iterator[tuple[str, str | None]]:
    yield "id", record.id
    yield "actor", printable(record.actor)
    yield from _message(record, parameters)
    yield "queue", printable(record.queue)
    yield "status", _status(record)
    yield "waits", "\n".join(map(printable, waits.split("\n"))) if waits else None
    limit = "" if record.max_attempts is None else f" of {record.max_attempts}"
    yield "attempt", f"{record.attempt}{limit}"
    yield "crashes", str(record.crashes) if record.crashes else None
    yield "created", show_time(record.created_at)
    yield "not before", None if record.status.is_final else show_time(record.scheduled_for)
    yield "started", show_time(record.started_at)
    yield "finished", show_time(record.finished_at)
    yield "kept until", show_time(record.expires_at)
    yield "worker", None if record.worker is None else printable(record.worker)
    yield "progress", None if record.progress is None else show_progress(record.progress)
    result = record.result
    yield "result", None if result is None else _cut(result.decode("utf-8", "replace"))
    error = record.error
    yield "error", None if error is None else _cut(_error(error))
    yield "attempts", _cut("\n".join(map(_attempt, record.attempts))) or None
    yield "traceback", _traceback(error) if error is not None else None
    yield "log", "\n".join(map(_log_line, record.logs[-_LOG_LINES:])) or None


def _message(record: JobRecord, parameters: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    try:
        message = decode_message(record.message, len(record.message))
    except DecodeError as error:
        yield "arguments", f"cannot be read: {printable(str(error)[:_ARGUMENT])}"
        return
    names = [*parameters, *(f"args[{n}]" for n in range(len(parameters), len(message.args)))]
    arguments = [*zip(names, message.args, strict=False), *message.kwargs.items()]
    yield "arguments", _cut("\n".join(map(_argument, arguments))) or None
    yield "options", _cut("\n".join(map(_argument, message.options.items()))) or None


def _argument(argument: tuple[str, Any]) -> str:
    name, value = argument
    text = msgspec.json.encode(value).decode("utf-8", "replace")
    if len(text) > _ARGUMENT:
        text = text[: _ARGUMENT - 1] + "…"
    # Escaped here: a line break in a name must not begin another line.
    return printable(f"{name} = {text}")


def _error(error: JobError) -> str:
    return f"{error.type}: {error.message}" if error.message else error.type


def _attempt(attempt: Attempt) -> str:
    [first, *_] = _error(attempt.error).split("\n")
    return f"{attempt.number}  {show_time(attempt.ended_at)}  {printable(first[:_ARGUMENT])}"


def _traceback(error: JobError) -> str | None:
    if error.traceback is None:
        return None
    # The end of it is what matters.
    text = error.traceback.rstrip()
    text = text if len(text) <= _TEXT else "…" + text[1 - _TEXT :]
    return "\n".join(map(printable, text.split("\n")))


def _log_line(line: LogLine) -> str:
    return printable(f"{show_time(line.at)}  {line.level:<8}  {line.text}")


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


@overload
def show_time(at: int) -> str: ...


@overload
def show_time(at: int | None) -> str | None: ...


def show_time(at: int | None) -> str | None:
    """A time, in milliseconds since the epoch, as people write it."""
    if at is None:
        return None
    return datetime.fromtimestamp(min(at, END_OF_TIME) / 1000, UTC).strftime(
        "%Y-%m-%d %H:%M:%S UTC"
    )
