"""The middleware that sends the signals of an app."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from blinker import NamedSignal
from flask import Flask

from .. import signals
from ..actors.actor import Actor
from ..actors.hooks import HookBroker
from ..actors.hooks import HookWorker
from ..actors.hooks import Middleware
from ..actors.run import is_decided
from ..actors.run import Run
from ..errors import LeaseLost
from ..errors import Shutdown
from ..errors import SkipMessage
from ..errors import Snooze
from ..jobs.encoding import decode_message
from ..jobs.message import Message
from ..jobs.record import JobRecord
from ..loggers import get_logger

logger = get_logger(__name__)

#: What sends a job back to its queue.
_GIVEN_BACK = (LeaseLost, Shutdown, Snooze)


#: The signals around a run.
_OF_RUNS = (
    signals.job_started,
    signals.job_succeeded,
    signals.job_failed,
    signals.job_retried,
    signals.job_cancelled,
    signals.job_expired,
)


class AppSignals(Middleware):
    """Sends the signals of :mod:`flask_taskq.signals` in the name of an app.

    Without receivers, as in most apps, its hooks around runs are not called: a run of
    a job takes only some microseconds.

    :param app: the app. It is not kept alive.
    """

    def __init__(self, app: Flask) -> None:
        self._app = weakref.ref(app)
        self._broker: weakref.ref[HookBroker] | None = None
        for signal in _OF_RUNS:
            signal.receiver_connected.connect(self._note_receiver)

    def _note_receiver(self, signal: NamedSignal, **_: Any) -> None:
        broker = None if self._broker is None else self._broker()
        if broker is not None:
            broker.forget_resolved()

    def applies_to(self, broker: HookBroker, actor: Actor[..., Any]) -> bool:
        self._broker = weakref.ref(broker)
        return any(signal.receivers for signal in _OF_RUNS)

    def after_enqueue(self, broker: HookBroker, message: Message, delay: int | None) -> None:
        if signals.job_enqueued.receivers:
            self._send(signals.job_enqueued, message=message, delay=delay)

    def after_cancel(self, broker: HookBroker, record: JobRecord) -> None:
        if signals.job_cancelled.receivers:
            message = decode_message(record.message)
            self._send(signals.job_cancelled, message=message)

    def before_process_message(self, broker: HookBroker, message: Run) -> None:
        if signals.job_started.receivers:
            self._send(signals.job_started, message=message)

    def after_process_message(
        self,
        broker: HookBroker,
        message: Run,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        # This is the first middleware, so its after hooks come when all others have decided.
        if exception is None:
            if signals.job_succeeded.receivers:
                self._send(signals.job_succeeded, message=message)
        elif isinstance(exception, _GIVEN_BACK) and is_decided(message, exception):
            pass  # it goes back, whatever the others decided: it is no outcome
        elif message.discarded:
            self._send(signals.job_cancelled, message=message)
        elif message.retry_delay is None:
            self._send(signals.job_failed, message=message, exception=exception)
        else:
            delay = message.retry_delay
            self._send(signals.job_retried, message=message, exception=exception, delay=delay)

    def after_skip_message(self, broker: HookBroker, message: Run) -> None:
        if message.expired:
            self._send(signals.job_expired, message=message)
        elif message.failed:
            error = SkipMessage("the job was skipped after a hook had failed it")
            self._send(signals.job_failed, message=message, exception=error)
        else:
            self._send(signals.job_succeeded, message=message)

    def after_worker_boot(self, broker: HookBroker, worker: HookWorker) -> None:
        self._send(signals.worker_started, worker_id=worker.id, queues=worker.queues)

    def after_process_death(
        self, broker: HookBroker, *, worker_id: str, exit_code: int, job_ids: Sequence[str]
    ) -> None:
        self._send(
            signals.child_died, worker_id=worker_id, exit_code=exit_code, job_ids=job_ids
        )

    def before_worker_shutdown(self, broker: HookBroker, worker: HookWorker) -> None:
        self._send(signals.worker_stopping, worker_id=worker.id, queues=worker.queues)

    def _send(self, signal: NamedSignal, **arguments: Any) -> None:
        app = self._app()
        if app is None or signal.is_muted:
            return
        # Not by send(), which ends at the first receiver that raises.
        for receiver in signal.receivers_for(app):
            try:
                app.ensure_sync(receiver)(app, **arguments)
            except Exception:
                logger.exception("receiver %r of %s failed", receiver, signal.name)
