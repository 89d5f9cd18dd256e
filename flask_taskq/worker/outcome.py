"""The settlement that follows from the end of a run, and its log line."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from collections.abc import Mapping
from types import FrameType
from types import TracebackType
from typing import Any
from typing import Final

from ..actors.run import is_decided
from ..actors.run import Run
from ..clock import END_OF_TIME
from ..config import milliseconds
from ..errors import Cancel
from ..errors import Interrupt
from ..errors import JobCancelled
from ..errors import LeaseLost
from ..errors import Retry as RetryError
from ..errors import Shutdown
from ..errors import SkipMessage
from ..errors import Snooze
from ..errors import TimeLimitExceeded
from ..jobs.delivery import Cancelled
from ..jobs.delivery import Delivery
from ..jobs.delivery import Expired
from ..jobs.delivery import Failed
from ..jobs.delivery import Released
from ..jobs.delivery import Retried
from ..jobs.delivery import Settlement
from ..jobs.delivery import Snoozed
from ..jobs.delivery import Succeeded
from ..jobs.record import JobError
from ..jobs.record import Status
from ..jobs.record_limits import cut_text
from ..loggers import get_logger

logger = get_logger("flask_taskq.jobs")

#: How much of a traceback and of an error's text a record keeps.
_MAX_FRAMES: Final = 50
_MAX_TEXT: Final = 32_768


def is_cancelled(run: Run) -> bool:
    """Whether a run that ended with an exception has done so because it was cancelled."""
    # Neither an exception during its clean-up nor a later interrupt is a reason to run it
    # again.
    return JobCancelled in run.interrupts or isinstance(run.exception, (Cancel, JobCancelled))


def classify(run: Run, now: Callable[[], int]) -> Settlement:
    """Return the settlement of a run.

    :param now: returns the time of the engine's clock.
    """
    delivery, started_at = run.delivery, run.started_at
    after, exception = run.follow_ups, run.exception
    if exception is None:
        return Succeeded(
            delivery=delivery, started_at=started_at, follow_ups=after, result=run.result
        )
    if isinstance(exception, (Shutdown, LeaseLost)) and is_decided(run, exception):
        return Released(delivery=delivery, started_at=started_at)
    if isinstance(exception, Snooze):
        at = min(now() + milliseconds(exception.delay), END_OF_TIME)
        return Snoozed(delivery=delivery, started_at=started_at, at=at)
    if isinstance(exception, SkipMessage):
        if run.expired:
            error = JobError(type="Expired", message=cut(_text(run)), code="expired")
            return Expired(delivery=delivery, error=error)
        if not run.failed:
            return Succeeded(delivery=delivery, started_at=started_at, result=run.result)
    if run.discarded:
        error = _describe(run)
        return Cancelled(
            delivery=delivery, started_at=started_at, follow_ups=after, error=error
        )
    error = _describe(run)
    if run.retry_delay is None:
        return Failed(delivery=delivery, started_at=started_at, follow_ups=after, error=error)
    # A hook or a subclass may have set a time that an engine cannot store.
    at = min(now() + run.retry_delay, END_OF_TIME)
    return Retried(delivery=delivery, started_at=started_at, error=error, at=at)


_LINE: Final = "job %s %s: actor=%s attempt=%d duration=%.1fms"


class OutcomeLine:
    """The line about a run that has ended, which is logged when its outcome is stored.

    :param settlement: the settlement of the run.
    :param duration: how long the run took, in milliseconds.
    """

    def __init__(self, run: Run, settlement: Settlement, duration: float) -> None:
        self._level, self._outcome = OUTCOMES[type(settlement)]
        self._delivery = run.delivery
        self._actor_name = run.delivery.actor
        self._duration = duration
        self._exc_info: Any = None
        self._runs_again = settlement.runs_again
        if isinstance(settlement, (Failed, Retried)):
            self._describe_failure(run, settlement)
        elif isinstance(settlement, Cancelled):
            self._outcome = f"{settlement.error.code} by {settlement.error.type}"

    def _describe_failure(self, run: Run, settlement: Failed | Retried) -> None:
        again = f"runs again in {run.retry_delay} ms"
        if isinstance(settlement, Failed) and _is_expected(run):
            self._level = logging.INFO
            self._outcome = f"failed with the expected {type(run.exception).__name__}"
        elif isinstance(run.exception, RetryError) and isinstance(settlement, Retried):
            self._level, self._outcome = logging.INFO, again
        else:
            self._exc_info = _exc_info(run)
            if isinstance(settlement, Retried):
                self._outcome = f"failed, {again}"

    def log(self, outcome: Status) -> None:
        """Log it. :param outcome: the status that was stored."""
        level, text = self._level, self._outcome
        if outcome is Status.CANCELLED and self._runs_again:
            level, text = logging.INFO, "cancelled, as was asked while it ran"
        if logger.isEnabledFor(level):
            # Not by logger.log(), which searches the stack for its caller: it is always here.
            # Arguments and results may be secrets: no line has any.
            delivery = self._delivery
            args = (delivery.id, text, self._actor_name, delivery.attempt, self._duration)
            record = logger.makeRecord(
                logger.name,
                level,
                __file__,
                0,
                _LINE,
                args,
                self._exc_info,
                "log",
                log_fields(delivery),
            )
            logger.handle(record)
        # The frames of a traceback keep all values of the job alive.
        self._exc_info = None


def _is_expected(run: Run) -> bool:
    # An exception in ``throws`` is an expected result, and no error in the log.
    throws = _options(run).get("throws") or ()
    return run.code == "exception" and isinstance(run.exception, throws)


#: For each settlement, the level of the line and a word for the outcome.
OUTCOMES: Final[dict[type[Settlement], tuple[int, str]]] = {
    Succeeded: (logging.INFO, "succeeded"),
    Retried: (logging.WARNING, "failed"),
    Failed: (logging.ERROR, "failed"),
    Cancelled: (logging.INFO, "cancelled"),
    Expired: (logging.INFO, "expired"),
    Released: (logging.INFO, "released"),
    Snoozed: (logging.INFO, "snoozed"),
}


def log_fields(delivery: Delivery) -> dict[str, Any]:
    """The fields of a line about a job.

    Such lines are logged outside of the job, where there is no current job.
    """
    return {"job_id": delivery.id, "actor": delivery.actor, "attempt": delivery.attempt}


def _options(run: Run) -> Mapping[str, Any]:
    return {} if run.actor is None else run.actor.options


# Errors as text


def _describe(run: Run) -> JobError:
    exception, code = run.exception, run.code
    if run.discarded and is_cancelled(run):
        code = "cancelled"
    elif isinstance(exception, TimeLimitExceeded):
        code = "time_limit"
    elif run.discarded:
        code = "discarded"
    return JobError(
        type=cut(type(exception).__name__),
        message=cut(_text(run)),
        code=code,
        traceback=cut(run.stack or _format_traceback(exception)),
        is_public=_is_public(run),
    )


def _is_public(run: Run) -> bool:
    """Whether clients may see the text of a run's exception."""
    if run.code != "exception":
        return False  # it is of this package, about the actor's code
    if getattr(type(run.exception), "public_message", False) is True:
        return True
    public = _options(run).get("public_errors", False)
    return public is True or (bool(public) and isinstance(run.exception, public))


