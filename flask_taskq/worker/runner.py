"""One delivery in, one settlement out: what happens to a job in a worker."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Coroutine
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from typing import Final

from ..actor import Actor
from ..broker import Broker
from ..config import milliseconds
from ..encoding import decode_message
from ..encoding import encode_value
from ..engines.base import Cancelled
from ..engines.base import Delivery
from ..engines.base import Done
from ..engines.base import Expired
from ..engines.base import Failed
from ..engines.base import GivenBack
from ..engines.base import Retry
from ..engines.base import Settlement
from ..errors import ActorNotFound
from ..errors import BadArguments
from ..errors import BadResult
from ..errors import Cancel
from ..errors import DecodeError
from ..errors import Interrupt
from ..errors import PayloadTooLarge
from ..errors import Retry as RetryError
from ..errors import Shutdown
from ..errors import SkipMessage
from ..errors import Snooze
from ..errors import TaskQError
from ..hooks import MessageProxy
from ..interrupt import Gate
from ..message import Message
from ..record import JobError

logger = logging.getLogger("flask_taskq.jobs")

#: How long a job waits for a worker that knows its actor, in milliseconds; it doubles from
#: the first to the second.
_MIN_RELEASE: Final = 1_000
_MAX_RELEASE: Final = 60_000

#: How much of a traceback and of an error's text a record keeps.
_MAX_FRAMES: Final = 50
_MAX_TEXT: Final = 32_768


@dataclass(slots=True)
class Run:
    """One run of an actor, as far as it has come."""

    delivery: Delivery
    message: MessageProxy
    actor: Actor[..., Any]
    started_at: int
    began: float
    value: Any = None
    has_ended: bool = False
    result: bytes = b"null"
    exception: BaseException | None = None
    code: str = "exception"


class Runner:
    """Runs deliveries, one at a time, in the thread that calls it.

    :param broker: of the app whose actors run.
    :param catches: which exceptions of an actor become the job's; others are raised.
    """

    def __init__(
        self, broker: Broker, catches: tuple[type[BaseException], ...] = (BaseException,)
    ) -> None:
        #: Where exceptions from other threads may enter: the actor's own code.
        self.gate = Gate()
        self._catches = catches
        self._broker = broker
        self._settings = broker.settings
        self._clock = broker.clock

    def run(self, delivery: Delivery) -> Settlement:
        """Run one job. Whatever happens in it, this returns its settlement."""
        # In a copy, so that no context variable that a job sets is seen by the next one.
        return copy_context().run(self._run, delivery)

    def _run(self, delivery: Delivery) -> Settlement:
        try:
            message = self._decode(delivery)
            actor = self._broker.get_actor(message.actor_name)
        except DecodeError as error:
            return self._bury(delivery, error)
        except ActorNotFound:
            return self._put_off(delivery)
        run = Run(delivery, message, actor, self._clock.now(), self._clock.monotonic())
        try:
            with self._broker.contexts(message):
                self._call(run)
                self._tell(run)
                if run.exception is not None:
                    # The contexts see it on their way out: one that holds a database
                    # transaction must know whether to commit.
                    raise run.exception
        except self._catches as error:
            if error is not run.exception:
                # A context failed on its way in or out, and the run with it. After hooks
                # hear of it, a second time where the actor itself had ended well.
                run.exception = error
                run.message.discarded, run.message.follow_ups = False, ()
                self._tell(run)
        return self._settle(run)

    def _decode(self, delivery: Delivery) -> MessageProxy:
        message = decode_message(delivery.message, self._settings.max_message_size)
        if message.message_id != delivery.id:
            raise DecodeError(f"the message of another job, {message.message_id}")
        return _proxy(message, delivery)

    def _call(self, run: Run) -> None:
        """Before hooks, the actor, and its value as JSON."""
        try:
            self._broker.emit_before("process_message", run.message)
            args, kwargs = self._arguments(run)
            with self.gate:
                value = run.actor.fn(*args, **kwargs)
                if run.actor.is_async:
                    value = _run_coroutine(value)
                run.value, run.has_ended = value, True
        except self._catches as error:
            # An interrupt that arrives when the actor has returned comes too late.
            if not (run.has_ended and isinstance(error, Interrupt)):
                run.exception = error
            if isinstance(error, TypeError):
                self._check_arguments(run)
        if run.exception is None:
            self._keep(run)

    def _arguments(self, run: Run) -> tuple[Sequence[Any], Mapping[str, Any]]:
        args, kwargs = run.message.args, run.message.kwargs
        convert = run.actor.convert_arguments
        if convert is None:
            return args, kwargs
        try:
            return convert(args, kwargs)
        except BadArguments:
            # They will not fit the next time either.
            run.message.fail()
            run.code = "bad_arguments"
            raise

    def _check_arguments(self, run: Run) -> None:
        # Binding arguments costs microseconds, so it is not done before each call, but
        # only to tell a call that could not begin from an error of the actor's own.
        try:
            run.actor.check_arguments(run.message.args, run.message.kwargs)
        except BadArguments as error:
            run.message.fail()
            run.exception, run.code = error, "bad_arguments"

    def _keep(self, run: Run) -> None:
        try:
            if run.value is not None:
                run.result = self._encode(run.actor, run.value)
        except (BadResult, PayloadTooLarge) as error:
            # Running the actor again would not make it smaller.
            run.message.fail()
            run.exception, run.code = error, "bad_result"

    def _encode(self, actor: Actor[..., Any], value: Any) -> bytes:
        try:
            result = encode_value(value)
        except (TypeError, ValueError) as error:
            raise BadResult(
                f"actor {actor.actor_name!r} returned a {type(value).__name__} that cannot"
                f" be stored: {error}"
            ) from None
        if len(result) > self._settings.max_result_size:
            raise PayloadTooLarge(
                f"actor {actor.actor_name!r} returned {len(result):,} bytes, the limit"
                f" TASKQ_MAX_RESULT_SIZE is {self._settings.max_result_size:,}; store large"
                " data elsewhere and return where it is"
            )
        return result

    def _tell(self, run: Run) -> None:
        """After hooks: they decide whether a failed job runs again."""
        error = run.exception
        if isinstance(error, SkipMessage):
            self._broker.emit_after("skip_message", run.message)
            return
        if isinstance(error, Cancel):
            run.message.discard()
        self._broker.emit_after(
            "process_message", run.message, result=run.value, exception=error
        )

    def _settle(self, run: Run) -> Settlement:
        settlement = self._classify(run)
        self._log(run, settlement)
        # The traceback refers to frames that refer to the run.
        run.exception = None
        return settlement

    def _classify(self, run: Run) -> Settlement:
        delivery, started_at, message = run.delivery, run.started_at, run.message
        after = message.follow_ups
        if run.exception is None:
            return Done(
                delivery=delivery, started_at=started_at, follow_ups=after, result=run.result
            )
        if isinstance(run.exception, Shutdown):
            return GivenBack(delivery=delivery, started_at=started_at)
        if isinstance(run.exception, Snooze):
            at = self._clock.now() + milliseconds(run.exception.delay)
            return GivenBack(delivery=delivery, started_at=started_at, at=at, reason="snoozed")
        if isinstance(run.exception, SkipMessage):
            if message.expired:
                text = _cut(_text(run.exception))
                error = JobError(type="Expired", message=text, code="expired")
                return Expired(delivery=delivery, error=error)
            if not message.failed:
                return Done(delivery=delivery, started_at=started_at, result=run.result)
        if message.discarded:
            code = "cancelled" if isinstance(run.exception, Cancel) else "discarded"
            error = _describe(run.exception, code)
            return Cancelled(
                delivery=delivery, started_at=started_at, follow_ups=after, error=error
            )
        error = _describe(run.exception, run.code)
        if message.retry_delay is None:
            return Failed(
                delivery=delivery, started_at=started_at, follow_ups=after, error=error
            )
        at = self._clock.now() + message.retry_delay
        return Retry(delivery=delivery, started_at=started_at, error=error, at=at)

    def _log(self, run: Run, settlement: Settlement) -> None:
        # Arguments and results may be secrets: no line here has any.
        level, outcome = _OUTCOMES[type(settlement)]
        if not logger.isEnabledFor(level):
            return
        shows_error = isinstance(settlement, (Failed, Retry))
        if isinstance(settlement, Retry):
            outcome = f"failed, runs again in {run.message.retry_delay} ms"
            if isinstance(run.exception, RetryError):
                level, shows_error = logging.INFO, False
                outcome = f"runs again in {run.message.retry_delay} ms"
        elif isinstance(settlement, GivenBack) and settlement.at is not None:
            outcome = f"put off: {settlement.reason}"
        elif isinstance(settlement, Cancelled):
            outcome = f"{settlement.error.code} by {settlement.error.type}"
        logger.log(
            level,
            "job %s %s: actor=%s attempt=%d duration=%.1fms",
            run.delivery.id,
            outcome,
            run.actor.actor_name,
            run.delivery.attempt,
            self._clock.monotonic() - run.began,
            exc_info=_exc_info(run) if shows_error else None,
            extra=_fields(run.delivery),
        )

    def _bury(self, delivery: Delivery, error: DecodeError) -> Settlement:
        logger.error(
            "job %s failed: its stored message is damaged: %s",
            delivery.id,
            error,
            extra=_fields(delivery),
        )
        return Failed(
            delivery=delivery,
            error=JobError(type="DecodeError", message=_cut(str(error)), code="malformed"),
        )

    def _put_off(self, delivery: Delivery) -> Settlement:
        # A deploy may have brought the job before the worker that knows its actor, so it
        # waits for one, and is kept as failed if none comes.
        now, limit = self._clock.now(), self._settings.unknown_actor_ttl
        text = f"no actor is named {delivery.actor!r} in this worker"
        if delivery.released_since is not None and now - delivery.released_since >= limit:
            logger.error(
                "job %s failed: %s, nor has been for %d ms",
                delivery.id,
                text,
                limit,
                extra=_fields(delivery),
            )
            error = JobError(type="ActorNotFound", message=text, code="unknown_actor")
            return Failed(delivery=delivery, error=error)
        delay = min(_MIN_RELEASE * 2 ** min(delivery.releases, 10), _MAX_RELEASE)
        logger.warning(
            "job %s put off for %d ms: %s", delivery.id, delay, text, extra=_fields(delivery)
        )
        return GivenBack(delivery=delivery, at=now + delay, reason="unknown_actor")


def emit_outcomes(broker: Broker, when: str, settlements: Sequence[Settlement]) -> None:
    """Run the ``ack`` and ``nack`` hooks of outcomes, and ``after_enqueue`` of follow-ups.

    :param when: ``before`` or ``after`` they were stored.
    """
    if when == "after" and broker.has_hook("after_enqueue"):
        for settlement in settlements:
            for envelope in settlement.follow_ups:
                message = decode_message(envelope.message, len(envelope.message))
                broker.emit_after("enqueue", message, None)
    emit = broker.emit_before if when == "before" else broker.emit_after
    is_wanted = {name: broker.has_hook(f"{when}_{name}") for name in ("ack", "nack")}
    if not any(is_wanted.values()):
        return
    for settlement in settlements:
        signal = "nack" if isinstance(settlement, Failed) else "ack"
        if is_wanted[signal] and not isinstance(settlement, GivenBack):
            try:
                emit(signal, _message_of(settlement, broker.settings.max_message_size))
            except TaskQError as error:
                # Nothing may keep an outcome from being stored.
                logger.error("job %s: %s", settlement.delivery.id, error)


def _message_of(settlement: Settlement, max_size: int) -> MessageProxy:
    delivery = settlement.delivery
    message = decode_message(delivery.message, max_size)
    proxy = _proxy(message, delivery)
    proxy.failed = isinstance(settlement, Failed)
    return proxy


def _proxy(message: Message, delivery: Delivery) -> MessageProxy:
    attempt, crashes, created_at = delivery.attempt, delivery.crashes, delivery.created_at
    return MessageProxy(message, attempt=attempt, crashes=crashes, created_at=created_at)


_OUTCOMES: Final[dict[type[Settlement], tuple[int, str]]] = {
    Done: (logging.INFO, "succeeded"),
    Retry: (logging.WARNING, "failed"),
    Failed: (logging.ERROR, "failed"),
    Cancelled: (logging.INFO, "cancelled"),
    Expired: (logging.INFO, "expired"),
    GivenBack: (logging.INFO, "given back"),
}


def _fields(delivery: Delivery) -> dict[str, Any]:
    # These lines are logged around the job and not in it: there is no current job.
    return {"job_id": delivery.id, "actor": delivery.actor, "attempt": delivery.attempt}


def _run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # An async view, or an async test, that runs jobs itself: its thread has a loop already,
    # and no thread can run two.
    with ThreadPoolExecutor(1, "taskq-loop") as thread:
        return thread.submit(copy_context().run, asyncio.run, coroutine).result()


def _describe(exception: BaseException, code: str) -> JobError:
    return JobError(
        type=type(exception).__name__,
        message=_cut(_text(exception)),
        code=code,
        traceback=_cut(_format_traceback(exception)),
    )


def _text(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception:
        return "(its text could not be read)"


def _exc_info(run: Run) -> tuple[Any, Any, Any]:
    error = run.exception
    return type(error), error, None if error is None else _actors_frames(error)


def _format_traceback(exception: BaseException) -> str:
    frames = _actors_frames(exception)
    lines = traceback.format_exception(type(exception), exception, frames, -_MAX_FRAMES)
    return "".join(lines)


def _actors_frames(exception: BaseException) -> TracebackType | None:
    # The outermost frames are this module's.
    frames = exception.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return frames


def _cut(text: str) -> str:
    # Half a surrogate pair, as in a file's name that is not UTF-8, cannot be stored: the
    # settlement would be refused for ever.
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
