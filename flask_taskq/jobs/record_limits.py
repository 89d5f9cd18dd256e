"""How much a record keeps of attempts, logs and progress: the same on every engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ..errors import DecodeError
from .delivery import Cancelled
from .delivery import Failed
from .delivery import Retried
from .record import Attempt
from .record import JobError
from .record import LogLine
from .record import Progress

#: How many attempts a record keeps: all of a job with the default of three retries, and one
#: more. One that is retried for ever must not grow with each run.
KEPT_ATTEMPTS: Final = 5

#: How much of each one's text it keeps, in characters: the last error is kept whole beside it.
ATTEMPT_TEXT: Final = 1_000
ATTEMPT_TRACEBACK: Final = 4_000

#: What stands in a record whose stored error cannot be read.
DAMAGED_ERROR: Final = JobError(
    type="DecodeError", message="the stored error is damaged", code="malformed"
)

#: How many lines of a job's own log its record keeps.
KEPT_LOG_LINES: Final = 100

#: How much of the text of each, and of that of a progress, it keeps, in characters.
LINE_TEXT: Final = 2_000


def add_attempt(
    attempts: Sequence[Attempt], settlement: Retried | Failed | Cancelled, now: int
) -> tuple[Attempt, ...]:
    """The attempts that a record keeps once this settlement is stored.

    :param attempts: those that it has kept so far.
    """
    error = settlement.error
    traceback = error.traceback
    if traceback is not None and len(traceback) > ATTEMPT_TRACEBACK:
        # The end says what happened, and the innermost frames stand before it.
        traceback = "…" + traceback[1 - ATTEMPT_TRACEBACK :]
    message = error.message
    if len(message) > ATTEMPT_TEXT:
        message = message[: ATTEMPT_TEXT - 1] + "…"
    attempt = Attempt(
        number=settlement.delivery.attempt,
        started_at=settlement.started_at,
        ended_at=now,
        error=msgspec.structs.replace(error, message=message, traceback=traceback),
    )
    return (*attempts, attempt)[-KEPT_ATTEMPTS:]


def damaged(job_id: str, error: Exception) -> DecodeError:
    """The error of a record that cannot be read."""
    return DecodeError(f"the stored record of job {job_id} is damaged: {error}")


def add_lines(kept: Sequence[LogLine], lines: Sequence[LogLine]) -> tuple[LogLine, ...]:
    """The lines that a record keeps once these are added.

    :param kept: those that it has kept so far.
    """
    added = [
        msgspec.structs.replace(line, text=cut_text(line.text, LINE_TEXT)) for line in lines
    ]
    return (*kept, *added)[-KEPT_LOG_LINES:]


def cut_progress(progress: Progress) -> Progress:
    """A progress as a record keeps it."""
    if progress.message is None:
        return progress
    message = cut_text(progress.message, LINE_TEXT)
    return msgspec.structs.replace(progress, message=message)


def cut_text(text: str, length: int) -> str:
    """A text that can be stored, cut to so many characters.

    Half a surrogate pair, as in a file's name that is not UTF-8, cannot be stored: what it
    stands in would be refused for ever.
    """
    text = text[: length + 1].encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= length else text[: length - 1] + "…"
