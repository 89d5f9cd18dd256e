"""A child of the supervisor, once its app is built: a worker, and an ear for orders."""

from __future__ import annotations

import faulthandler
import logging
import os
import select
import signal
import threading
from typing import Final

from ..broker import Broker
from .link import ChildSpec
from .link import Died
from .link import Drain
from .link import Link
from .link import Quit
from .link import Ready
from .slots import SlotTable
from .worker import Worker

logger = logging.getLogger(__name__)

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

#: The supervisor blocks these until a child has said what they mean to it.
LEFT_TO_THE_SUPERVISOR: Final = (*_STOP_SIGNALS, signal.SIGUSR1)

#: How often the worker is looked after, in seconds.
_TICK: Final = 1.0

#: How long a process for isolated jobs waits for another one, in seconds.
_IDLE_TIME: Final = 5.0


def ignore_signals() -> None:
    """Leave SIGINT and SIGTERM to the supervisor, which gives its orders over the link.

    A terminal sends SIGINT to the whole process group: it must count once. A handler that
    does nothing is used because, unlike SIG_IGN, programs that a job starts do not inherit
    it. The supervisor starts its children with these signals blocked, so that none can hit
    before this was called.
    """
    for number in _STOP_SIGNALS:
        signal.signal(number, lambda *_: None)
    # A process that a job forks inherits it all the same, and must end when it is told to,
    # even if that is before it could change the handlers.
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS),
        after_in_child=_heed_signals,
    )
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_THE_SUPERVISOR)


def _heed_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)


def serve(broker: Broker, link: Link, spec: ChildSpec) -> None:
    """Run jobs until the supervisor says otherwise or is gone."""
    worker = Worker(
        broker,
        queues=spec.queues,
        worker_threads=spec.threads,
        worker_id=spec.worker_id,
        slots=SlotTable(spec.threads, spec.slots),
        isolated=spec.isolated,
    )
    grace = broker.settings.grace if spec.grace is None else spec.grace
    # From the first job on, the supervisor must know that there is something to wait for.
    worker.start(announce=lambda: link.send(Ready()))
    # In a thread of its own, as it may have to wait for the engine and orders must not.
    threading.Thread(target=_look_after, args=(worker,), daemon=True).start()
    order = _wait_for_order(worker, link, spec.isolated) or Drain(grace)
    threading.Thread(target=_keep_listening, args=(worker, link), daemon=True).start()
    if isinstance(order, Quit):
        worker.hurry()
        worker.stop(0)
    else:
        worker.stop(order.grace)


def _look_after(worker: Worker) -> None:
    tick = min(_TICK, worker.broker.settings.lease / 10_000)
    never = threading.Event()
    while not never.wait(tick):
        try:
            worker.tick()
        except Exception:
            logger.exception("worker %s cannot be looked after", worker.id)
        if worker.is_broken:
            # Its jobs would be stuck under a lease that is renewed for ever. The supervisor
            # starts another one, and hands them back.
            logger.critical("worker %s has lost a thread: ending the process", worker.id)
            os._exit(1)


def _wait_for_order(worker: Worker, link: Link, isolated: bool) -> Drain | Quit | None:
    """Wait until there is an order, nobody is left to give one, or nothing is to be done."""
    while link.is_open:
        order = _listen(worker, link, _IDLE_TIME if isolated else None)
        if order is not None:
            return order
        if isolated and worker.is_idle:
            return None
    worker.stop_fetching()
    logger.warning("the supervisor is gone: worker %s finishes its jobs and ends", worker.id)
    return None


def _keep_listening(worker: Worker, link: Link) -> None:
    while link.is_open:
        if isinstance(_listen(worker, link), Quit):
            worker.hurry()


def _listen(worker: Worker, link: Link, timeout: float | None = None) -> Drain | Quit | None:
    """The next order; None if there was none within so many seconds, or there will be none.

    Of two that come together the stricter one counts.
    """
    readable, _, _ = select.select([link], [], [], timeout)
    words = link.receive() if readable else []
    for word in words:
        if isinstance(word, Died):
            _tell_app(worker.broker, word)
    orders = [word for word in words if isinstance(word, (Drain, Quit))]
    return Quit() if Quit() in orders else next(iter(orders), None)


def _tell_app(broker: Broker, word: Died) -> None:
    # In a thread apart: what an app does with it must not hold up orders.
    told = {
        "worker_id": word.worker_id,
        "exit_code": word.exit_code,
        "job_ids": word.jobs,
    }
    arguments = ("process_death",)
    threading.Thread(
        target=broker.emit_after, args=arguments, kwargs=told, name="taskq-death", daemon=True
    ).start()