def _text(run: Run) -> str:
    text = text_of(run.exception)
    if isinstance(run.exception, Interrupt) and not text:
        # An exception that was raised from outside has no traceback of its own.
        if isinstance(run.exception, TimeLimitExceeded):
            return f"it had not ended after its time limit of {run.time_limit} ms"
        return "from outside, while it ran"
    return text


def text_of(error: BaseException | None) -> str:
    """The text of an exception, also if its ``__str__()`` fails."""
    try:
        return str(error)
    except BaseException:
        return "(its text could not be read)"


def _exc_info(run: Run) -> tuple[Any, Any, Any]:
    error = run.exception
    return type(error), error, None if error is None else actors_frames(error)


def _format_traceback(exception: BaseException | None) -> str:
    if exception is None:
        return ""
    frames = actors_frames(exception)
    try:
        lines = traceback.format_exception(type(exception), exception, frames, -_MAX_FRAMES)
    except Exception:
        # Python parses the line to mark the position, and in some releases that fails while
        # another thread parses something. The job must not fail for that.
        lines = [_format_plainly(frames), f"{type(exception).__name__}\n"]
    return "".join(lines)


def _format_plainly(frames: TracebackType | None) -> str:
    places = [
        f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}\n'
        for frame, line in traceback.walk_tb(frames)
    ]
    return "".join(places[-_MAX_FRAMES:])


def actors_frames(exception: BaseException) -> TracebackType | None:
    """The traceback of an exception, from the actor's own frames on."""
    # The outermost frames belong to this package.
    frames = exception.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__") in _OUTER:
        frames = frames.tb_next
    return frames


_OUTER: Final = frozenset(
    f"{__package__.rpartition('.')[0]}.{name}"
    for name in (
        "worker.runner",
        "worker.threads.event_loop",
        "worker.inline",
        "worker.inline_event_loop",
        "worker.interrupt",
    )
)


def format_stack(frame: FrameType | None, limit: int = _MAX_FRAMES) -> str:
    """The stack of a thread, as text without the values of variables."""
    return "".join(traceback.format_stack(frame, limit)) if frame is not None else ""


def cut(text: str) -> str:
    """A text, cut to the length that a record keeps."""
    return cut_text(text, _MAX_TEXT)
